"""The gallery in a real browser, from file://, with hostile captions."""

import html
import re
import shutil
import subprocess
from pathlib import PurePosixPath

import pytest
from PIL import Image

from mmel_cli.render import ReportRecord, ReportSummary, write_report
from mmel_cli.types import Failure

HOSTILE = [
    "a dog [/b] <script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "{{ 7 * 7 }} {% for x in y %}",
    "'; javascript:alert(1) //",
    "\u202eright to left",
]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def gallery(folder, count, failures=()):
    (folder / "thumbnails").mkdir(exist_ok=True)
    Image.new("RGB", (60, 70), "teal").save(folder / "thumbnails/a b#.jpg")
    records = (
        ReportRecord(
            f"{i:04}.jpg#0",
            HOSTILE[i % len(HOSTILE)],
            0.1,
            i == 0,
            PurePosixPath("thumbnails/a b#.jpg"),
            PurePosixPath("thumbnails/a b#.jpg"),
        )
        for i in range(count)
    )
    return write_report(folder, records, ReportSummary("m<b>", "mmel", count, len(failures), "today"), failures)


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (1, 1), (200, 1), (201, 2), (450, 3)])
def test_two_hundred_a_page_and_every_link_exists(tmp_path, count, pages):
    written = gallery(tmp_path, count)
    assert len(written) == pages == len(list(tmp_path.glob("*.html")))
    text = "".join(page.read_text() for page in written)
    assert text.count("<figure>") == count
    for link in re.findall(r'(?:href|src)="([^"#]+)"', text):
        assert (tmp_path / html.unescape(link).replace("%20", " ").replace("%23", "#")).is_file(), link


def test_pages_of_a_longer_run_are_removed(tmp_path):
    gallery(tmp_path, 450)
    gallery(tmp_path, 10)
    assert [p.name for p in tmp_path.glob("*.html")] == ["index.html"]


def test_failures_are_listed_and_escaped(tmp_path):
    failures = [Failure(f"<b>{i}", "image", "bad & worse") for i in range(250)]
    text = gallery(tmp_path, 1, failures)[0].read_text()
    assert text.count("bad &amp; worse") == 200
    assert "&lt;b&gt;199" in text
    assert "And 50 more" in text


def browse(page, *flags, tmp):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_shows_the_captions_and_runs_nothing(tmp_path):
    page = gallery(tmp_path, 12)[0]
    dom = browse(page, "--dump-dom", tmp=tmp_path / "profile")
    assert dom.count("<figure>") == 12
    assert "<title>mmel: mmel on m&lt;b&gt;</title>" in dom  # no script changed it
    assert "&lt;script&gt;document.title" in dom
    assert "<script" not in dom
    browse(page, f"--screenshot={tmp_path / 'shot.png'}", "--window-size=1200,900", tmp=tmp_path / "profile2")
    with Image.open(tmp_path / "shot.png") as shot:
        colours = shot.convert("RGB").getcolors(1 << 24)
    assert (
        sum(count for count, colour in colours if colour == (0, 128, 128) or colour[1] - colour[0] > 100) > 10_000
    )  # the pictures loaded

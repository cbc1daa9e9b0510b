"""A report of ten thousand records in a real browser: what a reader does, against the archive."""

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from pages import BOX, SIZE, report, write_run

from mmel_cli.archive import load_archive

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

RECORDS = 10_000


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("large") / "run", images=RECORDS // 5)
    report(folder)
    return folder


def test_sorted_searched_opened_and_pointed_at(run):
    with Browser() as browser, load_archive(run) as archive:
        page = browser.page(1280, 900)
        page.open(f"file://{run}/index.html", "document.querySelectorAll('.card').length > 0")
        assert page.run("mmel.store.count") == RECORDS == len(archive)
        assert page.run("document.querySelectorAll('.card').length") < 200  # those near the screen alone
        page.run("void mmel.gallery.want({key: 'score', down: true})")
        best = int(np.argsort(-archive.column("score"), kind="stable")[0])
        page.wait(f"mmel.gallery.rows[0] === {best}")
        captions = archive.column("caption")
        wanted = sum("boat" in caption for caption in captions)
        page.run("void mmel.gallery.want({text: 'boat'})")
        page.wait(f"mmel.gallery.rows.length === {wanted}")
        far = archive.at(8_765)
        page.run("location.hash = '#r=' + encodeURIComponent(" + repr(far.id) + ")")
        page.wait("document.querySelector('.words table') && document.querySelector('.layers canvas')")
        x = (BOX[0] + 2.5 / 7 * (BOX[2] - BOX[0])) / SIZE[1]
        y = (BOX[1] + 2.5 / 5 * (BOX[3] - BOX[1])) / SIZE[0]
        page.hover(".viewer .stage", (x, y))
        page.wait("document.querySelector('.reading').innerText.startsWith('Row 2, column 2:')")
        shown = page.run("[...mmel.recordPage.viewers[0].shown().values]")
        assert np.array_equal(np.array(shown, np.float32).reshape(far.map.shape), far.map)
        page.drag(".viewer .stage", (0.3, 0.3), (0.62, 0.7))
        page.wait("/inside the box/.test(document.querySelector('.words').innerText)")
        assert not page.errors
        assert not page.dialogs
        assert all(address.startswith(("file:", "data:", "about:")) for address in page.requests)

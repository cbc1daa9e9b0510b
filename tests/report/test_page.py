"""The page of a report in a real browser, as a reader uses it; numbers are compared with the archive's."""

import base64
import re
import shutil

import numpy as np
import pytest
from browser import CHROMIUM, Browser, PageError
from pages import BOX, SIZE, report, write_run
from PIL import Image

from mmel_cli.archive import load_archive
from mmel_cli.render import colours

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

SCREEN = (1280, 900)
CARDS = "document.querySelectorAll('.card').length > 0"
RECORD = "document.querySelectorAll('.words table').length === 2 && document.querySelector('.layers canvas')"
STAGE = ".viewer .stage"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("page") / "run")
    report(folder)
    return folder


@pytest.fixture(scope="module")
def archive(run):
    with load_archive(run) as opened:
        yield {record.id: record for record in opened}


@pytest.fixture
def gallery(page, run):
    page.open(f"file://{run}/index.html", CARDS)
    return page


@pytest.fixture
def record(page, run):
    """Of im01.png#2, "the old boat by a pier 7"."""
    page.open(f"file://{run}/index.html#r=im01.png%232", RECORD)
    return page


def number(text):
    return float(re.search(r"[\u2212-]?\d[\d.]*(e[\u2212-]?\d+)?", text)[0].replace("\u2212", "-"))


def shown_ids(page):
    return page.run("[...mmel.gallery.flat].map((i) => mmel.store.id(i))")


def chosen(page):
    """Caption of the first card's chosen line."""
    return page.wait("document.querySelector('.card .captions li .pick')?.innerText")


def test_groups_captions_by_image_and_draws_only_what_is_near(gallery, archive):
    assert gallery.text(".count") == "45 records, 9 images"
    assert gallery.run("document.querySelectorAll('.card').length") == 9
    assert gallery.run("document.querySelector('.card').querySelectorAll('li').length") == 5
    gallery.wait("document.querySelector('.card canvas').getAttribute('aria-label')")
    gallery.click(".card li:nth-child(3) button")
    assert gallery.run("document.querySelector('.card .panels').hash") == "#r=im00.png%232"
    strongest = np.unravel_index(archive["im00.png#2"].map.argmax(), (5, 7))
    gallery.wait(
        "document.querySelector('.card canvas').getAttribute('aria-label')"
        f".startsWith('Heatmap: strongest at row {strongest[0]}, column {strongest[1]} ')"
    )
    gallery.click(".card .panels")
    gallery.wait("!document.getElementById('record').hidden")
    assert gallery.text("#record h2") == archive["im00.png#2"].caption


@pytest.mark.parametrize("key", ["score", "rank", "evidence", "against_evidence", "id"])
def test_sorts_by_what_the_archive_holds_in_both_directions(gallery, archive, key):
    values = {
        "score": lambda r: r.score,
        "rank": lambda r: int(r.fields["match/rank"]),
        "evidence": lambda r: r.map.clip(min=0).sum(dtype=np.float64),
        "against_evidence": lambda r: -r.map.clip(max=0).sum(dtype=np.float64),
        "id": lambda r: r.id,
    }[key]
    gallery.choose(".tools select", key)
    for _ in range(2):
        down = gallery.wait("mmel.gallery.groups && document.querySelector('.way').textContent") == "\u2193"
        gallery.wait(f"mmel.gallery.address.includes('sort={key}')")
        best = (max if down else min)(archive.values(), key=values)
        assert values(archive[gallery.run("mmel.store.id(mmel.gallery.rows[0])")]) == values(best)
        ordered = [values(archive[name]) for name in gallery.run("[...mmel.gallery.rows].map((i) => mmel.store.id(i))")]
        assert ordered == sorted(ordered, reverse=down)
        assert chosen(gallery) == archive[shown_ids(gallery)[0]].caption
        before = gallery.run("mmel.gallery.rows")
        gallery.click(".way")
        gallery.wait(f"mmel.gallery.rows[0] !== {before['0']}")


@pytest.mark.parametrize(
    ("text", "finds"),
    [
        ("dog", lambda c: re.search(r"\bdog", c)),
        ("RED boat", lambda c: "boat" in c and "red" in c),
        ('"red and"', lambda c: "red and" in c),
        ("im04.png", None),
        ("zebra", lambda _: False),
    ],
)
def test_search_finds_words_their_beginnings_and_quoted_phrases(gallery, archive, text, finds):
    gallery.type("input[type=search]", text)
    wanted = [r.id for r in archive.values() if (finds(r.caption) if finds else r.image == "im04.png")]
    gallery.wait(f"mmel.gallery.rows.length === {len(wanted)}")
    assert sorted(gallery.run("[...mmel.gallery.rows].map((i) => mmel.store.id(i))")) == sorted(wanted)
    if wanted:
        gallery.wait(f"document.querySelectorAll('.captions li').length === {len(wanted)}")
        assert gallery.text(".count").startswith(f"{len(wanted)} of 45 records")
    else:
        assert "No record fits" in gallery.text(".sheets")
    again = gallery.run("location.hash")
    gallery.open(gallery.run("location.href").split("#")[0] + "#", CARDS)
    gallery.run(f"location.hash = {again!r}")
    gallery.wait(f"mmel.gallery.rows.length === {len(wanted)}")


def test_filters_by_mark(gallery, archive):
    badge = gallery.run("mmel.store.head.marks[mmel.store.head.mark_names[0]].badge")
    marked = gallery.run(
        "[...Array(mmel.store.count).keys()].filter((i) => mmel.store.ofRun('marks', i, 0))"
        ".map((i) => mmel.store.id(i))"
    )
    assert 0 < len(marked) < 45, badge
    gallery.run("document.querySelectorAll('.marklist input').forEach((n) => n.value && n.click())")
    gallery.wait(f"mmel.gallery.rows.length === {len(marked)}")
    assert sorted(shown_ids(gallery)) == sorted(marked)


def test_the_value_under_the_pointer_is_the_archives(record, archive):
    values = archive["im01.png#2"].map
    height, width = SIZE
    for row, column in ((1, 0), (2, 3), (3, 6), (4, 5)):
        x = BOX[0] + (column + 0.5) / 7 * (BOX[2] - BOX[0])
        y = min(BOX[1] + (row + 0.5) / 5 * (BOX[3] - BOX[1]), height - 1)
        record.hover(STAGE, (x / width, y / height))
        record.wait(f"document.querySelector('.reading').innerText.startsWith('Row {row}, column {column}:')")
        assert number(record.text(".reading .value")) == float(f"{values[row, column]:.6g}")
    record.hover(STAGE, (0.02, 0.5))
    record.wait("document.querySelector('.reading').innerText.startsWith('Outside the grid')")
    all_of_it = record.run("[...mmel.recordPage.viewers[0].shown().values]")
    assert np.array_equal(np.array(all_of_it, np.float32).reshape(5, 7), values)
    record.run("document.querySelector('.stage').focus()")
    record.key("ArrowDown", shift=True)
    record.wait("/^Row \\d, column \\d/.test(document.querySelector('.reading').innerText)")


def canvas(page):
    width, height, data = page.run(
        "(() => { const c = document.querySelector('.viewer canvas.overlay'); const o = new OffscreenCanvas(c.width,"
        " c.height).getContext('2d', {willReadFrequently: true}); o.drawImage(c, 0, 0);"
        " const d = o.getImageData(0, 0, c.width, c.height).data; let s = '';"
        " for (const b of d) s += String.fromCharCode(b); return [c.width, c.height, btoa(s)]; })()"
    )
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4).astype(int)


def expected_heat(values, pixels, scale):
    """As mmel_cli.render places it: Pillow's bicubic in the box, in pixels of the canvas."""
    height, width = pixels.shape[:2]
    scales = (width / SIZE[1], height / SIZE[0]) * 2
    x0, y0, x1, y1 = (int(np.floor(edge * by + 0.5)) for edge, by in zip(BOX, scales, strict=True))
    sheet = Image.fromarray(scale(values).astype(np.float32)).resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC)
    return np.asarray(sheet)[-y0 : height - y0, 2:-2], (slice(0, height), slice(x0 + 2, x1 - 2))  # without the frame


@pytest.mark.parametrize("view", ["positive", "signed"])
@pytest.mark.parametrize("scale", ["record", "run"])
def test_pixels_are_coloured_by_the_rules_of_the_pictures(record, archive, view, scale):
    record.run(f"mmel.display.set({{view: '{view}', scale: '{scale}', opacity: 0.75}})")
    record.wait("document.querySelector('.viewer .bar')")
    values = archive["im01.png#2"].map
    every = np.stack([r.map for r in archive.values()])
    signed = view == "signed"
    if scale == "run":
        top = float(np.abs(every).max()) if signed else record.run("mmel.store.head.runs[0].scale.top")
    else:
        both = (colours.strongest(values, 99.5), colours.strongest(-values, 99.5))
        top = max(both) if signed else both[0]
    pixels = canvas(record)
    heat, part = expected_heat(values, pixels, lambda v: (v / top).clip(-1 if signed else 0, 1))
    heat = heat.clip(-1 if signed else 0, 1)
    drawn = (pixels[part][..., 3] / (255 * 0.75)) ** 2  # opacity is the square root of the heat
    assert np.abs(drawn - np.abs(heat)).max() < 0.008
    strong = np.abs(heat) > 0.3  # colours of what is faint are rounded by the canvas
    table = np.array(record.run("mmel.store.head.colormap.colours"))
    ends = record.run("mmel.store.head.diverging")
    wanted = (
        np.where(heat[..., None] > 0, ends["above"], ends["below"]) if signed else table[(heat * 255 + 0.5).astype(int)]
    )
    assert np.abs(pixels[part][..., :3] - wanted)[strong].max() <= 6
    assert (pixels[:, : part[1].start - 4, 3] == 140).all()  # outside is darkened to 0.45
    ticks = [number(text) for text in record.texts(".ticks span")]
    assert ticks[-1] == pytest.approx(top, rel=5e-3)
    assert ticks[0] == (pytest.approx(-top, rel=5e-3) if signed else 0)
    said = record.text(".legend")
    assert ("One scale for the whole run" if scale == "run" else "This record's own scale") in said
    assert ("for and against\u201d shows them" in said) is not signed


def test_overlay_and_opacity(record):
    assert record.run("document.querySelector('.looks input[type=range]').value") == "80"
    inside = slice(120, 240)
    strongest = canvas(record)[:, inside, 3].max()
    record.run(
        "(() => { const n = document.querySelector('.looks input[type=range]'); n.value = 40;"
        " n.dispatchEvent(new Event('input')); })()"
    )
    assert canvas(record)[:, inside, 3].max() == pytest.approx(strongest / 2, abs=2)
    record.key("o")
    assert record.run("document.querySelector('.viewer canvas.overlay').hidden")
    record.click(".looks .settings label:first-of-type")
    assert not record.run("document.querySelector('.viewer canvas.overlay').hidden")


def test_layers_are_small_multiples_with_weights_and_values(record, archive):
    assert record.texts(".layer span:nth-of-type(2)") == ["layer 2", "layer 3", "layer 4"]
    assert [number(text) for text in record.texts(".layer .weight")] == [0.5, 1.5, 0.25]
    record.hover(".layer:nth-of-type(2)")
    record.wait("mmel.recordPage.viewers[0].source.kind === 'layer'")
    values = record.run("[...mmel.recordPage.viewers[0].shown().values]")
    assert np.array_equal(np.array(values, np.float32).reshape(5, 7), archive["im01.png#2"].fields["layers/flow"][1])
    assert "layers/flow of layer 3" in record.text(".legend")
    record.move(3, 3)
    record.wait("mmel.recordPage.viewers[0].source.kind === 'map'")
    record.choose(".layers select", "layers/loosened")
    record.click(".layer:nth-of-type(3)")
    record.move(3, 3)
    values = record.run("[...mmel.recordPage.viewers[0].shown().values]")
    assert np.array_equal(
        np.array(values, np.float32).reshape(5, 7), archive["im01.png#2"].fields["layers/loosened"][2]
    )
    assert record.run("document.querySelectorAll('.layer')[2].getAttribute('aria-pressed')") == "true"


def test_a_word_shows_its_map_and_a_press_keeps_it(record, archive):
    fields = archive["im01.png#2"].fields
    shown = "[...mmel.recordPage.viewers[0].shown().values]"
    record.hover(".words .caption button:nth-of-type(3)")
    record.wait("mmel.recordPage.viewers[0].source.kind === 'word'")
    assert np.array_equal(np.array(record.run(shown), np.float32).reshape(5, 7), fields["words/map"][2])
    assert "evidence for the word \u201cboat\u201d" in record.text(".legend")
    record.move(3, 3)
    record.wait("mmel.recordPage.viewers[0].source.kind === 'map'")
    record.click(".words table button[data-kind=phrase][data-index='1']")
    record.move(3, 3)
    assert np.array_equal(np.array(record.run(shown), np.float32).reshape(5, 7), fields["phrases/map"][1])
    shares = [number(text) for text in record.texts(".words table:last-of-type td:nth-child(2)")]
    assert shares[:2] == pytest.approx(fields["phrases/share"].round(3), abs=1e-3)
    lost = [number(text) for text in record.texts(".words > div:last-of-type td:nth-child(3)")]
    assert lost == pytest.approx(fields["words/value"].round(3), abs=6e-4)
    record.key("Escape")
    assert record.run("mmel.recordPage.viewers[0].source.kind") == "map"
    record.key("w")
    record.wait("mmel.recordPage.viewers[0].source.kind === 'word'")


def test_a_box_lights_the_words_up_by_what_they_have_inside(record, archive):
    fields = archive["im01.png#2"].fields
    record.drag(STAGE, (0.3, 0.3), (0.62, 0.7))
    record.wait("document.querySelector('.boxed').innerText")
    first = (int((0.3 * 90 + 5) / 20), int((0.3 * 120 - 10) / (100 / 7)))
    last = (int((0.7 * 90 + 5) / 20), int((0.62 * 120 - 10) / (100 / 7)))
    part = (slice(first[0], last[0] + 1), slice(first[1], last[1] + 1))
    assert f"rows {first[0]} to {last[0]}, columns {first[1]} to {last[1]}" in record.text(".boxed")
    assert number(record.text(".boxsum")) == pytest.approx(float(fields["map"][part].sum(dtype=np.float64)), rel=1e-5)
    sums = fields["words/map"][:, part[0], part[1]].sum((1, 2), dtype=np.float64)
    told = [number(text) for text in record.texts(".words > div:last-of-type td:last-child")]
    assert told == pytest.approx(sums, rel=6e-3, abs=1e-9)
    assert "the sum of the evidence of this word inside the box" in record.text(".words")
    tints = record.run("[...document.querySelectorAll('.words .caption .word')].map((n) => n.style.backgroundColor)")
    strength = [float([*re.findall(r"[\d.]+", tint), "1"][3]) for tint in tints]
    assert strength == pytest.approx(np.abs(sums) / np.abs(sums).max(), abs=0.01)
    assert [tint.startswith(("rgb(255, 170", "rgba(255, 170")) for tint in tints] == list(sums > 0)
    record.click(".boxed button")
    assert record.text(".boxed") == ""
    record.run("document.querySelector('.stage').focus()")
    record.key("ArrowUp", shift=True)
    row, column = (int(n) for n in re.findall(r"\d+", record.text(".reading"))[:2])
    for key, shift in (("Enter", False), ("ArrowLeft", True), ("ArrowLeft", True)):
        record.key(key, shift=shift)
    assert f"rows {row} to {row}, columns {column - 2} to {column}" in record.text(".boxed")


def test_phrases_have_colours_and_values_of_their_own(record, archive):
    record.run("mmel.display.set({view: 'phrases'})")
    assert record.run("document.querySelector('.photo').classList.contains('grey')")
    assert record.texts(".legend .chips li")[0].endswith("the old")
    pixels = canvas(record)[:, 60:-60]
    palette = np.array(record.run("mmel.store.head.palette"))[:2]
    full = pixels[pixels[..., 3] > 220][:, :3]
    assert len(full) > 50
    nearest = np.abs(full[:, None] - palette).sum(-1).min(1)
    assert np.median(nearest) < 90
    record.hover(STAGE, (0.5, 0.5))
    row, column = (int(n) for n in re.findall(r"\d+", record.text(".reading"))[:2])
    phrases = archive["im01.png#2"].fields["phrases/map"]
    told = [number(text) for text in record.texts(".reading .value")]
    assert told == [float(f"{value:.6g}") for value in phrases[:, row, column]]


def test_keys_lead_from_record_to_record(record):
    order = shown_ids(record)
    at = order.index("im01.png#2")
    for key, place in (("ArrowRight", at + 1), ("j", at + 2), ("k", at + 1), ("ArrowLeft", at)):
        record.key(key)
        record.wait(f"mmel.store.id(mmel.recordPage.i) === '{order[place]}'")
    record.wait(RECORD)
    record.key("s")
    assert record.run("mmel.display.now.view") == "signed"
    record.key("l")
    assert record.run("document.activeElement.className") == "layer"
    record.key("+")
    assert "scale(1.5)" in record.run("document.querySelector('.stage .plane').style.transform")
    record.key("0")
    assert "scale(1)" in record.run("document.querySelector('.stage .plane').style.transform")
    record.key("?")
    assert record.run("document.querySelector('dialog').open")
    record.key("Escape")
    record.wait("!document.querySelector('dialog').open")
    record.key("Escape")
    record.wait("!document.getElementById('gallery').hidden")
    record.key("/")
    record.wait("document.activeElement.type === 'search'")


def test_the_value_under_the_pointer_after_zoom_and_move(record, archive):
    record.run("mmel.recordPage.zoom(3, 0.5, 0.5)")
    record.run("document.querySelector('.pictures input[value=move]').click()")
    before = record.run("document.querySelector('.stage .plane').getBoundingClientRect().x")
    record.drag(STAGE, (0.5, 0.5), (0.6, 0.5))
    assert record.run("document.querySelector('.stage .plane').getBoundingClientRect().x") > before
    record.hover(STAGE, (0.5, 0.5))
    row, column = (int(n) for n in re.findall(r"\d+", record.text(".reading"))[:2])
    assert (row, column) == (2, int((0.4667 * 120 - 10) / (100 / 7)))
    value = archive["im01.png#2"].map[row, column]
    assert number(record.text(".reading .value")) == float(f"{value:.6g}")


def test_an_address_of_no_record_says_so(page, run):
    page.open(f"file://{run}/index.html#r=im99.png%230", "document.querySelector('.count').textContent")
    assert page.text("#gallery .problem") == "This report has no record im99.png#0."


def test_the_archive_is_named_and_its_line_of_python_runs(record, archive, run, monkeypatch):
    assert "row 7 of archive/part-00000.h5" in record.text(".source")
    links = record.run("[...document.querySelectorAll('.source a')].map((a) => a.href)")
    assert links == [f"file://{run}/run.yaml", f"file://{run}/archive/part-00000.h5"]
    monkeypatch.chdir(run)
    imported, read = record.text(".source code").split("; ")
    names: dict[str, object] = {}
    exec(imported, names)  # noqa: S102 - the page's own line
    assert np.array_equal(eval(read, names), archive["im01.png#2"].map)  # noqa: S307 - the same


def test_a_missing_file_is_named(page, run, tmp_path):
    broken = tmp_path / "broken"
    write_run(broken, images=2)
    report(broken)
    (broken / "report/data/maps-0-00000.js").unlink()
    page.open(f"file://{broken}/index.html#n=3", "document.querySelector('.problem:not([hidden])')")
    assert "report/data/maps-0-00000.js could not be read" in page.text(".problem:not([hidden])")
    assert [error for error in page.errors if "maps-0-00000.js" not in error] == []
    page.errors.clear()


def test_a_file_of_another_build_is_refused_by_name(page, run, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(run, mixed)
    report(mixed)
    shutil.copy(run / "report/data/maps-0-00000.js", mixed / "report/data")
    page.open(
        (mixed / "index.html").as_uri() + "#n=0", "mmel.recordPage && document.querySelector('.problem:not([hidden])')"
    )
    assert "report/data/maps-0-00000.js does not belong to this report; make it again" in page.text(
        ".problem:not([hidden])"
    )
    other = tmp_path / "other"
    shutil.copytree(mixed, other)
    shutil.copy(run / "report/data/records-00000.js", other / "report/data")
    page.open((other / "index.html").as_uri() + "#", "mmel.gallery && document.querySelector('.problem:not([hidden])')")
    assert "Does not belong to this report: report/data/records-00000.js" in page.text(".problem:not([hidden])")
    assert page.run("mmel.store.count") == 0


def test_one_file_holds_all(page, run, tmp_path, archive):
    whole = tmp_path / "elsewhere" / "one.html"
    whole.parent.mkdir()
    report(run, "--self-contained", whole)
    page.open(f"file://{whole}#r=im01.png%232", RECORD)
    assert all(
        not address.startswith("file:") or address.split("#")[0] == f"file://{whole}" for address in page.requests
    )
    values = page.run("[...mmel.recordPage.viewers[0].shown().values]")
    assert np.array_equal(np.array(values, np.float32).reshape(5, 7), archive["im01.png#2"].map)
    page.wait("document.querySelector('.photo').naturalWidth > 0")


def test_scripts_that_are_not_the_reports_do_not_run(gallery):
    gallery.run(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.owned = 1';"
        " document.body.append(s); const i = document.createElement('img'); i.src = 'https://example.invalid/x.png';"
        " document.body.append(i); })()"
    )
    gallery.wait("true")
    assert gallery.run("window.owned") is None
    assert any("Content Security Policy" in error for error in gallery.errors)
    assert all(
        not address.startswith("http") or address.endswith("example.invalid/x.png") for address in gallery.requests
    )
    gallery.errors.clear()
    gallery.requests.clear()


def test_the_document_has_no_style_of_its_own_and_no_handlers(run):
    markup = (run / "index.html").read_text()
    assert "default-src 'none'" in markup
    assert not re.search(r"\sstyle=|\son\w+=|<style|unsafe", markup)
    with pytest.raises(PageError), Browser() as chromium:  # the client itself: a wrong script is an error
        chromium.page().run("nothing.there")

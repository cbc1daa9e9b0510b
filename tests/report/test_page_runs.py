"""Several runs beside each other, their evaluation, texts that mean harm, and what a reader needs to find the way."""

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM
from pages import ALL, FLOW, info_of, report, write_evaluation, write_run

from mmel_cli.archive import load_archive
from mmel_cli.fields import MAP, WORD_VALUE

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

SCREEN = (1500, 950)
CARDS = "document.querySelectorAll('.card').length > 0"
RECORD = "document.querySelectorAll('.words table').length === 2 && document.querySelector('.layers canvas')"

HOSTILE = [
    "<script>document.title='owned'</script>",
    "</script><script>window.owned=1</script>",
    '<img src=x onerror="window.owned=1">',
    "<svg onload=window.owned=1>",
    "<!--<script>",
    "-->",
    "'\"><b>bold</b>",
    "javascript:window.owned=1",
    "data:text/html,<script>alert(1)</script>",
    "{{constructor.constructor('window.owned=1')()}}",
    "${window.owned=1}",
    "`;window.owned=1;`",
    '");window.owned=1;//',
    "\\u003cscript\\u003ewindow.owned=1\\u003c/script\\u003e",
    "line\u2028two\u2029three",
    "\u202egnp.tac a",
    "\u2066\u2067 isolates \u2069",
    "null",
    "__proto__",
    "constructor",
    "hasOwnProperty",
    "toString",
    "<iframe src=file:///etc/passwd></iframe>",
    "<base href=https://example.invalid/>",
    "<style>*{display:none}</style>",
    "<meta http-equiv=refresh content='0;url=https://example.invalid/'>",
    "\U0001f9ac a bison \U0001f9ac & a dog",
    "tab\tnew\nline \x07 bell",
    "&lt;b&gt; &amp; entities",
    "../../../etc/passwd?x=1#r=other&n=3%00",
]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Two runs of one input, on grids of different sizes, their report, and an evaluation."""
    folder = tmp_path_factory.mktemp("both")
    runs = {"first": write_run(folder / "first")}
    runs["second"] = write_run(folder / "second", info_of("flow", grid=(4, 6)), seed=1)
    with load_archive(folder / "first") as archive:
        records = [(r.id, r.image, r.caption) for r in archive]
    rng = np.random.default_rng(2)
    values = {label: rng.random(len(records)).round(6) for label in runs}
    out = folder / "compared"
    write_evaluation(folder / "first" / "eval", runs, values, records)
    report(*runs.values(), "--out", out)
    return out, values, records


@pytest.fixture
def compared(page, both):
    page.open(f"file://{both[0]}/index.html", CARDS)
    return page


def number(text):
    return float(re.search(r"[\u2212-]?\d[\d.]*(e[\u2212-]?\d+)?", text)[0].replace("\u2212", "-"))


def values_of(page, run):
    shown = page.run(f"[...mmel.recordPage.viewers[{run}].shown().values]")
    return np.array(shown, np.float32)


def test_runs_stand_side_by_side_and_the_most_different_first(compared, both):
    assert compared.run("document.querySelector('.tools select').value") == "difference"
    differences = compared.run("[...mmel.gallery.rows].map((i) => mmel.store.text('difference', i))")
    assert differences == sorted(differences, reverse=True)
    assert differences[0] > differences[-1]
    assert compared.texts(".card:first-child .runname") == ["first (mmel)", "second (flow)"]
    assert "correlation of another run's map with that of first" in compared.text(".legendline")
    compared.wait(
        "[...document.querySelectorAll('.card canvas')].slice(0, 2).every((n) => n.ariaLabel.startsWith('Heatmap of'))"
    )
    compared.run("document.querySelector('.tools .choice input[value=one]').click()")
    compared.wait("document.querySelectorAll('.card:first-child .panel').length === 1")
    compared.choose(".tools select", "metric:0")
    best = max(range(45), key=lambda k: both[1]["first"][k])
    compared.wait(f"mmel.store.id(mmel.gallery.rows[0]) === {json.dumps(both[2][best][0])}")
    assert f"energy-inside {both[1]['first'][best]:.3}" in compared.text(".card .numbers")


def test_a_record_under_each_run_with_values_of_both_archives(compared, both):
    folder = both[0].parent
    compared.run("location.hash = '#r=im02.png%233'")
    compared.wait(RECORD)
    compared.wait("mmel.recordPage.viewers.every((v) => v.record)")
    wanted = {}
    for run, label in enumerate(("first", "second")):
        with load_archive(folder / label) as archive:
            wanted[label] = archive["im02.png#3"]
        assert np.array_equal(values_of(compared, run), wanted[label].map.ravel())
    compared.hover(".viewer .stage", (0.5, 0.5))
    readings = compared.texts(".viewer .reading")
    for text, label in zip(readings, wanted, strict=True):
        row, column = (int(n) for n in re.findall(r"\d+", text)[:2])
        assert number(text.split(":")[1]) == float(f"{wanted[label].map[row, column]:.6g}")
        assert f"in the map of {'mmel' if label == 'first' else 'flow'}" in text
    assert compared.texts("#record .facts thead th") == ["first", "second"]
    inside = both[2].index(("im02.png#3", "im02.png", wanted["first"].caption))
    cells = compared.run(
        "[...document.querySelectorAll('.facts tr')].find((n) => n.innerText.startsWith('energy-inside')).innerText"
    )
    assert [float(text) for text in re.findall(r"0\.\d+", cells)] == pytest.approx(
        [both[1][label][inside] for label in both[1]], abs=6e-4
    )
    assert "Each run is on its own scale" in compared.text(".pictures")
    compared.choose(".wording select", "1")
    compared.wait("document.querySelectorAll('.words table').length === 2 && mmel.recordPage.details")
    compared.hover(".words .caption button")
    compared.wait("mmel.recordPage.viewers[1].source.kind === 'word'")
    assert np.array_equal(values_of(compared, 1), wanted["second"].fields["words/map"][0].ravel())
    assert np.array_equal(values_of(compared, 0), wanted["first"].map.ravel())
    compared.drag(".viewer .stage", (0.3, 0.3), (0.5, 0.5))
    compared.wait("document.querySelectorAll('.boxsum').length === 2")
    assert "first: Box of rows 1 to 2, columns 1 to 3" in compared.text(".boxed")


def test_the_tables_of_an_evaluation_name_ties(compared):
    compared.run("location.hash = '#charts'")
    compared.wait("document.querySelector('.charts .metrics')")
    assert compared.texts(".tabs a")[1] == "Evaluation"
    rows = dict(zip(compared.texts(".metrics tbody th"), compared.texts(".metrics tbody tr"), strict=True))
    tied = next(text for name, text in rows.items() if name.startswith("energy-inside"))
    apart = next(text for name, text in rows.items() if name.startswith("pixel-ap"))
    assert tied.count("tie") == 2
    assert "0.600 [0.500, 0.700]" in tied
    assert "+0.050 [\u22120.050, 0.150] from first, p = 0.400" in tied
    assert "tie" not in apart
    assert "p < 0.001" in apart
    assert (
        compared.run("[...document.querySelectorAll('.metrics td b')].length") == 1
    )  # where all are tied nothing is bold
    assert "second, pointing-game: no masks in the input" in compared.text(".charts")
    assert compared.run("document.querySelectorAll('.plots .plot canvas').length") == 3
    for title in compared.run(
        "[...document.querySelectorAll('figcaption')].map((n) => [n.scrollWidth, n.clientWidth])"
    ):
        assert title[0] <= title[1]  # not cut


def test_a_dot_of_the_scatter_plot_leads_to_its_record(compared, both):
    compared.run("location.hash = '#charts'")
    compared.wait("document.querySelector('.scatter canvas')")
    assert compared.run("[...document.querySelectorAll('.charts select')].map((n) => n.selectedOptions[0].text)") == [
        "energy-inside of first",
        "energy-inside of second",
    ]
    x, y = (both[1][label][17] for label in both[1])
    compared.run("document.querySelector('.scatter').scrollIntoView({block: 'center'})")
    left, top = compared.run(
        f"(() => {{ const p = mmel.charts.plot; const r = p.over.getBoundingClientRect();"
        f" return [r.left + p.valToPos({x}, 'x'), r.top + p.valToPos({y}, 'y')]; }})()"
    )
    compared.move(left, top)
    record_id, _, caption = both[2][17]
    compared.wait(f"document.querySelector('.charts .reading').innerText.startsWith({json.dumps(caption)})")
    compared.run("document.querySelector('.scatter').dataset.seen = 1")
    compared.click(
        ".scatter .u-over",
        at=compared.run(
            f"(() => {{ const p = mmel.charts.plot; return [p.valToPos({x}, 'x') / p.over.clientWidth,"
            f" p.valToPos({y}, 'y') / p.over.clientHeight]; }})()"
        ),
    )
    compared.wait(f"mmel.store.id(mmel.recordPage.i) === {json.dumps(record_id)}")
    compared.choose(".charts select", "score 0")


def test_nothing_runs_of_hostile_texts_and_each_is_shown_as_it_is(page, tmp_path):
    records = [(f"{text}#{k}", f"{text}/{k}.png", f"{text} {k}") for k, text in enumerate(HOSTILE)]
    plain = info_of(model="<b>model</b><script>window.owned=1</script>")
    run = write_run(tmp_path / "<b>run & 'quotes'", plain, records=records)
    (run / "failures.jsonl").write_text(
        "".join(json.dumps({"id": text, "stage": "decode", "error": text}) + "\n" for text in HOSTILE)
    )
    report(run)
    title = "document.title.startsWith('mmel: ')"
    page.open((run / "index.html").as_uri(), f"{CARDS} && {title}")
    assert page.run("document.querySelectorAll('.card').length") == len(HOSTILE)
    for k, (record_id, _, caption) in enumerate(records):
        page.run(f"location.hash = mmel.page.address({k})")
        page.wait(f"mmel.recordPage.i === {k} && {RECORD.split(' && ')[1]}")
        shown = page.run("document.querySelector('#record h2').textContent")
        clean = re.sub("[\x07\u202a-\u202e\u2066-\u2069]", "\ufffd", caption)
        assert shown.startswith(clean)
        assert page.run("document.querySelector('#record .id bdi').textContent") == re.sub(
            "[\x07\u202a-\u202e\u2066-\u2069]", "\ufffd", record_id
        )
        words = page.run("document.querySelector('.words .caption').textContent")
        assert words == clean
        assert page.run("mmel.store.picture('photo', mmel.recordPage.i)").startswith("photos/")
        page.wait("document.querySelector('.photo').naturalWidth > 0")
    page.run("location.hash = '#failed'")
    page.wait("!document.getElementById('failed').hidden")
    assert page.run("document.querySelectorAll('#failed tbody tr').length") == len(HOSTILE)
    page.run("location.hash = '#charts'")
    page.wait("document.querySelector('.scatter canvas')")
    assert page.run("window.owned") is None
    assert page.run(title)
    tags = page.run("[...new Set([...document.querySelectorAll('#app *')].map((n) => n.tagName))]")
    assert not set(tags) & {"SCRIPT", "IFRAME", "STYLE", "BASE", "META", "SVG", "OBJECT"}
    assert page.run("document.querySelectorAll('#app [onerror], #app [onload], #app [onclick]').length") == 0


@pytest.mark.parametrize("width", [360, 2560])
@pytest.mark.parametrize("dark", [False, True])
def test_no_part_is_wider_than_the_screen(browser, both, width, dark):
    page = browser.page(width, 800, dark=dark)
    page.open(f"file://{both[0]}/index.html", CARDS)
    for address in ("#", "#r=im02.png%233", "#charts", "#about"):
        page.run(f"location.hash = '{address}'")
        page.wait(RECORD if "r=" in address else "document.readyState === 'complete'")
        page.wait("document.documentElement.scrollWidth <= innerWidth", 5)
    background = page.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(n) for n in re.findall(r"\d+", background)[:3]) < 200) is dark
    assert page.errors == []
    page.close()


CONTROLS = {
    "button",
    "link",
    "textbox",
    "searchbox",
    "combobox",
    "slider",
    "radio",
    "checkbox",
    "image",
    "DisclosureTriangle",
}


@pytest.mark.parametrize("address", ["#", "#r=im02.png%233", "#charts", "#about"])
def test_everything_has_a_name_and_can_be_reached_by_keys(page, both, address):
    page.open(f"file://{both[0]}/index.html{address}", RECORD if "r=" in address else "document.querySelector('main')")
    page.wait("document.querySelector('main:not([hidden])').childElementCount > 1")
    nodes = page.accessible()
    roles = [node["role"]["value"] for node in nodes]
    nameless = [
        node["role"]["value"]
        for node in nodes
        if node["role"]["value"] in CONTROLS and not node.get("name", {}).get("value", "").strip()
    ]
    assert nameless == []
    assert roles.count("main") == 1
    assert "navigation" in roles
    assert page.run("[...document.images].every((n) => n.hasAttribute('alt'))")
    assert page.run("document.documentElement.lang") == "en"
    levels = page.run(
        "[...document.querySelectorAll('h1, h2, h3')].filter((n) => n.offsetParent).map((n) => Number(n.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    reached = []
    for _ in range(14):
        page.key("Tab")
        reached.append(
            page.run(
                "(() => { const n = document.activeElement; const s = getComputedStyle(n);"
                " return [n.tagName, n.textContent, s.outlineStyle]; })()"
            )
        )
    if address in ("#", "#r=im02.png%233"):  # the other addresses are those of parts, where the first Tab begins
        assert all(tag != "BODY" for tag, *_ in reached)
        assert [text for _, text, _ in reached[:4]] == ["To the content", "Records", "Evaluation", "Runs"]
    seen = [style for tag, _, style in reached if tag in ("A", "BUTTON")]
    assert seen
    assert all(style != "none" for style in seen)


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_ground(browser, both, dark):
    """WCAG's contrast of 4.5 for every text that is not on a picture."""
    page = browser.page(1280, 900, dark=dark)
    page.open(f"file://{both[0]}/index.html#r=im02.png%233", RECORD)
    weak = page.run(Path(__file__).with_name("contrast.js").read_text())
    assert weak == []
    page.close()


def test_a_run_without_words_layers_or_match_copes(page, tmp_path):
    bare = write_run(tmp_path / "bare", info_of("attention", (MAP,)), images=3)
    report(bare)
    page.open(
        f"file://{bare}/index.html#n=4",
        "document.querySelector('.viewer .ticks') && document.querySelector('.words p')",
    )
    assert "This run has no values of words" in page.text(".words")
    assert page.run("document.querySelectorAll('.words button, .layer').length") == 0
    assert "Match" not in page.text(".facts")
    page.key("Escape")
    page.wait("!document.getElementById('gallery').hidden")
    assert "match (rank of the caption)" not in page.texts(".tools select option")


def test_a_run_of_differences_says_what_is_explained(page, tmp_path):
    info = info_of("flow", (MAP, FLOW, WORD_VALUE), config={"method": {"name": "flow"}, "against": {"text": "other"}})
    run = write_run(tmp_path / "run", info, images=2)
    report(run)
    page.open(f"file://{run}/index.html", CARDS)
    assert "rather than not a red dog on grass 0" in page.text(".card .captions li")
    assert "the difference of their two cosines" in page.text(".legendline")
    page.run("location.hash = '#n=1'")
    page.wait("document.querySelector('.layers canvas')")
    assert page.text("#record h2") == "two cats 1 rather than not two cats 1"
    assert "Words and phrases are of the caption's own cosine" in page.text("#record")
    assert "Cosine of image and the other text\t0.125000" in page.text("#record .facts")
    assert "null" not in page.text("#record")


def test_values_that_are_no_numbers_are_said_to_be_none(page, tmp_path):
    run = write_run(tmp_path / "run", info_of("flow", ALL), images=2)
    report(run)
    page.open(f"file://{run}/index.html#n=1", RECORD)
    page.run("(() => { const v = mmel.recordPage.viewers[0]; v.record.map.fill(NaN); v.paint(); })()")
    assert "No value is above 0: nothing is drawn." in page.text(".legend")
    page.hover(".viewer .stage", (0.5, 0.5))
    page.wait("document.querySelector('.reading .value')?.innerText === 'not a number'")

"""The data of a report: every number is the archive's, and nothing in a text is more than text."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from base64 import b64decode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

import numpy as np
import pytest
from PIL import Image
from report_data import Report, arguments, single

from mmel_cli.archive import ArchiveOptions, ShardWriter, load_archive
from mmel_cli.fields import MAP, MATCH_AMONG, MATCH_RANK, PHRASE_REGIONS, WORD_REGIONS, WORD_VALUE, Field
from mmel_cli.render import photo_name
from mmel_cli.report import build as build_module
from mmel_cli.report.scripts import call, numbers, units
from mmel_cli.trust import RECORD_MARKS, of_records
from mmel_cli.types import Explanation, RunInfo, Word

FLOW = Field("layers/flow", ("layers", "rows", "columns"), "of a layer", evidence=True)
OTHER = Field("layers/alignment", ("layers", "rows", "columns"), "no evidence")
HOSTILE = [
    "a dog [/b] <script>document.title='owned'</script>",
    "</script><!-- & --> \"quoted\" 'twice' \\u003c \\",
    "line\u2028para\u2029 \u202eright to left",
    "\U0001f9ac a bison \U0001f9ac and a dog",
    "{{ 7 * 7 }} {% for x in y %}",
    "];}mmel.head({});//",
]


def info_of(method="mmel", fields=(MAP, FLOW, OTHER, WORD_VALUE, *WORD_REGIONS, *PHRASE_REGIONS), **changes):
    values = RunInfo(
        model="tiny <model>",
        model_sha256="0" * 64,
        method=method,
        layers=(3, 4),
        grid=(3, 4),
        patch=8,
        image_size=(24, 32),
        geometry="native",
        max_tokens=16,
        device="cpu",
        dtype="float32",
        config={"method": {"name": method}, "words": {"phrase": "alone", "regions": True}},
        config_sha256=method.ljust(64, "0"),
        versions={"mmel": "test"},
        fields=fields,
        described={"layer_weights": "0.5000 1.5000"},
    )
    return replace(values, **changes)


def record_of(number, info, rng, caption, image=None):
    words = tuple(Word(m.group(), m.start(), m.end()) for m in re.finditer(r"\S+", caption))[: info.max_tokens]
    spans = np.array([(words[0].start, words[-1].end)][: number % 3], np.int32).reshape(-1, 2)
    image = image or f"a b/{number // 2:03}%.png"
    record = Explanation(
        id=f"{image}#{number}",
        image=image,
        caption=caption,
        truncated=number % 5 == 0,
        score=float(np.float32(rng.normal())),
        image_size=(48, 64),
        box=(0.1, -2.0, 64.3, 50.0),
        fields={},
        tokens=tuple(word.text for word in words),
        words=words,
        logit=1.0,
    )
    own = replace(info.sizes, tokens=len(words), words=len(words), phrases=len(spans))
    fields = {
        f.name: (rng.standard_normal(f.shape(own)) * 10.0 ** rng.integers(-9, 9)).astype(np.float32)
        for f in info.fields
        if f.dtype == "float32"
    }
    whole = {"phrases/span": spans, "match/rank": np.int32(1 + number % 4), "match/among": np.int32(1 + number % 9)}
    return replace(record, fields=fields | {f.name: whole[f.name] for f in info.fields if f.name in whole})


def write(folder, count, info=None, order=None, captions=HOSTILE, seed=0, **options):
    """A run folder with an archive of random records, without pictures."""
    info, rng = info or info_of(), np.random.default_rng(seed)
    made = [record_of(n, info, rng, captions[n % len(captions)]) for n in range(count)]
    with ShardWriter(folder / "archive", info, ArchiveOptions(shard_size=29, **options)) as writer:
        for n in order if order is not None else range(count):
            writer.extend([made[n]])
    (folder / "run.yaml").write_text("format: mmel-run\n")
    return made


def photos(folder, image, colour="teal"):
    for kind in ("photos", "thumbnails"):
        path = folder / kind / photo_name(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), colour).save(path)


def same(values, wanted):
    return np.array_equal(np.array(values, np.float32), np.asarray(wanted, np.float32), equal_nan=True)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_number_of_the_report_is_the_archives_float32(tmp_path, mmel, dtype):
    run = tmp_path / "run"
    write(run, 75, dtype=dtype)  # more than a file of maps, no multiple of a file of details
    assert mmel("report", run)[0] == 0
    report = Report(run)
    head = report.head
    assert (head["version"], head["records"], head["title"]) == (1, 75, "mmel on tiny <model>")
    assert head["runs"][0]["layers"] == [3, 4]
    assert head["runs"][0]["layer_weights"] == [0.5, 1.5]
    assert head["runs"][0]["layer_fields"] == ["layers/flow"]  # the other is no evidence
    assert head["runs"][0]["share_says"] == "what the phrase alone adds to the cosine of no text"
    assert len(head["colormap"]["colours"]) == 256
    with load_archive(run) as archive:
        assert report.column("id") == archive.ids
        assert report.column("caption") == [record.caption for record in archive]
        assert report.column("truncated") == [int(record.truncated) for record in archive]
        assert report.column("size") == [[48, 64]] * 75
        assert same([single(v) for v in report.column("score", 0)], [record.score for record in archive])
        every = archive.column("map")
        for n, record in enumerate(archive):
            maps, details = report.maps(0, n), report.details(0, n)
            assert maps["map"].tobytes() == record.map.astype("<f4").tobytes()
            assert same(maps["box"], record.box)
            places = units(record.caption) or range(len(record.caption) + 1)
            assert maps["words"] == [[places[word.start], places[word.end]] for word in record.words]
            for name, field in (("values", "words/value"), ("shares", "words/share"), ("errors", "words/error")):
                assert same(maps[name], record.fields[field])
            assert [phrase[:2] for phrase in maps["phrases"]] == [
                [places[p.start], places[p.end]] for p in record.phrases
            ]
            assert same([phrase[2] for phrase in maps["phrases"]], record.fields["phrases/share"])
            assert details["layers"]["layers/flow"].tobytes() == record.fields["layers/flow"].astype("<f4").tobytes()
            assert same(details["words"], record.fields["words/map"])
            assert same(details["phrases"], record.fields["phrases/map"])
            assert same(details["rests"], record.fields["words/rest"])
    positive = every.astype(np.float64).clip(min=0)
    assert head["runs"][0]["scale"]["strongest"] == pytest.approx(np.abs(every).max(), rel=1e-6)
    assert head["runs"][0]["scale"]["top"] == pytest.approx(np.percentile(positive, 99.5), rel=1e-6)
    sums = every.astype(np.float64)
    np.testing.assert_allclose(report.column("evidence", 0), sums.clip(min=0).sum((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(report.column("against_evidence", 0), -sums.clip(max=0).sum((1, 2)), rtol=1e-6)


def test_marks_and_match_are_those_of_trust_and_of_the_archive(tmp_path, mmel):
    run = tmp_path / "run"
    info = info_of("random", (MAP, MATCH_RANK, MATCH_AMONG), dtype="bfloat16")
    made = write(run, 31, info)
    assert mmel("report", run)[0] == 0
    report, head = Report(run), Report(run).head
    assert head["mark_names"] == [mark.name for mark in RECORD_MARKS]
    assert set(head["mark_names"]) | set(head["runs"][0]["marks"]) <= set(head["marks"])
    assert {"control", "bfloat16"} <= set(head["runs"][0]["marks"])
    assert head["marks"]["control"]["of"] == "run"
    assert all(mark["badge"] and mark["says"].endswith(".") for mark in head["marks"].values())
    assert head["runs"][0]["has"]["match"] is True
    assert report.column("rank", 0) == [int(record.fields["match/rank"]) for record in made]
    assert report.column("among", 0) == [int(record.fields["match/among"]) for record in made]
    bit = 1 << head["mark_names"].index("truncated")
    assert [bool(marks & bit) for marks in report.column("marks", 0)] == [record.truncated for record in made]
    with load_archive(run) as archive:
        marked = of_records(archive)
    assert report.column("marks", 0) == marked.marks.tolist()
    assert same(report.column("evidence", 0), marked.evidence)


def test_a_row_of_the_archive_is_where_the_report_says(tmp_path, mmel):
    run = tmp_path / "run"
    write(run, 61)
    assert mmel("report", run)[0] == 0
    report = Report(run)
    shards = report.head["runs"][0]["links"]["archive"]
    assert shards == [f"archive/part-0000{n}.h5" for n in range(3)]
    for name, shard, row in zip(report.column("id"), report.column("shard", 0), report.column("row", 0), strict=True):
        with load_archive(run / shards[shard]) as part:
            assert part.ids[row] == name


def test_no_text_leaves_its_script_and_characters_beyond_16_bits_keep_their_places(tmp_path, mmel):
    run = tmp_path / "run"
    write(run, 12)
    (run / "failures.jsonl").write_text(
        json.dumps({"id": "</script>\u2028\ud800", "stage": "image", "error": "<b>"}) + "\n{torn"
    )
    assert mmel("report", run)[0] == 0
    for name in Report(run).files:
        text = (run / "report/data" / name).read_text("ascii")
        assert not set("<>&") & set(text)
        assert text.count("\n") == 1
    report = Report(run)
    assert report.column("caption")[:6] == HOSTILE
    assert report.head["failures"] == [{"run": 0, "id": "</script>\u2028\ud800", "stage": "image", "error": "<b>"}]
    assert report.head["failed"] == [2]
    caption, words = HOSTILE[3].encode("utf-16-le"), report.maps(0, 3)["words"]
    said = [caption[2 * start : 2 * end].decode("utf-16-le") for start, end in words]
    assert said == HOSTILE[3].split()
    page = (run / "index.html").read_text("utf-8")
    assert "mmel on tiny &lt;model&gt;" in page
    assert not any(text in page for text in HOSTILE)


def test_json_has_no_nan_and_shortest_numbers_come_back(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        call("head", float("nan"))
    assert numbers(np.float32([0.1, np.nan, -np.inf, 1e-45])) == [0.1, None, None, 1e-45]
    values = np.random.default_rng(0).integers(0, 2**32, 5000, np.uint64).astype(np.uint32).view(np.float32)
    finite = values[np.isfinite(values)]
    assert np.array_equal(np.float32(json.loads(json.dumps(numbers(finite)))), finite)


def test_photos_are_linked_relative_to_the_page_and_quoted(tmp_path, mmel):
    run, out = tmp_path / "my run#1", tmp_path / "both?"
    made = write(run, 5)
    photos(run, made[0].image)
    assert mmel("report", run)[0] == 0
    assert mmel("report", run, "--out", out)[0] == 0
    for folder in (run, out):
        report = Report(folder)
        assert report.head["photos"] is True
        for kind in ("photo", "thumb"):
            first, second, *others = report.column(kind)
            assert first == second  # two captions of one image
            assert others == [""] * 3
            assert not set(" #?%") & set(unquote(first).replace("my run#1", ""))
            assert (folder / unquote(first)).is_file()
        links = report.head["runs"][0]["links"]
        for link in (links["run"], links["folder"], *links["archive"]):
            assert (folder / unquote(link)).exists()
            assert not set(" #?") & set(link)


def test_several_runs_show_the_records_in_common_in_the_order_of_the_first(tmp_path, mmel):
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    write(one, 70)
    write(two, 70, info_of("flow", (MAP,)), order=np.random.default_rng(3).permutation(70)[:67], seed=1)
    write(three, 70, info_of("random", (MAP,), grid=(6, 8)), captions=[*HOSTILE[:5], "another"], seed=2)
    code, out, err = mmel("report", one, two, three, "--out", tmp_path / "all", "--json")
    assert code == 0, err
    report = Report(tmp_path / "all")
    with load_archive(one) as first, load_archive(two) as second, load_archive(three) as third:
        common = [r.id for r in first if r.id in second and r.caption == third[r.id].caption]
        assert 40 < len(common) < 67
        assert report.column("id") == common
        assert json.loads(out)["records"] == len(common)
        assert "have another caption" in err
        assert [run["label"] for run in report.head["runs"]] == ["one", "two", "three"]
        assert report.head["title"] == "one, two and three compared"
        assert [run["has"]["words"] for run in report.head["runs"]] == [True, False, False]
        for n, name in enumerate(common):
            for r, archive in enumerate((first, second, third)):
                assert report.maps(r, n)["map"].tobytes() == archive[name].map.tobytes()
                assert single(report.column("score", r)[n]) == np.float32(archive[name].score)
            finer = third[name].map.astype(np.float64).reshape(3, 2, 4, 2).mean((1, 3))
            least = min(np.corrcoef(first[name].map.ravel(), m.ravel())[0, 1] for m in (second[name].map, finer))
            assert report.column("difference")[n] == pytest.approx(1 - least, abs=1e-6)


def test_a_map_that_is_the_same_everywhere_has_no_difference_and_boxes_are_laid_over_each_other(tmp_path, mmel):
    info = info_of(fields=(MAP,))
    maps = np.zeros((2, 3, 4), np.float32)
    maps[0] = np.arange(12).reshape(3, 4)
    shifted = np.zeros((2, 3, 4), np.float32)
    shifted[0, :, :2] = maps[0, :, 2:]  # the same values where both see the image
    for name, values, box in (("one", maps, (0, 0, 64, 48)), ("two", shifted, (32, 0, 96, 48))):
        with ShardWriter(tmp_path / name / "archive", info, ArchiveOptions()) as writer:
            for n in range(2):
                record = record_of(n, info, np.random.default_rng(0), "a dog", image=f"{n}.png")
                writer.extend([replace(record, box=tuple(map(float, box)), fields={"map": values[n]})])
    assert mmel("report", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "both")[0] == 0
    first, second = Report(tmp_path / "both").column("difference")
    assert first == pytest.approx(0, abs=1e-6)
    assert second is None


def test_runs_without_a_record_in_common_and_places_that_do_not_fit_are_refused_in_a_line(tmp_path, mmel):
    one, two = tmp_path / "one", tmp_path / "two"
    write(one, 3)
    write(two, 3, captions=["other"])
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange/notes.txt").write_text("mine")
    merged = tmp_path / "all.h5"
    assert mmel("merge", one, "--out", merged)[0] == 0
    (tmp_path / "there.html").write_text("mine")
    for arguments_, code, told in (
        ((one, two, "--out", tmp_path / "both"), 2, "have no record in common"),
        ((one, two), 2, "--out is missing: the report of several runs"),
        ((one, one, "--out", tmp_path / "both"), 2, "is given twice"),
        ((merged,), 2, "--out is missing"),
        ((one / "archive",), 2, "has no run.yaml"),
        ((tmp_path / "none",), 1, "does not exist"),
        ((one, "--out", tmp_path / "strange"), 2, "holds no mmel report"),
        ((one, "--out", tmp_path / "x", "--self-contained", tmp_path / "x.html"), 2, "give one of them"),
        ((one, "--self-contained", tmp_path / "there.html"), 2, "exists; give a new file"),
        ((one, "--self-contained", tmp_path / "none/x.html"), 2, "is no folder"),
    ):
        got, _, err = mmel("report", *arguments_)
        assert (got, told in err.replace("\n", " ")) == (code, True), (arguments_, err)
        assert err.count("Error:") == 1
    assert (tmp_path / "strange/notes.txt").read_text() == (tmp_path / "there.html").read_text() == "mine"
    assert not (tmp_path / "both").exists()


def test_a_merged_file_has_maps_alone_and_says_so(tmp_path, mmel):
    run, merged = tmp_path / "run", tmp_path / "all.h5"
    write(run, 9)
    assert mmel("merge", run, "--out", merged)[0] == 0
    code, _, err = mmel("report", merged, "--out", tmp_path / "out")
    assert code == 0
    assert "No photos: " in err
    assert "give --data" in err
    report = Report(tmp_path / "out")
    assert report.head["photos"] is False
    assert report.head["runs"][0]["links"]["run"] is None
    with load_archive(run) as archive:
        for n, record in enumerate(archive):
            assert report.maps(0, n)["map"].tobytes() == record.map.tobytes()


def test_what_a_longer_report_left_goes_and_strangers_stay(tmp_path, mmel):
    one, two, out = tmp_path / "one", tmp_path / "two", tmp_path / "out"
    write(one, 80)
    write(two, 7)
    photos(out, "old.png")
    (out / "photos/mine.jpg").write_text("mine")
    (out / "report.yaml").write_text("format: mmel-report\nruns: []\n")
    (out / "report/data").mkdir(parents=True)
    (out / "report/data/mine.txt").write_text("mine")
    assert mmel("report", one, "--out", out)[0] == 0
    assert "maps-0-00001.js" in Report(out).files
    assert not (out / "photos" / photo_name("old.png")).exists()  # of other runs
    assert mmel("report", two, "--out", out)[0] == 0
    left = Report(out).files
    assert left == ["details-0-00000.js", "head.js", "maps-0-00000.js", "mine.txt", "records-00000.js"]
    assert (out / "photos/mine.jpg").read_text() == "mine"
    for n in (2, 3):
        (one / f"page-0000{n}.html").write_text("of an older mmel")
    assert mmel("report", one)[0] == 0
    assert [path.name for path in one.glob("*.html")] == ["index.html"]


def test_a_folder_whose_name_is_no_text_is_linked_by_its_bytes(tmp_path, mmel):
    one, two = tmp_path / os.fsdecode(b"one\xff"), tmp_path / "two\u2028 <b>"
    made = write(one, 3)
    write(two, 3)
    photos(one, made[0].image)
    code, _, err = mmel("report", one, two, "--out", tmp_path / "both")
    assert code == 0, err
    report = Report(tmp_path / "both")
    link = report.head["runs"][0]["links"]["archive"][0]
    assert link == "../one%FF/archive/part-00000.h5"
    assert (tmp_path / "both" / os.fsdecode(unquote_to_bytes(report.column("photo")[0]))).is_file()
    assert "two\u2028 &lt;b&gt; compared" in (tmp_path / "both/index.html").read_text("utf-8")


def test_an_archive_of_the_first_version_has_a_report(tmp_path, mmel):
    old = Path(__file__).parents[1] / "archive/assets/version1.h5"
    code, _, err = mmel("report", old, "--out", tmp_path / "out")
    assert code == 0, err
    report = Report(tmp_path / "out")
    with load_archive(old) as archive:
        assert report.column("id") == archive.ids
        for n, record in enumerate(archive):
            assert report.maps(0, n)["map"].tobytes() == record.map.tobytes()
            assert report.maps(0, n)["words"] == []
    assert report.head["runs"][0]["has"]["words"] is False


def test_one_file_holds_everything_and_its_policy_knows_every_script(tmp_path, mmel):
    run = tmp_path / "run"
    made = write(run, 10)
    photos(run, made[2].image, "orange")
    file = tmp_path / "one.html"
    code, _, err = mmel("report", run, "--self-contained", file)
    assert code == 0, err
    assert not (run / "index.html").exists()
    page = file.read_text("utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page).group(1).replace("&#39;", "'")
    scripts, styles = (
        re.findall(r"<script>(.*?)</script>", page, re.DOTALL),
        re.findall(r"<style>(.*?)</style>", page, re.DOTALL),
    )
    assert page.count("<script") == len(scripts) > 3
    assert "default-src 'none'" in policy
    for text in (*scripts, *styles):
        digest = sha256(text.encode()).digest()
        known = re.findall(r"'sha256-([^']+)'", policy)
        assert digest in [b64decode(one) for one in known]
    assert not re.search(r'(?:src|href)="(?!data:|#)[^"]', page.split("<script>")[0])
    data = [text for text in scripts if text.startswith(("mmel.", "(function(p,c,b)"))]
    assert [name for name, _ in map(arguments, (t for t in data if t.startswith("mmel.")))] == [
        *("head", "maps", "details", "details")
    ]
    head = arguments(data[0])[1][0]
    assert head["self_contained"] is True
    records = next(text for text in data if text.startswith("(function"))
    assert records.count("data:image/jpeg;base64,") == 1  # two captions of one image
    if shutil.which("node"):
        program = (
            "const seen=[];const mmel={records:(k,c)=>seen.push(c)};" + records + "console.log(JSON.stringify(seen))"
        )
        columns = json.loads(subprocess.run(["node", "-e", program], check=True, capture_output=True).stdout)[0]
        assert [bool(photo) for photo in columns["photo"]] == [n in (2, 3) for n in range(10)]
        assert columns["photo"][2] == columns["photo"][3] == columns["thumb"][2]


def test_one_file_of_too_many_records_is_refused(tmp_path, mmel, monkeypatch):
    run = tmp_path / "run"
    write(run, 8)
    monkeypatch.setattr("mmel_cli.report.build.MOST_IN_ONE_FILE", 7)
    code, _, err = mmel("report", run, "--self-contained", tmp_path / "one.html")
    assert code == 2
    assert "8 records are too many for one page, which takes 7" in err.replace("\n", " ")
    assert not (tmp_path / "one.html").exists()


def test_neither_torch_nor_a_model_is_loaded(tmp_path):
    run = tmp_path / "run"
    write(run, 5)
    code = (
        "import sys; sys.argv = ['mmel', 'report', sys.argv[1]]\n"
        "from mmel_cli.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "assert 'h5py' in sys.modules\n"
        "heavy = {'torch', 'transformers', 'scipy'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_archive_that_is_damaged_is_named(tmp_path, mmel):
    run = tmp_path / "run"
    write(run, 40)
    shard = run / "archive/part-00001.h5"
    shard.write_bytes(shard.read_bytes()[:-500])
    code, _, err = mmel("report", run)
    assert code == 1
    assert "part-00001.h5" in err
    assert not (run / "index.html").exists()


def test_settings_of_a_stranger_do_not_stop_the_report(tmp_path, mmel):
    run = tmp_path / "run"
    config = {"heatmap": {"colormap": "no such", "percentile": "x"}, "words": "x", "image": [], "method": 3}
    write(run, 3, info_of(config=config, described={"layer_weights": "1 nan"}))
    assert mmel("report", run)[0] == 0
    head = Report(run).head
    assert head["colormap"]["name"] == "inferno"
    assert head["runs"][0]["layer_weights"] is None


def test_an_interruption_ends_it_at_once_and_the_same_command_mends_it(tmp_path, mmel, monkeypatch):
    run = tmp_path / "run"
    write(run, 70)

    def interrupt(name):
        if name == "details-0-00004.js":
            os.kill(os.getpid(), signal.SIGINT)

    real = build_module.write_text
    monkeypatch.setattr(build_module, "write_text", lambda path, text: (interrupt(path.name), real(path, text)))
    assert mmel("report", run)[0] == 130
    assert not (run / "index.html").exists()
    monkeypatch.undo()
    done = subprocess.run([sys.executable, "-m", "mmel_cli", "report", str(run)], capture_output=True, check=False)
    assert done.returncode == 0
    assert len(Report(run).files) == 1 + 1 + 2 + 9


def test_a_rebuild_that_is_broken_off_leaves_no_page_and_no_head(tmp_path, mmel, monkeypatch):
    run = tmp_path / "run"
    write(run, 70)
    assert mmel("report", run)[0] == 0
    first, real, written = Report(run).head["build"], build_module.write_text, []

    def fill_the_disk(path, text):
        if path.name == "maps-0-00001.js":
            raise OSError(28, "No space left on device")
        written.append(path.name)
        real(path, text)

    monkeypatch.setattr(build_module, "write_text", fill_the_disk)
    assert mmel("report", run)[0] == 1
    assert "maps-0-00000.js" in written
    assert not (run / "index.html").exists()
    assert not (run / "report/data/head.js").exists()
    monkeypatch.setattr(build_module, "write_text", lambda path, text: (written.append(path.name), real(path, text)))
    assert mmel("report", run)[0] == 0
    assert written[-2:] == ["head.js", "index.html"]
    assert len({first, Report(run).head["build"]}) == 2
    assert all(
        Report(run).load(name)[1][-1] == Report(run).head["build"] for name in Report(run).files if name != "head.js"
    )

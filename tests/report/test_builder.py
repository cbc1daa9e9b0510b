"""The data of a report: every number is the archive's, and nothing in a text is more than text."""

import json
from dataclasses import replace
from urllib.parse import unquote

import numpy as np
import pytest
from hostile_runs import HOSTILE, info_of, photos, record_of, same, write
from report_data import Report, single

from mmel_cli.archive import ArchiveOptions, ShardWriter, load_archive
from mmel_cli.fields import MAP, MATCH_AMONG, MATCH_RANK
from mmel_cli.report.scripts import call, numbers, units
from mmel_cli.trust import RECORD_MARKS, of_records


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

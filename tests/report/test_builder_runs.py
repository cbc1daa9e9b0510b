"""The report at the end of explain, fuse and eval, and rebuilt: its photos, what goes on, what is of an older mmel."""

import csv
import json
import shutil
from urllib.parse import unquote

import numpy as np
import pytest
import yaml
from PIL import Image
from report_data import Report, single

from mmel_cli.archive import load_archive
from mmel_cli.render import photo_name, picture_name

GIVEN = ("--device", "cpu", "--batch-size", 5, "--set", "archive.shard_size=7", "--set", "heatmap.max_side=400")


@pytest.fixture
def explained(photos, tiny, tmp_path, mmel):
    """Explains the photos (or another input) into a folder: (exit code, stdout, stderr)."""

    def explain(*arguments, out="run", source=photos, method="flow"):
        given = ("--out", tmp_path / out, "--model", tiny, "--method", method, *GIVEN)
        return mmel("explain", source, *given, *arguments)

    return explain


def invert(value):
    return 255 - value


def pictures(folder, kind):
    return {str(path.relative_to(folder / kind)): path for path in (folder / kind).rglob("*.*g")}


def test_explain_ends_with_a_report_whose_photos_are_one_an_image(explained, photos, tmp_path):
    code, out, err = explained()
    run = tmp_path / "run"
    assert code == 0, err
    assert f"Report: {run / 'index.html'}" in out
    report = Report(run)
    assert report.head["records"] == 24
    assert report.head["title"].startswith("flow on ")
    assert report.head["photos"] is True
    assert len(pictures(run, "heatmaps")) == 24
    assert len(pictures(run, "photos")) == len(pictures(run, "thumbnails")) == 12
    for n, image in enumerate(report.column("image")):
        original = Image.open(photos / image).convert("RGB")
        photo, thumb = (Image.open(run / unquote(report.column(kind)[n])) for kind in ("photo", "thumb"))
        assert report.column("photo")[n] == f"photos/{photo_name(image)}"
        assert (photo.format, max(photo.size), max(thumb.size)) == ("JPEG", 384, 320)  # no caption below them
        assert report.column("size")[n] == [original.height, original.width]
        assert photo.width / photo.height == pytest.approx(original.width / original.height, rel=0.01)
        shown = np.asarray(photo.resize(original.size, Image.Resampling.BOX), float)
        assert np.abs(shown - np.asarray(original, float)).mean() < 6
    with load_archive(run) as archive:
        for n, record in enumerate(archive):
            assert report.maps(0, n)["map"].tobytes() == record.map.tobytes()


def test_weights_of_layers_are_those_of_the_method(explained, tmp_path):
    assert explained("--limit", 2, method="mmel")[0] == 0
    weights = Report(tmp_path / "run").head["runs"][0]["layer_weights"]
    assert weights == [1.0] * 4  # untrained: all layers alike
    assert yaml.safe_load((tmp_path / "run/run.yaml").read_text())["layer_weights"] == "1.0000 1.0000 1.0000 1.0000"


def test_an_interrupted_run_has_a_report_of_what_is_there_and_goes_on(explained, tmp_path):
    run = tmp_path / "run"
    assert explained("--limit", 7)[0] == 0
    first = Report(run)
    ids, before = first.column("id"), first.maps(0, 3)["map"].tobytes()
    assert len(ids) == 7
    assert len(pictures(run, "photos")) == 4
    assert explained()[0] == 0
    assert Report(run).column("id")[:7] == ids
    assert len(Report(run).column("id")) == 24
    assert Report(run).maps(0, 3)["map"].tobytes() == before
    assert len(pictures(run, "photos")) == 12


def test_a_run_without_a_record_has_a_report_of_its_failures(explained, tmp_path):
    source = tmp_path / "input"
    source.mkdir()
    (source / "a.jpg").write_bytes(b"no image")
    (source / "metadata.jsonl").write_text(json.dumps({"file_name": "a.jpg", "text": "a dog"}) + "\n")
    assert explained(source=source)[0] == 3
    report = Report(tmp_path / "run")
    assert (report.head["records"], report.head["failed"], report.head["photos"]) == (0, [1], False)
    assert report.head["failures"][0]["id"] == "a.jpg#0"
    assert report.files == ["head.js"]


def test_a_folder_of_an_older_mmel_gets_photos_and_loses_thumbnails_of_records(explained, tmp_path, mmel):
    run = tmp_path / "run"
    assert explained()[0] == 0
    maps = {path.name: path.read_bytes() for path in (run / "archive").iterdir()}
    for kind in ("photos", "thumbnails", "report"):
        shutil.rmtree(run / kind)
    note = json.loads((run / "heatmaps/drawn.json").read_text())
    (run / "heatmaps/drawn.json").write_text(json.dumps({"settings_sha256": note["settings_sha256"]}))
    old = run / "thumbnails" / picture_name("00.png#0").with_suffix(".jpg")
    old.parent.mkdir()
    old.write_bytes(b"of a record")
    (run / "thumbnails/mine.jpg").write_bytes(b"mine")
    (run / "index.html").write_text("of an older mmel")
    (run / "page-00002.html").write_text("of an older mmel")
    code, _, err = explained()
    assert code == 0, err
    assert "Drawing the pictures of 24 finished records anew" in err
    assert len(pictures(run, "photos")) == 12
    assert len(pictures(run, "thumbnails")) == 13  # with mine
    assert not old.exists()
    assert not (run / "page-00002.html").exists()
    assert all(path.startswith("photos/") for path in Report(run).column("photo"))
    assert {path.name: path.read_bytes() for path in (run / "archive").iterdir()} == maps
    assert "Drawing" not in explained()[2]


def test_photos_that_a_run_lacks_are_read_from_its_input(explained, photos, tmp_path, mmel):
    run, source = tmp_path / "run", tmp_path / "input"
    shutil.copytree(photos, source)
    code, _, err = explained("--set", "heatmaps=false", source=source)
    assert code == 0
    assert f"has maps without photos, since the run has no pictures; mmel report {run} adds photos" in err
    assert Report(run).head["photos"] is False
    assert not (run / "photos").exists()
    assert set(Report(run).column("photo")) == {""}
    Image.new("RGB", (20, 20)).save(source / "03.png")  # another size now
    (source / "04.png").write_bytes(b"no image")
    code, out, err = mmel("report", run)
    assert code == 0
    assert "10 photos read from the input" in out
    assert "No photos of 2 images: 03.png is 20x20 now" in err
    assert len(pictures(run, "photos")) == len(pictures(run, "thumbnails")) == 10
    assert max(Image.open(pictures(run, "photos")[str(photo_name("00.png"))]).size) == 384
    assert Report(run).column("photo").count("") == 4
    assert "photos read" not in mmel("report", run)[1]
    source.rename(tmp_path / "moved")
    code, _, err = mmel("report", run)
    assert code == 0
    assert "No photos of 2 images: the input cannot be read" in err
    assert mmel("merge", run, "--out", tmp_path / "all.h5")[0] == 0
    code, out, err = mmel("report", tmp_path / "all.h5", "--out", tmp_path / "out", "--data", photos)
    assert code == 0, err
    assert "12 photos read from the input" in out
    assert "" not in Report(tmp_path / "out").column("photo")
    code, out, err = mmel("report", tmp_path / "all.h5", "--self-contained", tmp_path / "one.html", "--data", photos)
    assert code == 0, err
    assert (tmp_path / "one.html").read_text().count("data:image/jpeg;base64,") == 12
    assert not list(tmp_path.glob("photos"))


def test_overwrite_removes_report_and_photos(explained, tmp_path):
    run = tmp_path / "run"
    assert explained()[0] == 0
    (run / "photos/mine.jpg").write_text("mine")
    assert explained("--overwrite", "--limit", 2)[0] == 0
    report = Report(run)
    assert report.column("id") == ["00.png#0", "00.png#1"]
    assert sorted(pictures(run, "photos")) == [str(photo_name("00.png")), "mine.jpg"]
    assert report.files == ["details-0-00000.js", "head.js", "maps-0-00000.js", "records-00000.js"]


def test_what_captions_are_against_is_a_column(explained, tmp_path):
    assert explained("--against", "<b>& other", "--limit", 3)[0] == 0
    report = Report(tmp_path / "run")
    assert report.column("against") == ["<b>& other"] * 3
    assert report.head["runs"][0]["has"]["against"] is True
    with load_archive(tmp_path / "run") as archive:
        wanted = [np.float32(record.against_score) for record in archive]
    assert [single(value) for value in report.column("against_score", 0)] == wanted
    assert explained("--limit", 3, out="plain")[0] == 0
    assert Report(tmp_path / "plain").column("against") == []


def test_fuse_ends_with_a_report(explained, tmp_path, mmel):
    assert explained("--limit", 6, method="mmel")[0] == 0
    code, out, err = mmel("fuse", tmp_path / "run", "--weights", "untrained", "--out", tmp_path / "fused")
    assert code == 0, err
    assert "Report: " in out
    report = Report(tmp_path / "fused")
    assert len(report.column("id")) == 6
    assert "" not in report.column("photo")
    assert len(pictures(tmp_path / "fused", "photos")) == 3
    with load_archive(tmp_path / "fused") as archive:
        assert report.maps(0, 4)["map"].tobytes() == archive["02.png#0"].map.tobytes()


QUICK = ("--device", "cpu", "--set", "faithfulness.steps=3", "--set", "comparison.resamples=99", "--set", "plots=false")


def table(folder, label, name):
    with (folder / "per_record.csv").open(newline="") as file:
        return {row["id"]: row[name] for row in csv.DictReader(file) if row["run"] == label}


def test_eval_shows_runs_side_by_side_with_a_column_a_metric(explained, tmp_path, mmel):
    assert explained()[0] == 0
    assert explained("--limit", 17, out="other", method="grad-eclip")[0] == 0
    runs = (tmp_path / "run", tmp_path / "other")
    code, out, err = mmel("eval", *runs, "--metrics", "insertion,deletion,pixel-ap", *QUICK)
    assert code == 3, err  # there are no masks
    folder = tmp_path / "run/eval"
    assert f"Report: {folder / 'index.html'}" in out
    report = Report(folder)
    assert report.head["title"] == "run and other compared"
    assert len(report.column("id")) == 17
    assert report.column("photo")[0] == f"../photos/{photo_name('00.png')}"
    assert report.head["runs"][1]["links"]["archive"][0] == "../../other/archive/part-00000.h5"
    metrics = report.head["metrics"]
    shown = [(metric["key"], metric["run"], metric["better"]) for metric in metrics]
    assert shown == [(key, run, way) for run in (0, 1) for key, way in (("insertion", "higher"), ("deletion", "lower"))]
    assert all(metric["definition"].startswith("area under") for metric in metrics)
    for number, metric in enumerate(metrics):
        wanted = table(folder, ("run", "other")[metric["run"]], metric["key"])
        assert report.column("metrics")[number] == [float(wanted[name]) for name in report.column("id")]
    name, (content, _) = report.load("eval.js")
    saved = json.loads((folder / "metrics.json").read_text())
    assert name == "evaluation"
    assert "config" not in content
    assert content["metrics"] == saved["metrics"]
    assert content["report_runs"] == {"run": 0, "other": 1}
    assert content["confidence"] == 0.95
    # the run's own report takes its part of it, and so does one that is made elsewhere after a move
    assert mmel("report", tmp_path / "run")[0] == 0
    own = Report(tmp_path / "run")
    assert [(metric["key"], metric["run"]) for metric in own.head["metrics"]] == [("insertion", 0), ("deletion", 0)]
    assert [value is None for value in own.column("metrics")[0]] == [False] * 17 + [True] * 7
    assert own.load("eval.js")[1][0]["report_runs"] == {"run": 0, "other": None}
    measured = own.column("metrics")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert mmel("report", tmp_path / "moved")[0] == 0
    assert Report(tmp_path / "moved").column("metrics") == measured


def test_eval_of_one_run_has_a_report_too_unless_it_is_not_wanted(explained, tmp_path, mmel):
    assert explained("--limit", 4)[0] == 0
    given = (tmp_path / "run", "--metrics", "sparseness", *QUICK)
    code, out, _ = mmel("eval", *given, "--set", "report=false")
    assert (code, "Report:" in out) == (0, False)
    assert not (tmp_path / "run/eval/index.html").exists()
    assert mmel("eval", *given, "--limit", 4)[0] == 0
    report = Report(tmp_path / "run/eval")
    assert report.head["title"].startswith("flow on")
    assert [metric["key"] for metric in report.head["metrics"]] == ["sparseness"]
    assert report.column("difference") == []


def test_an_evaluation_of_other_records_or_one_that_cannot_be_read_is_left_out(explained, photos, tmp_path, mmel):
    alone = ("--set", "match.captions=0")  # else the captions of the input decide what is archived
    assert explained("--limit", 4, *alone)[0] == 0
    assert mmel("eval", tmp_path / "run", "--metrics", "sparseness", *QUICK)[0] == 0
    other = tmp_path / "other"
    shutil.copytree(photos, tmp_path / "input")
    rows = (tmp_path / "input/metadata.jsonl").read_text().replace("a red dog", "a red cat")
    (tmp_path / "input/metadata.jsonl").write_text(rows)
    assert explained("--limit", 4, *alone, out="other", source=tmp_path / "input")[0] == 0
    shutil.copytree(tmp_path / "run/eval", other / "eval")
    code, _, err = mmel("report", other)  # the same settings, but two captions of four
    assert (code, "the run other has other maps now; run mmel eval again" in err.replace("\n", " ")) == (0, True), err
    assert Report(other).head["metrics"] == []
    shutil.copytree(tmp_path / "run", tmp_path / "moved")
    table = tmp_path / "moved/eval/per_record.csv"
    table.write_text(table.read_text().replace("a red dog", "a red cat"))
    code, _, err = mmel("report", tmp_path / "moved")
    assert code == 0
    assert "2 rows of another image or caption left out" in err
    assert [value is None for value in Report(tmp_path / "moved").column("metrics")[0]] == [True, False, True, False]
    assert explained("--limit", 4, *alone, out="third", method="grad-eclip")[0] == 0
    shutil.copytree(tmp_path / "run/eval", tmp_path / "third/eval")
    for folder, damage, told in (("third", None, "is of other runs"), ("other", "{", "cannot be read")):
        if damage:
            (tmp_path / folder / "eval/metrics.json").write_text(damage)
        code, _, err = mmel("report", tmp_path / folder)
        assert (code, told in err.replace("\n", " ")) == (0, True), err
        assert Report(tmp_path / folder).head["metrics"] == []
        assert "eval.js" not in Report(tmp_path / folder).files


def test_an_evaluation_of_what_a_run_held_before_is_left_out_and_the_reason_named(explained, photos, tmp_path, mmel):
    alone = ("--set", "match.captions=0")
    run, metrics = tmp_path / "run", ("--metrics", "sparseness", *QUICK)
    assert explained("--limit", 4, *alone)[0] == 0
    assert mmel("eval", run, *metrics)[0] == 0
    code, _, err = explained("--limit", 7, *alone)
    assert (code, "the run run has other records now; run mmel eval again" in err.replace("\n", " ")) == (0, True), err
    assert Report(run).head["metrics"] == []
    assert mmel("eval", run, *metrics, "--overwrite")[0] == 0
    assert mmel("report", run)[0] == 0
    assert Report(run).column("metrics")[0].count(None) == 0
    shutil.copytree(photos, tmp_path / "input")
    for image in (tmp_path / "input").glob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(image).convert("RGB"))).save(image)
    code, _, err = explained("--limit", 7, *alone, "--overwrite", source=tmp_path / "input")
    assert (code, "the run run has other maps now; run mmel eval again" in err.replace("\n", " ")) == (0, True), err
    assert "eval.js" not in Report(run).files
    metrics_file = run / "eval/metrics.json"
    said = json.loads(metrics_file.read_text())
    del said["runs"][0]["maps_sha256"]
    metrics_file.write_text(json.dumps(said))
    assert "an older mmel wrote it" in mmel("report", run)[2].replace("\n", " ")


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def test_a_report_that_cannot_be_written_hides_no_finished_run(explained, tmp_path, mmel):
    told = "Warning: The report could not be written ("
    for method in ("flow", "mmel"):
        (tmp_path / "both" / method).mkdir(parents=True)
        (tmp_path / "both" / method / "run.yaml").write_text("format: mmel-run\n")
    (tmp_path / "both/flow/index.html").mkdir()
    code, out, err = explained("--limit", 3, out="both", method="flow,mmel")
    shown = err.replace("\n", " ")
    assert (code, shown.count(told)) == (0, 1), err
    assert f"all records are safe: mmel report {tmp_path / 'both/flow'} makes it" in shown
    assert out.count("\n3 records, ") == 2
    assert out.count("Report: ") == 1
    flow, other = tmp_path / "both/flow", tmp_path / "both/mmel"
    assert (summary(flow)["done"], summary(flow)["report"]) == (3, "")
    assert summary(other)["report"] == str(other / "index.html")
    assert Report(other).head["records"] == 3
    for folder, arguments in (
        ("fused", ("fuse", other, "--weights", "untrained", "--out", tmp_path / "fused")),
        ("eval", ("eval", other, "--metrics", "sparseness", "--out", tmp_path / "eval", *QUICK)),
    ):
        name = {"fused": "run", "eval": "eval"}[folder]
        (tmp_path / folder / "index.html").mkdir(parents=True)
        (tmp_path / folder / f"{name}.yaml").write_text(f"format: mmel-{name}\n")
        code, out, err = mmel(*arguments)
        assert (code, told in err.replace("\n", " "), "3 records" in out) == (0, True, True), err
        assert "Report: " not in out


def test_the_summary_is_there_before_marks_and_report(explained, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("mmel_cli.pipelines.ending.with_marks", broken)
    assert explained("--limit", 2)[0] == 1
    assert (summary(tmp_path / "run")["done"], summary(tmp_path / "run")["report"]) == (2, "")


def test_explain_and_fuse_write_no_report_that_is_not_wanted(explained, tmp_path, mmel):
    no, run, fused = ("--set", "report=false"), tmp_path / "run", tmp_path / "fused"
    code, out, _ = explained("--limit", 2, *no, method="mmel")
    assert (code, "Report:" in out, summary(run)["report"]) == (0, False, "")
    code, out, _ = mmel("fuse", run, "--weights", "untrained", "--out", fused, *no)
    assert (code, "Report:" in out, summary(fused)["done"]) == (0, False, 2)
    for folder in (run, fused):
        assert not (folder / "index.html").exists()
        assert not (folder / "report").exists()
    assert explained("--limit", 2, method="mmel")[0] == 0  # the same run goes on
    assert Report(run).head["records"] == 2


@pytest.mark.parametrize("change", [lambda image: image.rotate(90, expand=True), lambda image: image.point(invert)])
def test_photos_of_a_report_elsewhere_are_drawn_anew_when_the_run_was_made_anew(
    explained, photos, tmp_path, mmel, change
):
    run, out, source = tmp_path / "run", tmp_path / "out", tmp_path / "input"
    shutil.copytree(photos, source)
    given = ("--limit", 4, "--set", "heatmaps=false", "--set", "match.captions=0", "--set", "report=false")
    assert explained(*given, source=source)[0] == 0
    assert "2 photos read from the input" in mmel("report", run, "--out", out)[1]
    before = pictures(out, "photos")[str(photo_name("00.png"))].read_bytes()
    assert "photos read" not in mmel("report", run, "--out", out)[1]  # they are those of the run
    for image in source.glob("*.png"):
        change(Image.open(image).convert("RGB")).save(image)
    assert explained(*given, "--overwrite", source=source)[0] == 0
    code, shown, err = mmel("report", run, "--out", out)
    assert (code, "2 photos read from the input" in shown) == (0, True), err
    after = pictures(out, "photos")[str(photo_name("00.png"))]
    assert after.read_bytes() != before
    new, now = Image.open(source / "00.png"), Image.open(after)
    assert now.width / now.height == pytest.approx(new.width / new.height, rel=0.01)


def test_a_call_that_changes_nothing_leaves_the_report_and_any_change_makes_it_anew(explained, tmp_path, mmel):
    run = tmp_path / "run"
    given = ("--limit", 3)
    builds = [None]

    def call(*arguments):
        code, out, err = explained(*(arguments or given))
        assert (code, f"Report: {run / 'index.html'}" in out) == (0, True), err
        builds.append(Report(run).head["build"])
        return builds[-1] == builds[-2]

    assert not call()
    assert call()
    (run / "report/data/maps-0-00000.js").unlink()
    assert not call()
    (run / "index.html").unlink()
    assert not call()
    assert not call("--limit", 3, "--set", "heatmap.max_side=300")  # pictures drawn anew
    assert not call()
    assert mmel("eval", run, "--metrics", "sparseness", *QUICK)[0] == 0
    assert not call()
    assert [metric["key"] for metric in Report(run).head["metrics"]] == ["sparseness"]
    assert call()
    assert not call("--limit", 5)
    assert Report(run).head["records"] == 5
    assert mmel("report", run)[0] == 0
    builds.append(Report(run).head["build"])
    assert call("--limit", 5)

"""`mmel explain --against`: files out, going on, every command after it, and refusals by name."""

import json

import h5py
import numpy as np
import pytest
import yaml
from layouts import pairs, png, write
from report_data import Report, single

from mmel_cli import load_archive
from mmel_cli.data import open_source, reopen
from mmel_cli.errors import UsageError
from mmel_cli.types import Failure, Sample

QUICK = ["--set", "comparison.resamples=99", "--set", "faithfulness.steps=3", "--set", "sanity.samples=1"]
OTHER = "two blue cats"
PAINTED = ("painted", "plain")


@pytest.fixture
def folder(tmp_path):
    """Three images with captions apart from each other: two, three (one twice) and one; 7 rows."""
    for name, image, _, _, _ in pairs(3):
        write(tmp_path / f"in/{name}.png", png(image))
    captions = [(0, "a red dog"), (1, "a cat"), (2, "alone"), (0, "grass"), (1, "a dog"), (1, "a cat"), (1, "blue")]
    rows = [{"file_name": f"{n:02}.png", "text": text, "boxes": [[1, 1, 20, 20]]} for n, text in captions]
    write(tmp_path / "in/metadata.jsonl", "\n".join(json.dumps(row) for row in rows))
    return tmp_path


def explain(mmel, folder, tiny, out, *more, method="flow"):
    options = ["--model", tiny, "--device", "cpu", "--batch-size", 3, "--set", "archive.shard_size=3"]
    options += [] if out in PAINTED else ["--set", "heatmaps=false"]
    return mmel("explain", folder / "in", "--out", folder / out, "--method", method, *options, *more)


def test_other_takes_the_next_caption_of_the_image_wherever_it_stands(folder):
    source = open_source(folder / "in", against_other=True)
    entries = list(source)
    assert {e.id: e.against for e in entries if isinstance(e, Sample)} == {
        "00.png#0": "grass",
        "00.png#1": "a red dog",
        "01.png#0": "a dog",
        "01.png#1": "blue",
        "01.png#2": "a dog",
        "01.png#3": "a cat",
    }
    (alone,) = (e for e in entries if isinstance(e, Failure))
    assert (alone.id, "no other caption" in alone.error) == ("02.png#0", True)
    again = reopen(json.loads(json.dumps(source.plain())))
    assert (list(again), again.layout) == (entries, source.layout)
    write(folder / "p.txt", "x\ny\nz")
    prompted = open_source(folder / "in/00.png", prompts=folder / "p.txt", against_other=True)
    assert [(e.caption, e.against) for e in prompted] == [("x", "y"), ("y", "z"), ("z", "x")]


def test_a_text_is_checked_and_its_own_caption_is_a_failure(folder):
    entries = list(open_source(folder / "in", against=" grass "))
    (same,) = (e for e in entries if isinstance(e, Failure))
    assert (same.id, "nothing is left" in same.error) == ("00.png#1", True)
    assert {e.against for e in entries if isinstance(e, Sample)} == {"grass"}
    with pytest.raises(UsageError, match="--against"):
        open_source(folder / "in", against="  ")


def test_the_archive_holds_both_scores_and_the_map_of_the_difference(folder, tiny, mmel):
    code, out, err = explain(mmel, folder, tiny, "run", "--against", OTHER, "--json")
    assert (code, json.loads(out)["done"]) == (0, 7), err
    assert f"against '{OTHER}'" in err
    assert explain(mmel, folder, tiny, "own")[0] == 0
    assert explain(mmel, folder, tiny, "sum", "--against", "other")[0] == 3
    rows = [json.loads(line) for line in (folder / "in/metadata.jsonl").read_text().splitlines()]
    write(folder / "in/metadata.jsonl", "\n".join(json.dumps(row | {"text": OTHER}) for row in rows))
    assert explain(mmel, folder, tiny, "other")[0] == 0
    with (
        load_archive(folder / "run") as run,
        load_archive(folder / "own") as own,
        load_archive(folder / "other") as other,
    ):
        assert run.info.against
        assert not own.info.against
        for record, like, less in zip(run, own, other, strict=True):
            assert (record.id, record.caption, record.against) == (like.id, like.caption, OTHER)
            assert record.score == pytest.approx(like.score, abs=1e-6)
            assert record.against_score == pytest.approx(less.score, abs=1e-6)
            assert np.allclose(record.map, like.map - less.map, atol=1e-6)
            assert np.array_equal(record.word_values, like.word_values)  # the difference to the text cancels
    with h5py.File(folder / "own/archive/part-00000.h5") as shard:
        assert "against" not in shard
    with h5py.File(folder / "run/archive/part-00000.h5") as shard:
        assert list(shard["against"].asstr()[:]) == [OTHER] * 3
        assert shard["against_score"].dtype == np.float32
    for command in (["verify", folder / "run"], ["merge", folder / "run", "--out", folder / "one.h5"]):
        assert mmel(*command)[0] == 0
    with load_archive(folder / "one.h5") as merged:
        assert {record.against for record in merged} == {OTHER}


def test_a_damaged_text_of_the_difference_is_noticed(folder, tiny, mmel):
    assert explain(mmel, folder, tiny, "run", "--against", OTHER)[0] == 0
    path = folder / "run/archive/part-00000.h5"
    content = path.read_bytes()
    assert content.count(OTHER.encode()) >= 3
    at = content.rindex(OTHER.encode())
    path.write_bytes(content[:at] + b"T" + content[at + 1 :])
    code, out, err = mmel("verify", folder / "run")
    assert (code, "CRC-32" in out + err) == (1, True)


def test_it_goes_on_and_another_text_is_another_run(folder, tiny, mmel):
    assert explain(mmel, folder, tiny, "run", "--against", OTHER, "--limit", 3)[0] == 0
    first = (folder / "run/archive/part-00000.h5").read_bytes()
    for more, says in (
        (["--against", "x"], f'against.text was "{OTHER}", is now "x"'),
        (["--against", "other"], "against.other was not there, is now true"),
        ([], f'against.text was "{OTHER}", is now not there'),
    ):
        code, _, err = explain(mmel, folder, tiny, "run", *more)
        assert (code, says in err) == (2, True), err
    code, _, err = explain(mmel, folder, tiny, "run", "--against", OTHER)
    assert (code, "Going on: 3 records done" in err) == (0, True), err
    assert (folder / "run/archive/part-00000.h5").read_bytes() == first
    assert explain(mmel, folder, tiny, "cyclic", "--against", "other")[0] == 3
    rows = (folder / "in/metadata.jsonl").read_text().replace('"blue"', '"green"')
    (folder / "in/metadata.jsonl").write_text(rows)
    code, _, err = explain(mmel, folder, tiny, "cyclic", "--against", "other")
    assert (code, "against another text" in err) == (2, True), err  # 01.png#1 was against "blue"


def test_what_has_no_difference_is_refused_by_name(folder, tiny, mmel):
    for method in ("attention", "rollout", "eigen-cam", "mask", "random"):
        code, _, err = explain(mmel, folder, tiny, "x", "--against", OTHER, "--dry-run", method=method)
        assert (code, f"method: {method} makes the same map for any caption" in err) == (2, True), err
    for method in ("fixlip", "exclip"):
        code, _, err = explain(mmel, folder, tiny, "x", "--against", OTHER, "--dry-run", method=method)
        assert (code, f"method: {method} joins the words of one caption to regions" in err) == (2, True), err
    code, _, err = explain(mmel, folder, tiny, "x", "--against", OTHER, "--set", "against.other=true")
    assert (code, "leave one out" in err) == (2, True), err
    code, _, err = explain(mmel, folder, tiny, "literal", "--set", "against.text=other")
    assert code == 0, err
    with load_archive(folder / "literal") as archive:
        assert {record.against for record in archive} == {"other"}
    told = json.loads(mmel("methods", "--json")[1])
    blind = {name for name, about in told.items() if about["caption_blind"]}
    assert blind == {"attention", "rollout", "eigen-cam", "mask", "random"}
    assert mmel("methods")[1].count("the map is the same for any caption") == 5


def test_pictures_and_report_say_what_is_explained(folder, tiny, mmel):
    assert explain(mmel, folder, tiny, "painted", "--against", "<b>& other")[0] == 0
    assert explain(mmel, folder, tiny, "plain")[0] == 0
    report = Report(folder / "painted")
    assert report.head["runs"][0]["has"]["against"] is True
    assert report.column("against") == ["<b>& other"] * 7
    with load_archive(folder / "painted") as archive:
        assert [single(v) for v in report.column("score", 0)] == [np.float32(r.score) for r in archive]
        assert [single(v) for v in report.column("against_score", 0)] == [np.float32(r.against_score) for r in archive]
    plain = Report(folder / "plain")
    assert plain.head["runs"][0]["has"]["against"] is False
    assert plain.column("against") == plain.column("against_score", 0) == []


def test_eval_scores_the_difference_and_refuses_what_is_of_the_caption_alone(folder, tiny, mmel):
    assert explain(mmel, folder, tiny, "run", "--against", OTHER)[0] == 0
    names = "insertion,deletion-fine,pixel-ap,token-deletion,max-sensitivity,aid,average-drop,insertion-probability"
    code, out, err = mmel("eval", folder / "run", "--metrics", names, "--json", *QUICK)
    assert code == 3, err
    report = json.loads(out)
    refused = report["refused"]["run"]
    assert set(refused) == {"aid", "average-drop", "insertion-probability"}
    assert all("--against" in reason for reason in refused.values())
    assert report["metrics"]["pixel-ap"]["runs"]["run"]["records"] == 7
    assert report["metrics"]["token-deletion"]["runs"]["run"]["records"] == 7
    # the curve ends with the whole image: there it is the difference of the two archived cosines
    lines = [line for path in (folder / "run/eval/scores").glob("*.jsonl") for line in path.read_text().splitlines()]
    scored = [score for line in lines for score in json.loads(line)["scores"]]
    curves = {score["id"]: score["curves"]["insertion"] for score in scored if "insertion" in score["curves"]}
    with load_archive(folder / "run") as archive:
        for record in archive:
            assert curves[record.id][-1] == pytest.approx(record.score - record.against_score, abs=1e-5)
    assert explain(mmel, folder, tiny, "own")[0] == 0
    code, _, err = mmel("eval", folder / "run", folder / "own", "--out", folder / "e", "--metrics", "insertion", *QUICK)
    assert (code, "no record in common" in err) == (2, True), err
    assert mmel("merge", folder / "run", "--out", folder / "one.h5")[0] == 0
    data = ["--data", folder / "in", "--model", tiny, "--out", folder / "e"]
    code, out, err = mmel("eval", folder / "one.h5", "--metrics", "insertion", "--json", *data, *QUICK)
    assert code == 0, err
    assert json.loads(out)["metrics"]["insertion"]["runs"]["one"]["records"] == 7


def test_weights_are_learned_and_fused_on_differences(folder, tiny, mmel):
    assert explain(mmel, folder, tiny, "run", "--against", OTHER, method="mmel")[0] == 0
    training = ["--objective", "faithfulness", "--set", "training.epochs=1", "--set", "training.validation=0.4"]
    code, _, err = mmel("train-weights", folder / "run", "--out", folder / "w.safetensors", *training)
    assert code == 0, err
    code, _, err = mmel("fuse", folder / "run", "--weights", folder / "w.safetensors", "--out", folder / "fused")
    assert code == 0, err
    with load_archive(folder / "fused") as fused, load_archive(folder / "run") as run:
        assert [(r.id, r.against, r.against_score) for r in fused] == [(r.id, r.against, r.against_score) for r in run]
    noted = yaml.safe_load((folder / "fused/run.yaml").read_text())["input"]
    assert noted["against"] == OTHER
    code, _, err = mmel("eval", folder / "fused", "--metrics", "insertion", *QUICK)
    assert code == 0, err


def test_several_methods_share_a_pass_of_differences(folder, tiny, mmel):
    assert explain(mmel, folder, tiny, "all", "--against", OTHER, method="flow,gae")[0] == 0
    assert explain(mmel, folder, tiny, "gae", "--against", OTHER, method="gae")[0] == 0
    with load_archive(folder / "all/gae") as together, load_archive(folder / "gae") as alone:
        for record, like in zip(together, alone, strict=True):
            assert np.array_equal(record.map, like.map)
            assert record.against_score == like.against_score
    code, _, err = explain(mmel, folder, tiny, "x", "--against", OTHER, method="flow,random")
    assert (code, "random makes the same map" in err) == (2, True), err

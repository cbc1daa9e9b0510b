"""`mmel explain --prompts`: files out, batches that part an image's texts, going on, and every command after it."""

import json
import shutil

import numpy as np
import pytest
import yaml
from layouts import pairs, png, write

from mmel_cli import load_archive

TEXTS = ["a red dog", "a blue cat", "nothing", "two dogs and a cat"]
PAINTED = ("run5",)
QUICK = ["--set", "comparison.resamples=99", "--set", "faithfulness.steps=3"]


@pytest.fixture
def folder(tmp_path):
    """Three images without captions, and four prompts: 12 records, which no batch of 5 divides."""
    for name, image, _, _, _ in pairs(3):
        write(tmp_path / f"in/{name}.png", png(image))
    write(tmp_path / "p.txt", "\n".join(TEXTS))
    return tmp_path


def explain(mmel, folder, tiny, out, *more):
    options = ["--model", tiny, "--device", "cpu", "--prompts", folder / "p.txt", "--set", "archive.shard_size=5"]
    options += [] if out in PAINTED else ["--set", "heatmaps=false"]
    return mmel("explain", folder / "in", "--out", folder / out, *options, *more)


def test_it_gives_what_the_same_texts_give_as_captions_whatever_the_batch(folder, tiny, mmel):
    names = [f"{n:02}.png" for n in range(3)]
    for size in (5, 3, 12):
        code, _, err = explain(mmel, folder, tiny, f"run{size}", "--batch-size", size)
        assert code == 0, err
    assert "Input: images; each image with 4 prompts" in err
    rows = [json.dumps({"file_name": name, "text": text}) for name in names for text in TEXTS]
    shutil.copytree(folder / "in", folder / "captioned")
    write(folder / "captioned/metadata.jsonl", "\n".join(rows))
    options = ["--model", tiny, "--device", "cpu", "--batch-size", 5]
    assert mmel("explain", folder / "captioned", "--out", folder / "same", *options)[0] == 0
    with load_archive(folder / "same") as same:
        wanted = list(same)
    for size in (5, 3, 12):
        with load_archive(folder / f"run{size}") as archive:
            assert archive.ids == [f"{name}#{k}" for name in names for k in range(4)]
            for record, like in zip(archive, wanted, strict=True):
                assert (record.image, record.caption) == (like.image, like.caption)
                assert np.allclose(record.map, like.map, atol=1e-6)
                assert np.array_equal(record.map, like.map) or size != 5
    assert len(list((folder / "run5/heatmaps").glob("*.jpg"))) == 12


def test_it_goes_on_and_other_texts_are_refused_wherever_the_file_lies(folder, tiny, mmel):
    assert explain(mmel, folder, tiny, "run", "--limit", 6)[0] == 0
    first = (folder / "run/archive/part-00000.h5").read_bytes()
    (folder / "p.txt").write_text("a red dog\na blue cat\nnothing\nthree dogs\n")
    code, _, err = explain(mmel, folder, tiny, "run")
    assert (code, "prompts (SHA-256) was " in err) == (2, True), err
    moved = write(folder / "elsewhere/q.txt", "\n\n".join(TEXTS) + "\n")
    code, _, err = explain(mmel, folder, tiny, "run", "--prompts", moved)
    assert code == 0, err
    assert "Going on: 6 records done" in err
    assert (folder / "run/archive/part-00000.h5").read_bytes() == first
    with load_archive(folder / "run") as archive:
        assert len(archive) == 12
    (folder / "p.txt").write_text("\n".join(TEXTS))
    options = ["--model", tiny, "--device", "cpu", "--caption-column", "text", "--prompts", folder / "p.txt"]
    assert mmel("explain", folder / "in", "--out", folder / "x", *options)[0] == 2
    code, _, err = mmel("explain", folder / "in", "--out", folder / "run", "--model", tiny, "--device", "cpu")
    assert code == 2  # without prompts there is nothing to explain


def test_every_command_finds_the_texts_again(folder, tiny, mmel):
    code, out, err = explain(mmel, folder, tiny, "run", "--dry-run", "--json")
    assert code == 0, err
    plan = json.loads(out)
    assert (plan["pairs"], plan["failures"], plan["without_caption"]) == (12, 0, 0)
    write(folder / "in/broken.png", "no image")
    code, out, err = explain(mmel, folder, tiny, "run", "--json")
    assert (code, json.loads(out)["failed_by_stage"]) == (3, {"image": 4}), err
    failed = [json.loads(line) for line in (folder / "run/failures.jsonl").read_text().splitlines()]
    assert [set(line) for line in failed] == [{"id", "stage", "error"}] * 4
    assert [line["id"] for line in failed] == [f"broken.png#{k}" for k in range(4)]
    noted = yaml.safe_load((folder / "run/run.yaml").read_text())["input"]
    assert (noted["source"], noted["prompts"]) == ("images", TEXTS)
    (folder / "p.txt").unlink()
    code, out, err = mmel("eval", folder / "run", "--metrics", "insertion,caption-change", "--json", *QUICK)
    assert code == 0, err
    measured = {name: metric["runs"]["run"]["records"] for name, metric in json.loads(out)["metrics"].items()}
    assert measured == {"insertion": 12, "caption-change": 12}
    training = ["--objective", "faithfulness", "--set", "training.epochs=1", "--set", "training.validation=0.4"]
    code, _, err = mmel("train-weights", folder / "run", "--out", folder / "w.safetensors", *training)
    assert code == 0, err
    code, _, err = mmel("fuse", folder / "run", "--weights", folder / "w.safetensors", "--out", folder / "fused")
    assert code == 0, err
    assert yaml.safe_load((folder / "fused/run.yaml").read_text())["input"]["prompts"] == TEXTS
    assert mmel("merge", folder / "run", "--out", folder / "one.h5")[0] == 0
    code, out, err = mmel(
        "eval", folder / "one.h5", "--metrics", "insertion", "--out", folder / "e", "--data", folder / "in"
    )
    assert "give the run folder" in out + err

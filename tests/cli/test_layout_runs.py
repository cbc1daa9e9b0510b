"""COCO, tables and tars through every command: the same pairs give the same numbers, and are found again."""

import json

import numpy as np
import pytest
import yaml
from layouts import LAYOUTS, image_name, pairs

from mmel_cli import load_archive

QUICK = ["--set", "comparison.resamples=99", "--set", "faithfulness.steps=3"]


@pytest.fixture(scope="module")
def expected(tiny, tmp_path_factory):
    """The records of the same pairs from an imagefolder."""
    from layouts import png, write

    from mmel_cli.config import load_config
    from mmel_cli.pipelines.explain import explain

    folder, rows = tmp_path_factory.mktemp("same"), []
    for name, image, _, _, captions in pairs():
        write(folder / f"{name}.png", png(image))
        rows += [json.dumps({"file_name": f"{name}.png", "text": text}) for text in captions]
    write(folder / "metadata.jsonl", "\n".join(rows))
    options = {"model": str(tiny), "device": "cpu", "batch_size": 5, "heatmaps": False}
    explain(folder, folder / "run", load_config(None, (), options))
    with load_archive(folder / "run") as archive:
        return [(record.caption, record.score, record.map) for record in archive]


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_command_works_on_a_layout(layout, expected, tiny, tmp_path, mmel):
    write, said, _ = LAYOUTS[layout]
    data, run = write(tmp_path / "data"), tmp_path / "run"
    code, _, err = mmel("explain", data, "--out", run, "--model", tiny, "--batch-size", 5, "--device", "cpu")
    assert code == 0, err
    assert f"Input: {said}" in err
    with load_archive(run) as archive:
        assert archive.ids == [f"{image_name(layout, n)}#{k}" for n in range(7) for k in (0, 1)]
        for record, (caption, score, values) in zip(archive, expected, strict=True):
            assert (record.caption, record.score) == (caption, score)
            assert np.array_equal(record.map, values)
    noted = yaml.safe_load((run / "run.yaml").read_text())["input"]
    assert noted == {"source": layout, "path": str(data), "layout": said}

    code, out, err = mmel("eval", run, "--metrics", "insertion,pixel-ap", "--json", *QUICK)
    assert code == 0, err
    assert f"input {data}" in err
    measured = {name: metric["runs"]["run"]["records"] for name, metric in json.loads(out)["metrics"].items()}
    assert measured == {"insertion": 14, "pixel-ap": 14}

    weights = tmp_path / "w.safetensors"
    training = ["--json", "--set", "training.epochs=1", "--set", "training.validation=0.4"]
    code, out, err = mmel("train-weights", run, "--out", weights, *training)
    assert code == 0, err
    assert sum(json.loads(out)["records"].values()) == 14
    code, _, err = mmel("fuse", run, "--weights", weights, "--out", tmp_path / "fused")
    assert code == 0, err
    assert len(list((tmp_path / "fused/heatmaps").rglob("*.jpg"))) == 14
    assert yaml.safe_load((tmp_path / "fused/run.yaml").read_text())["input"] == noted | {"fused_from": str(run)}


@pytest.mark.parametrize(("layout", "file"), [("table", "captions.csv"), ("tar", "00001.tar")])
def test_train_weights_takes_a_dataset_that_is_one_file(layout, file, tiny, tmp_path, mmel):
    data = LAYOUTS[layout][0](tmp_path / "data")
    command = ["train-weights", data / file, "--out", tmp_path / "w.safetensors", "--model", tiny, "--json"]
    command += ["--set", "training.epochs=1", "--set", "training.validation=0.4"]
    code, out, err = mmel(*command)
    assert code == 0, err
    assert sum(json.loads(out)["records"].values()) == (14 if layout == "table" else 6)


def test_columns_named_on_the_command_line_reach_eval(tiny, tmp_path, mmel):
    data = LAYOUTS["table"][0](tmp_path / "data")
    text = (data / "captions.csv").read_text()
    (data / "captions.csv").write_text(text.replace("filepath\ttitle", "picture\twords"))
    command = ["explain", data, "--out", tmp_path / "run", "--model", tiny, "--device", "cpu"]
    code, _, err = mmel(*command)
    assert code == 2
    assert "captions.csv has the columns picture, words, mask; name one with --image-column and one with " in err
    code, _, err = mmel(*command, "--image-column", "picture", "--caption-column", "words", "--limit", 3)
    assert code == 0, err
    noted = yaml.safe_load((tmp_path / "run/run.yaml").read_text())["input"]
    assert (noted["image_column"], noted["caption_column"]) == ("picture", "words")
    code, out, err = mmel("eval", tmp_path / "run", "--metrics", "pixel-ap", "--json", *QUICK)
    assert code == 0, err
    assert json.loads(out)["metrics"]["pixel-ap"]["runs"]["run"]["records"] == 3

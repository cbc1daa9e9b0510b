"""Every command, end to end, on a model without a class token."""

import json
import shutil

import numpy as np
import pytest
from zoo import make_model

from mmel_cli import load_archive
from mmel_cli.model import load_model


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("siglip") / "m", "siglip")


@pytest.fixture(scope="module")
def masked(photos, tmp_path_factory):
    """The photos, each with a box."""
    folder = tmp_path_factory.mktemp("masked") / "in"
    shutil.copytree(photos, folder)
    path = folder / "metadata.jsonl"
    rows = [json.loads(line) | {"boxes": [[3, 4, 20, 25]]} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_explain_train_fuse_and_eval_run_on_siglip(siglip, masked, tmp_path, mmel):
    common = ["--model", siglip, "--batch-size", 7, "--device", "cpu"]
    code, _, err = mmel("explain", masked, "--out", tmp_path / "run", *common)
    assert code == 0, err
    assert mmel("verify", tmp_path / "run")[0] == 0
    spec = load_model(str(siglip), "cpu", "float32").spec
    with load_archive(tmp_path / "run") as archive:
        assert archive.info.layers == (1, 2, 3, 4)
        for record in archive:
            assert record.map.std() > 0
            assert record.logit == pytest.approx(spec.scoring.logit(record.score), abs=1e-4)
    weights = tmp_path / "w.safetensors"
    train = ["--set", "training.epochs=3", "--set", "training.validation=0.3"]
    code, out, err = mmel("train-weights", tmp_path / "run", "--out", weights, "--device", "cpu", *train)
    assert code == 0, err
    code, _, err = mmel("fuse", tmp_path / "run", "--weights", weights, "--out", tmp_path / "fused")
    assert code == 0, err
    code, _, err = mmel("explain", masked, "--out", tmp_path / "anew", *common, "--weights", weights)
    assert code == 0, err
    with load_archive(tmp_path / "fused") as fused, load_archive(tmp_path / "anew") as anew:
        for record in fused:
            np.testing.assert_allclose(record.map, anew[record.id].map, rtol=1e-4, atol=1e-6)
    with load_archive(tmp_path / "fused") as fused, load_archive(tmp_path / "run") as run:
        for role in ("config", "tokenizer", "processor"):
            assert fused.info.identity[f"{role} (SHA-256)"] == run.info.identity[f"{role} (SHA-256)"]
    metrics = "insertion,deletion-probability,pointing-game,randomisation,token-deletion,max-sensitivity"
    code, out, err = mmel("eval", tmp_path / "run", tmp_path / "fused", "--metrics", metrics, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert report["metrics"]["pointing-game"]["runs"]["run"]["records"] == 24
    assert report["metrics"]["randomisation"]["runs"]["run"]["mean"] < 0.9
    assert report["refused"] == {}


def test_every_method_says_what_it_does_without_a_class_token(mmel):
    from mmel_cli.attribution import METHODS

    out = mmel("methods")[1]
    for method in METHODS.values():
        assert method.on_probe in out.replace("\n", " ")
    assert "on_probe" in json.loads(mmel("methods", "--json")[1])["flow"]
    assert "parameters (--set method.NAME=VALUE): layers=all text_layers=all gradient=balanced shifts=1 zooms=[]" in out
    assert "needs: the model itself, to look again at altered images and captions; random numbers drawn from" in out


def test_a_training_that_learns_nothing_says_so(tiny, masked, tmp_path, mmel):
    """One epoch at a learning rate that moves nothing: the file holds the untrained start."""
    rate = ["--set", "training.epochs=1", "--set", "training.learning_rate=1e-30", "--set", "training.validation=0.3"]
    code, _, err = mmel("train-weights", masked, "--out", tmp_path / "w.safetensors", "--model", tiny, *rate)
    assert code == 0, err
    assert "Nothing was learned: no epoch was better than the untrained start" in err.replace("\n", " ")
    assert "-" not in err.rsplit("records/s", 1)[-1].split("s left")[0]

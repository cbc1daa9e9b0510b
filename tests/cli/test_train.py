"""`mmel train-weights` and `mmel fuse` as a user runs them: datasets and archives in, weights and new runs out."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from tiny_clip import make_tiny

from mmel_cli import load_archive
from mmel_cli.attribution import METHODS, Target
from mmel_cli.attribution.weights import save_weights, untrained
from mmel_cli.model import FAMILIES

FEW = ["--set", "training.epochs=3", "--set", "training.batch=16", "--set", "training.validation=0.4"]
FEW += ["--set", "training.learning_rate=0.2", "--set", "training.seed=1"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory, tiny):
    """Scenes, and a run of them with all channels and untrained weights."""
    from mmel_cli import explain, load_config
    from mmel_cli.data.scenes.folder import write_scenes

    root = tmp_path_factory.mktemp("trained")
    write_scenes(root / "in", 8, 3, side=64)
    settings = {"model": str(tiny), "heatmaps": False, "device": "cpu", "method.weights": "untrained"}
    explain(root / "in", root / "run", load_config(None, (), settings))
    return root


@pytest.fixture(scope="module")
def weights(scenes):
    from mmel_cli import load_train_config, train_weights

    path = scenes / "weights.safetensors"
    options = {"training.epochs": 8, "training.validation": 0.4, "training.learning_rate": 0.2, "training.seed": 1}
    train_weights(scenes / "run", path, load_train_config(None, (), options))
    return path


def test_localization_from_an_archive_lowers_the_objective_and_says_what_it_did(scenes, tmp_path, mmel, tiny):
    out = tmp_path / "w.safetensors"
    command = ["train-weights", scenes / "run", "--out", out, "--json", *FEW, "--set", "training.patience=9"]
    code, text, err = mmel(*command)
    assert code == 0, err
    report = json.loads(text)
    assert report["epochs"] == 3
    assert report["after"]["localization"] < report["before"]["localization"]
    with load_archive(scenes / "run") as archive:
        assert sum(report["records"].values()) + report["unusable"] == len(archive)
        sha256 = archive.info.model_sha256
    with safe_open(out, "pt") as file:
        notes = json.loads(file.metadata()["mmel"])
    assert (notes["model"], notes["model_sha256"], notes["objective"]) == (str(tiny), sha256, "localization")
    assert notes["after"] == report["after"]
    assert notes["data"]["records"] == report["records"]
    work = tmp_path / "w.training"
    assert {"curve.png", "curve.svg", "weights.png", "training.jsonl"} <= {path.name for path in work.iterdir()}
    assert Image.open(work / "weights.png").size[0] > 400
    epochs = [json.loads(line)["epoch"] for line in (work / "training.jsonl").read_text().splitlines()]
    assert epochs == [0, 1, 2, 3]


def test_fusing_an_archive_equals_explaining_with_the_weights(scenes, weights, tiny, tmp_path, mmel):
    command = ["explain", scenes / "in", "--model", tiny, "--weights", weights, "--device", "cpu"]
    assert mmel(*command, "--out", tmp_path / "explained", "--set", "heatmap.max_side=64")[0] == 0
    code, _, err = mmel("fuse", scenes / "run", "--weights", weights, "--out", tmp_path / "fused")
    assert code == 0, err
    with (
        load_archive(tmp_path / "explained") as one,
        load_archive(tmp_path / "fused") as two,
        load_archive(scenes / "run") as before,
    ):
        assert one.ids == two.ids
        moved = 0.0
        for a, b, c in zip(one, two, before, strict=True):
            np.testing.assert_allclose(b.map, a.map, rtol=1e-4, atol=1e-5 * np.abs(a.map).max())
            np.testing.assert_array_equal(b.fields["layers/flow"], c.fields["layers/flow"])
            np.testing.assert_array_equal(b.token_map, c.token_map)
            moved = max(moved, float(np.abs(b.map / np.abs(b.map).max() - c.map / np.abs(c.map).max()).max()))
        assert moved > 0.01  # the weights do something
        assert two.info.described["weights_sha256"] == one.info.described["weights_sha256"]
        assert len(list((tmp_path / "fused/heatmaps").rglob("*.jpg"))) == len(two)
    assert mmel("verify", tmp_path / "fused")[0] == 0
    code, out, _ = mmel("eval", scenes / "run", tmp_path / "fused", "--metrics", "pixel-ap,insertion", "--json",
                        "--set", "comparison.resamples=99", "--set", "faithfulness.steps=3")  # fmt: skip
    assert code == 0
    assert set(json.loads(out)["metrics"]["insertion"]["runs"]) == {"run", "fused"}


def test_a_fused_run_does_not_go_on_with_another_version_of_the_fusion(scenes, weights, tmp_path, mmel, monkeypatch):
    command = ["fuse", scenes / "run", "--weights", weights, "--out", tmp_path / "out", "--no-heatmaps"]
    assert mmel(*command)[0] == 0
    version = METHODS["mmel"].version
    monkeypatch.setitem(METHODS, "mmel", dataclasses.replace(METHODS["mmel"], version="next"))
    code, _, err = mmel(*command)
    assert code == 2
    assert f"version of method mmel was {version}, is now next" in err


def test_an_older_archive_is_of_the_gradient_that_made_it(tmp_path, mmel):
    """It does not name one: today's default, balanced, did not make its evidence, and weights for that do not fit."""
    old = Path(__file__).parents[1] / "archive/assets/version1.h5"
    with load_archive(old) as archive:
        info = archive.info
    target, files = Target(info.model, info.model_sha256, info.layers), {}
    for gradient in ("plain", "balanced"):
        files[gradient] = tmp_path / f"{gradient}.safetensors"
        save_weights(files[gradient], untrained(2, (1, 2)), target, {"gradient": gradient, "temperature": 0.1})
    code, _, err = mmel("fuse", old, "--weights", files["balanced"], "--out", tmp_path / "out", "--no-heatmaps")
    assert code == 2
    assert "balanced.safetensors: trained for another gradient" in err
    assert "balanced / plain" in err
    code, _, err = mmel("fuse", old, "--weights", files["plain"], "--out", tmp_path / "out", "--no-heatmaps")
    assert code == 0, err
    with load_archive(tmp_path / "out") as fused:
        assert fused.info.config["method"]["gradient"] == fused.info.gradient == "plain"


def test_fuse_goes_on_and_needs_channels(scenes, weights, tiny, tmp_path, mmel):
    command = ["fuse", scenes / "run", "--weights", weights, "--out", tmp_path / "out", "--no-heatmaps"]
    assert mmel(*command)[0] == 0
    code, out, _ = mmel(*command, "--json")
    assert code == 0
    assert json.loads(out)["resumed"] == json.loads(out)["done"] > 0
    code, _, err = mmel(*command[:3], "untrained", *command[4:])
    assert code == 2
    assert "--overwrite" in err
    mmel("explain", scenes / "in", "--out", tmp_path / "flow", "--model", tiny, "--method", "flow", "--limit", 2)
    code, _, err = mmel("fuse", tmp_path / "flow", "--weights", weights, "--out", tmp_path / "never")
    assert code == 1
    assert "archive.channels=all" in err.splitlines()[-1]


def test_weights_of_another_model_are_refused_unless_transferred(scenes, weights, tiny, tmp_path, mmel):
    other = make_tiny(tmp_path / "other", seed=9)
    command = ["explain", scenes / "in", "--model", other, "--weights", weights, "--limit", 2]
    code, _, err = mmel(*command, "--out", tmp_path / "a")
    assert code == 2
    assert str(tiny) in err
    assert str(other) in err
    code, _, err = mmel(*command, "--out", tmp_path / "b", "--transfer")
    assert code == 0
    assert f"carried over from {tiny}" in err
    fewer = ["--out", tmp_path / "c", "--set", "method.layers=[1,2]"]
    assert mmel(*command, *fewer, "--transfer")[0] == 0  # omega is read at relative depths
    command[command.index(other)] = tiny
    code, _, err = mmel(*command, *fewer[:1], tmp_path / "d", *fewer[2:])
    assert code == 2
    assert "trained for another layers" in err


def test_faithfulness_needs_no_labels_and_a_dataset_is_explained_first(photos, tiny, tmp_path, mmel, monkeypatch):
    loads = []
    monkeypatch.setitem(FAMILIES, "clip", lambda *given, load=FAMILIES["clip"]: loads.append(given) or load(*given))
    shutil.copytree(photos, tmp_path / "in")
    out = tmp_path / "w.safetensors"
    command = ["train-weights", tmp_path / "in", "--out", out, "--model", tiny, "--objective", "faithfulness", *FEW]
    code, text, err = mmel(*command, "--json", "--set", "training.epochs=8", "--set", "training.patience=8")
    assert code == 0, err
    report = json.loads(text)
    assert report["after"]["faithfulness"] <= report["before"]["faithfulness"]
    assert len(loads) == 1  # to explain and to train
    steps = [json.loads(line) for line in (tmp_path / "w.training/training.jsonl").read_text().splitlines()]
    assert steps[-1]["train"] < steps[1]["train"]  # the model is random: only what it saw must get better
    assert report["records"]["train"] > report["records"]["validation"] > 0
    assert (tmp_path / "w.training/run/archive").is_dir()
    code, _, err = mmel("train-weights", tmp_path / "in", "--out", tmp_path / "no.safetensors", "--model", tiny)
    assert code == 2
    assert "mask or boxes" in err.splitlines()[-1]


def test_both_objectives_at_once(scenes, tmp_path, mmel):
    command = ["train-weights", scenes / "run", "--out", tmp_path / "w.safetensors", "--objective", "both", "--json"]
    code, text, err = mmel(*command, *FEW)
    assert code == 0, err
    parts = {"energy", "cosine", "peak", "localization", "kept", "removed", "faithfulness"}
    assert set(json.loads(text)["after"]) == parts


def test_a_stopped_training_keeps_the_best_and_goes_on_to_the_same_weights(scenes, tmp_path, mmel):
    settings = ["--set", "training.epochs=16", "--set", "training.batch=2", "--set", "training.patience=16"]
    settings += ["--set", "training.validation=0.4"]
    out = tmp_path / "part.safetensors"
    command = [sys.executable, "-m", "mmel_cli", "train-weights", scenes / "run", "--out", out, *settings]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    log = tmp_path / "part.training/training.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") >= 3):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.exists()
    assert log.read_text().count("\n") < 17
    code, _, err = mmel(*command[3:])
    assert code == 0
    assert "Going on after epoch" in err
    assert mmel("train-weights", scenes / "run", "--out", tmp_path / "whole.safetensors", *settings)[0] == 0
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    code, _, err = mmel(*command[3:], "--set", "training.seed=1")
    assert code == 2
    assert "--overwrite" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{run}", "--out", "w.txt"], ".safetensors"),
        (["{run}", "--out", "{out}/w.safetensors", "--objective", "magic"], "training.objective"),
        (["{run}", "--out", "{out}/w.safetensors", "--set", "method.name=flow"], "no weights to learn"),
        (["{run}", "--out", "{out}/w.safetensors", "--set", "training.epoch=3"], "did you mean epochs"),
        (["{run}", "--out", "{out}/w.safetensors", "--data", "{out}/none"], "none"),
    ],
)
def test_usage_errors(scenes, tmp_path, mmel, arguments, says):
    code, _, err = mmel("train-weights", *(a.format(run=scenes / "run", out=tmp_path) for a in arguments))
    assert code == 2
    assert says in err.splitlines()[-1]


def test_weights_that_got_lost_are_written_again_by_the_same_command(scenes, tmp_path, mmel):
    out = tmp_path / "w.safetensors"
    command = ["train-weights", scenes / "run", "--out", out, *FEW]
    assert mmel(*command)[0] == 0
    first = out.read_bytes()
    out.unlink()
    assert mmel(*command)[0] == 0
    assert out.read_bytes() == first


def test_other_masks_are_another_training(scenes, tmp_path, mmel):
    """The same archive with other truth, as in a label-shuffled control, does not go on with the real one's weights."""
    shutil.copytree(scenes / "in", tmp_path / "in")
    command = ["train-weights", scenes / "run", "--out", tmp_path / "w.safetensors", *FEW]
    assert mmel(*command)[0] == 0
    masks = sorted((tmp_path / "in/masks").iterdir())
    assert masks
    for mask in masks:
        Image.fromarray(np.asarray(Image.open(mask))[::-1]).save(mask)
    code, _, err = mmel(*command, "--data", tmp_path / "in")
    assert code == 2
    assert "validation examples (SHA-256) was " in err


def test_pairs_that_fail_are_named_and_the_exit_code_says_so(scenes, tmp_path, mmel, tiny):
    shutil.copytree(scenes / "in", tmp_path / "in")
    broken = sorted((tmp_path / "in/images").iterdir())[0]
    broken.write_bytes(b"")
    command = ["train-weights", tmp_path / "in", "--out", tmp_path / "w.safetensors", "--model", tiny, *FEW]
    code, out, err = mmel(*command, "--json")
    assert code == 3, err
    assert json.loads(out)["failed"] > 0
    named = (tmp_path / "w.training/run/failures.jsonl").read_text()
    assert broken.name in named
    code, out, _ = mmel("train-weights", scenes / "run", "--data", tmp_path / "in", "--out", tmp_path / "v.safetensors",
                        "--objective", "faithfulness", "--json", *FEW)  # fmt: skip
    assert code == 3
    assert broken.name in (tmp_path / "v.training/failures.jsonl").read_text()


def test_fuse_never_writes_where_it_reads(scenes, weights, mmel):
    for out in (scenes / "run", scenes / "run/again", scenes):
        code, _, err = mmel("fuse", scenes / "run", "--weights", weights, "--out", out, "--overwrite")
        assert code == 2
        assert "a folder of its own" in err
    assert mmel("verify", scenes / "run")[0] == 0


def test_fuse_keeps_records_whose_image_is_gone(scenes, weights, tmp_path, mmel):
    shutil.copytree(scenes / "in", tmp_path / "in")
    gone = sorted((tmp_path / "in/images").iterdir())[0]
    gone.unlink()
    command = ["fuse", scenes / "run", "--weights", weights, "--data", tmp_path / "in"]
    assert mmel(*command, "--out", tmp_path / "bare", "--no-heatmaps")[0] == 0
    code, out, _ = mmel(*command, "--out", tmp_path / "drawn", "--json")
    assert code == 3
    with load_archive(scenes / "run") as before, load_archive(tmp_path / "drawn") as drawn:
        assert sorted(drawn.ids) == sorted(before.ids)
        without = json.loads(out)["failed"]
        assert len(list((tmp_path / "drawn/heatmaps").rglob("*.jpg"))) == len(before) - without < len(before)
    with load_archive(tmp_path / "bare") as bare:
        assert len(bare) == len(drawn)


def test_weights_of_another_temperature_are_refused(scenes, weights, tiny, tmp_path, mmel):
    command = ["explain", scenes / "in", "--model", tiny, "--weights", weights, "--out", tmp_path / "o"]
    code, _, err = mmel(*command, "--set", "method.temperature=0.5")
    assert code == 2
    assert "temperature" in err


def test_shifts_keep_a_finer_grid_that_cannot_be_fused_again(scenes, weights, tiny, tmp_path, mmel):
    command = ["explain", scenes / "in", "--model", tiny, "--weights", weights, "--limit", 6, "--device", "cpu"]
    assert mmel(*command, "--out", tmp_path / "five", "--set", "method.shifts=5", "--set", "method.zooms=[0.8]")[0] == 0
    assert mmel(*command, "--out", tmp_path / "one", "--set", "heatmaps=false")[0] == 0
    assert mmel("verify", tmp_path / "five")[0] == 0
    with load_archive(tmp_path / "five") as five, load_archive(tmp_path / "one") as one:
        assert five.info.grid == tuple(2 * side for side in one.info.grid)
        for fine, plain in zip(five, one, strict=True):
            assert fine.map.shape == five.info.grid
            assert fine.fields["layers/flow"].shape == (len(five.info.layers), *five.info.grid)
            assert fine.score == pytest.approx(plain.score, rel=1e-5)
    code, _, err = mmel("fuse", tmp_path / "five", "--weights", weights, "--out", tmp_path / "never")
    assert code == 1
    assert "without shifts" in err
    code, out, err = mmel("eval", tmp_path / "one", tmp_path / "five", "--metrics", "aid,pixel-ap,max-sensitivity",
                          "--json", "--set", "comparison.resamples=99", "--set", "sanity.samples=1")  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["metrics"]["pixel-ap"]["runs"]["five"]["records"] > 0

"""What batches hold of images, and who decides which images are refused and which files are opened."""

import dataclasses
import json
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from mmel_cli import load_archive
from mmel_cli.archive import merge
from mmel_cli.archive.schema import read_info, write_info
from mmel_cli.data import open_source
from mmel_cli.data.images import ImageLimits
from mmel_cli.data.scenes.folder import write_scenes
from mmel_cli.pipelines import batches
from mmel_cli.pipelines.batches import Loader, by_count
from mmel_cli.tensors import Pixels

QUICK = ["--set", "comparison.resamples=99", "--set", "faithfulness.steps=3"]


def pixels(image):
    return Pixels(torch.zeros(3, 2, 2), (0.0, 0.0, float(image.width), float(image.height)))


def test_originals_are_gone_when_a_batch_comes_and_few_are_there_at_once(photos, monkeypatch):
    alive, most, guard = [], [], threading.Lock()
    real = batches.decode

    def counted(ref, limits):
        image = real(ref, limits)
        with guard:
            alive.append(weakref.ref(image))
            most.append(sum(one() is not None for one in alive))
        return image

    monkeypatch.setattr(batches, "decode", counted)
    with ThreadPoolExecutor(9) as pool:
        loader = Loader(
            pool, ImageLimits(), pixels, {"dot": lambda image: image.resize((3, 2))}, threading.Semaphore(2)
        )
        found = list(loader.batches(by_count(open_source(photos), 7), ()))
    assert len(alive) == 14  # 12 images, and of two the captions fall into two batches
    assert max(most) <= 2
    assert all(one() is None for one in alive)
    for batch in found:
        for sample in batch.samples:
            image = batch.images[sample.ref.key]
            assert image.size == Image.open(photos / sample.image).size[::-1]
            assert image.kept["dot"].size == (3, 2)


def test_without_heatmaps_no_copy_is_kept(photos):
    with ThreadPoolExecutor(2) as pool:
        (batch,) = Loader(pool, ImageLimits(), pixels).batches(by_count(open_source(photos), 99), ())
    assert {len(image.kept) for image in batch.images.values()} == {0}


@pytest.fixture
def scenes(tmp_path):
    write_scenes(tmp_path / "in", 3, 4, side=64)
    return tmp_path / "in"


def test_masks_have_the_same_limits_as_images(scenes, tiny, tmp_path, mmel):
    first = json.loads((scenes / "metadata.jsonl").read_text().splitlines()[0])
    mask = scenes / first["mask"]
    Image.fromarray(np.kron(np.asarray(Image.open(mask)), np.ones((9, 9), np.uint8))).save(mask)
    command = ["explain", scenes, "--model", tiny, "--method", "mask", "--set", "heatmaps=false"]
    assert mmel(*command, "--out", tmp_path / "run", "--set", "image.limits.max_pixels=5000")[0] == 3
    failures = [json.loads(line) for line in (tmp_path / "run/failures.jsonl").read_text().splitlines()]
    refused = [
        failure for failure in failures if "576x576 pixels is over image.limits.max_pixels=5000" in failure["error"]
    ]
    assert refused
    assert all(mask.name in failure["error"] for failure in refused)


def rewritten(run, **changes):
    """What a stranger could write into every shard of a run: other attributes, with their checksum."""
    for path in (run / "archive").glob("*.h5"):
        with h5py.File(path, "r+") as file:
            _, info = read_info(file, str(path))
            for name in list(file.attrs):
                del file.attrs[name]
            write_info(file, dataclasses.replace(info, **{key: change(info) for key, change in changes.items()}))


@pytest.fixture
def run(scenes, tiny, tmp_path, mmel):
    command = ["explain", scenes, "--out", tmp_path / "run", "--model", tiny, "--device", "cpu"]
    assert mmel(*command, "--set", "method.weights=untrained", "--set", "heatmaps=false")[0] == 0
    return tmp_path / "run"


def test_an_archive_does_not_raise_the_limits_of_images(run, tmp_path, mmel):
    def raised(info):
        return info.config | {"image": {"geometry": "native", "limits": {"max_pixels": 10**12}}}

    rewritten(run, config=raised)
    tight = ["--set", "image.limits.max_pixels=4000"]
    code, _, err = mmel("eval", run, "--metrics", "insertion,pixel-ap", *QUICK, *tight)
    assert code == 3, err
    failures = [json.loads(line) for line in (run / "eval/failures.jsonl").read_text().splitlines()]
    with load_archive(run) as archive:
        assert len(failures) == len(archive)
    assert all("64x64 pixels is over image.limits.max_pixels=4000" in failure["error"] for failure in failures)
    code, _, err = mmel("fuse", run, "--weights", "untrained", "--out", tmp_path / "fused", *tight)
    assert code == 3, err
    assert "max_pixels=4000" in (tmp_path / "fused/failures.jsonl").read_text()
    noted = yaml.safe_load((tmp_path / "fused/run.yaml").read_text())["config"]["image"]["limits"]
    assert noted["max_pixels"] == 4000
    command = ["train-weights", run, "--out", tmp_path / "w.safetensors", "--objective", "faithfulness"]
    assert mmel(*command, *tight)[0] != 0
    assert "max_pixels=4000" in (tmp_path / "w.training/failures.jsonl").read_text()


def test_an_archive_alone_names_neither_model_nor_weights(run, scenes, tiny, tmp_path, mmel):
    lone = tmp_path / "all.h5"
    merge(run, lone)
    command = ["eval", lone, "--out", tmp_path / "out", "--json", "--metrics", "insertion,sparseness", *QUICK]
    code, out, _ = mmel(*command)
    assert code == 3
    assert "input cannot be read (no run.yaml" in json.loads(out)["refused"]["all"]["insertion"]
    code, out, _ = mmel(*command, "--data", scenes)
    assert code == 3
    assert "where the model of" in json.loads(out)["refused"]["all"]["insertion"]
    assert "give --model" in json.loads(out)["refused"]["all"]["insertion"]
    code, out, err = mmel(*command, "--data", scenes, "--model", tiny)
    assert code == 0, err
    assert f"model {tiny}" in err

    secret = tmp_path / "secret.safetensors"
    secret.write_text("not for strangers")
    rewritten(run, config=lambda info: info.config | {"method": info.config["method"] | {"weights": str(secret)}})
    shutil.move(run / "run.yaml", tmp_path / "kept.yaml")
    command = ["eval", run, "--json", "--data", scenes, "--model", tiny, "--metrics", "max-sensitivity", *QUICK]
    code, out, _ = mmel(*command)
    assert code == 3
    assert "where the weights file of" in json.loads(out)["refused"]["run"]["max-sensitivity"]
    assert "secret" not in out
    code, _, err = mmel("fuse", run, "--weights", "untrained", "--out", tmp_path / "fused", "--data", scenes)
    assert code == 0, err
    noted = yaml.safe_load((tmp_path / "fused/run.yaml").read_text())
    assert "name" not in noted["model"]  # what the archive said does not become what a run.yaml says
    assert noted["input"]["path"] == str(scenes)


def test_the_builtin_model_is_known_by_its_name(scenes, tmp_path, mmel):
    command = ["explain", scenes, "--out", tmp_path / "run", "--model", "builtin", "--limit", 2]
    assert mmel(*command, "--set", "heatmaps=false")[0] == 0
    merge(tmp_path / "run", tmp_path / "all.h5")
    command = ["eval", tmp_path / "all.h5", "--out", tmp_path / "out", "--data", scenes, "--metrics", "insertion"]
    code, _, err = mmel(*command, *QUICK)
    assert code == 0, err
    assert "all: model builtin" in err

"""One batch: memory that runs out, maps that are not finite, and a GPU when there is one."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from mmel_cli import load_archive
from mmel_cli.attribution import METHODS
from mmel_cli.config import load_config
from mmel_cli.model import load_model
from mmel_cli.pipelines.engine import Engine
from mmel_cli.pipelines.explain import explain


@pytest.fixture
def settings(tiny):
    return {"model": str(tiny), "device": "cpu", "heatmaps": False, "batch_size": 8}


def test_a_batch_that_does_not_fit_is_explained_in_halves(photos, settings, tmp_path, monkeypatch):
    explain(photos, tmp_path / "whole", load_config(None, (), settings))
    real, sizes = Engine._explain, []

    def small_memory(engine, batch, truth, shared):
        sizes.append(len(batch.samples))
        if len(batch.samples) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(engine, batch, truth, shared)

    monkeypatch.setattr(Engine, "_explain", small_memory)
    summary, _ = explain(photos, tmp_path / "halves", load_config(None, (), settings))
    assert (summary.done, summary.failed) == (24, 0)
    assert sizes[:4] == [8, 4, 2, 2]
    with load_archive(tmp_path / "whole") as one, load_archive(tmp_path / "halves") as other:
        assert one.ids == other.ids
        np.testing.assert_allclose(one.column("map"), other.column("map"), rtol=1e-4, atol=1e-7)


def test_a_pair_that_exhausts_the_memory_alone_is_a_failure_and_the_rest_goes_on(
    photos, settings, tmp_path, monkeypatch
):
    real = Engine._explain

    def small_memory(engine, batch, truth, shared):
        if any(sample.id == "01.png#0" for sample in batch.samples):
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return real(engine, batch, truth, shared)

    monkeypatch.setattr(Engine, "_explain", small_memory)
    summary, _ = explain(photos, tmp_path / "run", load_config(None, (), settings))
    assert (summary.done, summary.failed_by_stage) == (23, {"model": 1})
    [line] = (tmp_path / "run/failures.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "01.png#0"
    assert "exhausts the device's memory by itself" in json.loads(line)["error"]


@pytest.mark.parametrize("kind", ["map", "layers/flow"])
def test_a_map_that_is_not_finite_is_a_failure_of_its_pair_alone(photos, settings, tmp_path, monkeypatch, kind):
    method = METHODS["flow"]

    def spoiled(capture, params, state):
        found = method.explain(capture, params, state)
        broken = found.fields[kind].clone()
        broken[2].view(-1)[0] = torch.nan
        return dataclasses.replace(found, fields=found.fields | {kind: broken})

    monkeypatch.setitem(METHODS, "flow", dataclasses.replace(method, explain=spoiled))
    config = load_config(None, ["limit=8"], settings | {"method.name": "flow"})
    summary, _ = explain(photos, tmp_path / "run", config)
    assert (summary.done, summary.failed_by_stage) == (7, {"model": 1})
    assert '"01.png#0"' in (tmp_path / "run/failures.jsonl").read_text()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", [name for name in METHODS if name != "mask"])  # the photos have no masks
@pytest.mark.parametrize(("dtype", "correlation"), [("float32", 0.9999), ("bfloat16", 0.95), ("float16", 0.99)])
def test_cuda_agrees_with_the_cpu(photos, settings, tmp_path, method, dtype, correlation):
    maps = []
    for device, kind in (("cpu", "float32"), ("cuda", dtype)):
        given = settings | {"device": device, "dtype": kind, "method.name": method}
        explain(photos, tmp_path / device, load_config(None, (), given))
        with load_archive(tmp_path / device) as archive:
            maps.append(archive.column("map").reshape(24, -1))
    for one, other in zip(*maps, strict=True):
        if one.std() > 0:
            assert np.corrcoef(one, other)[0, 1] > correlation


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_auto_takes_the_gpu(tiny):
    assert load_model(str(tiny), "auto", "auto").spec.device.startswith("cuda")


def test_an_unexpected_error_loses_nothing_that_was_finished(photos, settings, tmp_path, monkeypatch):
    real, calls = Engine._explain, []

    def breaks_later(engine, batch, truth, shared):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("on purpose")
        return real(engine, batch, truth, shared)

    monkeypatch.setattr(Engine, "_explain", breaks_later)
    with pytest.raises(RuntimeError, match="on purpose"):
        explain(photos, tmp_path / "run", load_config(None, (), settings))
    with load_archive(tmp_path / "run") as archive:
        assert len(archive) == 8  # the second batch was still waiting for its pictures
    monkeypatch.undo()
    summary, _ = explain(photos, tmp_path / "run", load_config(None, (), settings))
    assert (summary.resumed, summary.done) == (8, 24)

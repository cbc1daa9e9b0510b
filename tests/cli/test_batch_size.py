"""--batch-size auto: the number that is found, where it is kept, and that a run goes on with it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from quick import PARAMS

from mmel_cli import load_archive
from mmel_cli.attribution import METHODS, find_method
from mmel_cli.config import load_config, method_of
from mmel_cli.data.images import ImageLimits
from mmel_cli.errors import UsageError
from mmel_cli.model import LeftOut, load_model
from mmel_cli.model.word_shares import WordOptions
from mmel_cli.pipelines import batch_size
from mmel_cli.pipelines.engine import Engine
from mmel_cli.pipelines.regions import Words


def explain(mmel, photos, out, tiny, *more):
    given = ("--model", tiny, "--device", "cpu", "--set", "heatmaps=false", "--set", "report=false")
    code, printed, err = mmel("explain", photos, "--out", out, *given, *more)
    assert code == 0, err
    return printed, err


def notes(run):
    return yaml.safe_load((run / "run.yaml").read_text())


def scripted(monkeypatch, rates):
    """Measure these pairs a second, by size; None: memory runs out."""
    asked = []

    def measured(_engines, size, *, against):
        asked.append(size)
        return (rates[size], 0.1) if rates[size] else (None, 0.0)

    monkeypatch.setattr(batch_size, "_measured", measured)
    return asked


def same(one, other):
    with load_archive(one) as mine, load_archive(other) as theirs:
        assert mine.ids == theirs.ids
        for record, twin in zip(mine, theirs, strict=True):
            assert record.score == twin.score
            for name, values in twin.fields.items():
                np.testing.assert_array_equal(record.fields[name], values)


def test_a_real_search_is_noted_and_gives_what_its_number_gives(mmel, photos, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(batch_size, "CEILING", 8)
    printed, err = explain(mmel, photos, tmp_path / "auto", tiny, "--batch-size", "auto", "--json", "--limit", 9)
    assert json.loads(printed)["done"] == 9
    noted = notes(tmp_path / "auto")
    size = noted["config"]["batch_size"]
    assert size in (1, 2, 4, 8)
    assert noted["batch_size_found"].startswith("pairs a second: ")
    assert f"Batch size: {size} ({noted['batch_size_found']})" in err
    with load_archive(tmp_path / "auto") as archive:
        assert archive.info.config["batch_size"] == size
        assert archive.info.described["batch_size_found"] == noted["batch_size_found"]
    explain(mmel, photos, tmp_path / "plain", tiny, "--batch-size", size, "--limit", 9)
    same(tmp_path / "auto", tmp_path / "plain")
    assert "batch_size_found" not in notes(tmp_path / "plain")


def test_a_run_goes_on_with_the_number_of_its_folder(mmel, photos, tmp_path, tiny, monkeypatch):
    asked = scripted(monkeypatch, {1: 10.0, 2: 19.0, 4: 30.0, 8: 31.0, 16: 29.0})
    auto = ("--batch-size", "auto", "--set", "archive.shard_size=7")
    _, err = explain(mmel, photos, tmp_path / "run", tiny, *auto, "--limit", 11)
    assert asked == [1, 2, 4, 8, 16]
    found = "pairs a second: 10 with 1, 19 with 2, 30 with 4, 31 with 8, 29 with 16; larger ones gain less than 5 %"
    assert f"Batch size: 4 ({found})" in err
    _, err = explain(mmel, photos, tmp_path / "run", tiny, *auto)
    assert "Batch size: 4, with which the folder was begun" in err
    assert asked == [1, 2, 4, 8, 16]  # nobody looked again
    noted = notes(tmp_path / "run")
    assert (noted["config"]["batch_size"], noted["batch_size_found"]) == (4, found)
    explain(mmel, photos, tmp_path / "plain", tiny, "--batch-size", 4, "--set", "archive.shard_size=7")
    same(tmp_path / "run", tmp_path / "plain")
    _, err = explain(mmel, photos, tmp_path / "plain", tiny, *auto)  # a number that was given is the folder's too
    assert "Batch size: 4, with which" in err
    explain(mmel, photos, tmp_path / "run", tiny, *auto, "--overwrite", "--limit", 2)
    assert len(asked) == 10


def test_several_methods_share_one_number(mmel, photos, tmp_path, tiny, monkeypatch):
    asked = scripted(monkeypatch, {1: 10.0, 2: 20.0, 4: None})
    _, err = explain(mmel, photos, tmp_path / "out", tiny, "--batch-size", "auto", "--method", "flow,gae", "--limit", 5)
    assert asked == [1, 2, 4]
    for method in ("flow", "gae"):
        noted = notes(tmp_path / "out" / method)
        assert noted["config"]["batch_size"] == 2
        assert noted["batch_size_found"].endswith("; memory ends at 4")
    assert err.count("Batch size: 2 ") == 1


@pytest.mark.parametrize(
    ("rates", "size", "why"),
    [
        ([10, 20, 40, 80, 160, 320, 640, 1280, 2560], 256, "larger ones are not tried"),
        ([10, 9, 12, 12.5, 12.4], 4, "larger ones gain less than 5 %"),  # a step that gains nothing is looked behind
        ([10, 10.4, 10.8, 10.9, 11], 4, "larger ones gain less than 5 %"),  # small gains add up
        ([10, 20, None], 2, "memory ends at 4"),
        ([None], 1, "memory ends at 1"),
    ],
)
def test_the_smallest_size_that_no_other_beats_is_found(monkeypatch, tiny, rates, size, why):
    scripted(monkeypatch, {2**n: rate for n, rate in enumerate(rates)})
    engine = Engine.build(load_model(str(tiny), "cpu", "float32"), *method("flow"))
    chosen = batch_size.find([engine])
    assert chosen.size == size
    assert chosen.note.endswith(why)


def method(name):
    return find_method(name), method_of({"method": {"name": name} | PARAMS.get(name, {})}).params


def test_memory_that_ends_ends_the_search_and_is_no_failure(monkeypatch, tiny):
    clock = iter(range(10_000))
    monkeypatch.setattr(batch_size, "time", SimpleNamespace(perf_counter=lambda: next(clock) * 0.3))
    model = load_model(str(tiny), "cpu", "float32")
    capture, sizes = model.capture, []

    def small(images, *given, **more):
        sizes.append(len(images))
        if len(images) > 4:
            raise torch.OutOfMemoryError("of a device with room for four")
        return capture(images, *given, **more)

    monkeypatch.setattr(model, "capture", small)
    chosen = batch_size.find([Engine.build(model, *method("mmel"))])
    assert chosen.size == 4
    assert chosen.note.endswith("memory ends at 8")
    assert max(sizes) == 8  # not halved
    monkeypatch.setattr(model, "capture", lambda *_given, **_more: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # what is no lack of memory is not taken for one
        batch_size.find([Engine.build(model, *method("mmel"))])


def test_a_cpu_is_not_driven_out_of_memory(monkeypatch, tiny):
    scripted(monkeypatch, {2**n: 2.0**n for n in range(9)})
    resident = iter([1e9, *(1e9 + 2.0**n * 1e6 for n in range(9))])
    monkeypatch.setattr(batch_size, "_resident", lambda: next(resident))
    monkeypatch.setattr(batch_size, "_available", lambda: 30e6)
    chosen = batch_size.find([Engine.build(load_model(str(tiny), "cpu", "float32"), *method("flow"))])
    assert (chosen.size, chosen.note.split("; ")[1]) == (16, "larger ones may exhaust this machine's memory")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_looked_for(monkeypatch, tiny, name):
    monkeypatch.setattr(batch_size, "CEILING", 2)
    monkeypatch.setattr(batch_size, "_ENOUGH", 0.0)
    model = load_model(str(tiny), "cpu", "float32")
    words = Words.of(model, WordOptions(regions=True, texts=8)) if name in ("mmel", "gae") else None
    engine = Engine.build(model, *method(name), ImageLimits(), left_out=LeftOut(model), words=words)
    against = not METHODS[name].of_one_score
    assert batch_size.find([engine], against=against).size in (1, 2)


@pytest.mark.parametrize("wrong", ["0", "-3", "many", "2.5", "true", "Auto", "[4]"])
def test_what_is_no_size_is_refused_by_name(mmel, photos, tmp_path, wrong):
    with pytest.raises(UsageError, match="batch_size: must be a number of pairs of at least 1, or auto"):
        load_config(None, [f"batch_size={wrong}"])
    code, _, err = mmel("explain", photos, "--out", tmp_path / "run", f"--batch-size={wrong}")
    assert code == 2
    assert "batch_size: must be a number of pairs" in err


def test_a_configuration_may_say_auto(tmp_path, mmel, photos):
    (tmp_path / "c.yaml").write_text("batch_size: auto\n")
    assert load_config(tmp_path / "c.yaml").batch_size == "auto"
    assert load_config(None, (), {"batch_size": "12"}).batch_size == 12
    code, _, err = mmel("train-weights", photos, "--out", tmp_path / "w.safetensors", "--set", "batch_size=auto")
    assert (code, "batch_size" in err) == (2, True)

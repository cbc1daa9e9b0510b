"""`mmel explain --method a,b,c`: one pass, and in each folder what the method gives alone, to the bit."""

import json
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import torch
import yaml
from zoo import make_model

from mmel_cli import load_archive
from mmel_cli.pipelines import engine as engines

NAMES = ("flow", "gae", "grad-eclip", "mmel", "rise", "random")
METHODS = ",".join(NAMES)
FEW = ["--batch-size", 5, "--device", "cpu", "--set", "archive.shard_size=7", "--set", "method.masks=9"]


def content(run):
    """Every dataset of every shard, by shard, and what the shards say of the run."""
    found = {}
    for path in sorted((run / "archive").glob("part-*.h5")):
        with h5py.File(path) as file:
            found[path.name, "says"] = {k: str(v) for k, v in file.attrs.items() if k != "created"}
            file.visititems(
                lambda name, item, part=path.name: (
                    found.update({(part, name): item[:]}) if isinstance(item, h5py.Dataset) else None
                )
            )
    return found


def assert_same(run, other):
    one, two = content(run), content(other)
    assert set(one) == set(two)
    assert len(one) > 10
    for key, values in one.items():
        if isinstance(values, dict):
            assert values == two[key], key
        else:
            assert values.tobytes() == two[key].tobytes() if values.dtype != object else (values == two[key]).all(), key
    for name in ("run.yaml", "failures.jsonl", "heatmaps/drawn.json"):
        assert (run / name).exists() == (other / name).exists()
        if (run / name).exists():
            assert (run / name).read_text() == (other / name).read_text()
    pictures = [sorted(p.name for p in (folder / "heatmaps").glob("*.jpg")) for folder in (run, other)]
    assert pictures[0] == pictures[1]
    assert bool(pictures[0]) == yaml.safe_load((run / "run.yaml").read_text())["config"]["heatmaps"]


@pytest.fixture(scope="module")
def pairs(photos, tmp_path_factory):
    """23 good pairs and one whose image is broken."""
    folder = tmp_path_factory.mktemp("pairs") / "in"
    shutil.copytree(photos, folder)
    (folder / "broken.png").write_bytes(b"")
    rows = (folder / "metadata.jsonl").read_text().splitlines()
    rows[6] = json.dumps({"file_name": "broken.png", "text": "a red dog"})
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def alone(pairs, tiny, tmp_path_factory):
    """Each method's run by itself."""
    from mmel_cli import explain, load_config

    root = tmp_path_factory.mktemp("alone")
    for name in NAMES:
        settings = ["archive.shard_size=7", *(["method.masks=9"] if name == "rise" else [])]
        options = {"model": str(tiny), "method.name": name, "batch_size": 5, "device": "cpu"}
        explain(pairs, root / name, load_config(None, settings, options))
    return root


def test_every_folder_is_that_of_the_method_alone(pairs, tiny, alone, tmp_path, mmel):
    out = tmp_path / "out"
    code, text, err = mmel("explain", pairs, "--out", out, "--model", tiny, "--method", METHODS, "--json", *FEW)
    assert code == 3, err  # the broken pair
    report = json.loads(text)
    assert list(report) == list(NAMES)
    assert sorted(path.name for path in out.iterdir()) == sorted(NAMES)
    for name in NAMES:
        assert_same(out / name, alone / name)
        summary = json.loads((out / name / "summary.json").read_text())
        assert report[name] == summary | {"highlights": report[name]["highlights"]}
        assert (summary["done"], summary["failed"], summary["method"]) == (23, 1, name)
        assert summary["methods"] == list(NAMES)  # whose time `seconds` is
        [line] = (out / name / "failures.jsonl").read_text().splitlines()
        assert json.loads(line)["id"] == "broken.png#0"
        assert (out / name / "index.html").exists()
        with load_archive(out / name) as archive:
            assert archive.info.method == name
    # every command takes them: as themselves, and going on as the single run does
    assert [mmel("verify", out / name)[0] for name in NAMES] == [0] * len(NAMES)
    assert mmel("merge", out / "rise", "--out", tmp_path / "rise.h5")[0] == 0
    code, _, err = mmel("eval", out / "flow", out / "gae", "--metrics", "insertion,sparseness", "--limit", 3,
                        "--out", tmp_path / "scores", "--set", "comparison.resamples=99")  # fmt: skip
    assert code == 0, err
    assert mmel("fuse", out / "mmel", "--weights", "untrained", "--out", tmp_path / "fused")[0] == 0
    code, text, err = mmel("explain", pairs, "--out", out / "gae", "--model", tiny, "--method", "gae", "--json",
                           "--batch-size", 5, "--device", "cpu", "--set", "archive.shard_size=7")  # fmt: skip
    assert code == 3, err
    assert (json.loads(text)["resumed"], json.loads(text)["methods"]) == (23, [])


@pytest.mark.parametrize(
    "settings",
    [
        ["method.shifts=3", "method.layers=[2,-1]"],
        ["method.gradient=balanced", "method.text_layers=last"],
        ["method.heads=single", "method.layers=2"],
    ],
)
def test_other_parameters_go_to_every_method_that_has_them(photos, tiny, tmp_path, mmel, settings):
    """Other layers, views, rules of the backward: shared where they agree, and what each gives alone in any case."""
    given = [word for setting in settings for word in ("--set", setting)]
    common = ["explain", photos, "--model", tiny, "--batch-size", 7, "--device", "cpu", "--set", "heatmaps=false"]
    names = ("mmel", "grad-eclip", "flow", "gae")
    code, _, err = mmel(*common, "--out", tmp_path / "out", "--method", ",".join(names), *given)
    assert code == 0, err
    for name in names:
        own = [] if "method.heads=single" in settings and name != "grad-eclip" else settings[:1]
        own = [word for setting in [*own, *settings[1:]] for word in ("--set", setting)]
        code, _, err = mmel(*common, "--out", tmp_path / name, "--method", name, *own)
        assert code == 0, err
        assert_same(tmp_path / "out" / name, tmp_path / name)


@pytest.mark.parametrize("family", ["siglip", "altclip", "chinese_clip"])
def test_other_towers_share_to_the_bit_too(photos, tmp_path, mmel, family):
    model = make_model(tmp_path / family, family)
    names = ("flow", "mmel", "gae", "grad-eclip")
    common = ["explain", photos, "--model", model, "--batch-size", 7, "--device", "cpu", "--set", "heatmaps=false"]
    code, _, err = mmel(*common, "--out", tmp_path / "out", "--method", ",".join(names))
    assert code == 0, err
    for name in names:
        assert mmel(*common, "--out", tmp_path / name, "--method", name)[0] == 0
        assert_same(tmp_path / "out" / name, tmp_path / name)


@pytest.mark.parametrize("names", ["attention,rollout,grad-cam,eigen-cam", "gae,rollout,occlusion,attention"])
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_methods_without_a_backward_share_with_those_that_have_one(photos, tmp_path, mmel, names, family):
    """Each sees its own layers, and of gradients nothing that it did not ask for."""
    model = make_model(tmp_path / family, family)
    (tmp_path / "c.yaml").write_text(f"model: {model}\nheatmaps: false\nmethod: {{name: attention, layers: [2]}}\n")
    common = ["explain", photos, "--config", tmp_path / "c.yaml", "--batch-size", 7, "--limit", 9, "--device", "cpu"]
    code, _, err = mmel(*common, "--out", tmp_path / "out", "--method", names)
    assert code == 0, err
    for name in names.split(","):
        assert mmel(*common, "--out", tmp_path / name, "--method", name)[0] == 0
        assert_same(tmp_path / "out" / name, tmp_path / name)


def test_layers_of_every_part_are_a_method_s_own(photos, tmp_path, mmel):
    """grad-cam of layers 2 and 4 beside eigen-cam of the last one: what enters is cut to each method's layers."""
    model = make_model(tmp_path / "clip", "clip")
    (tmp_path / "c.yaml").write_text(f"model: {model}\nheatmaps: false\nmethod: {{name: grad-cam, layers: [1, -2]}}\n")
    common = ["explain", photos, "--config", tmp_path / "c.yaml", "--batch-size", 7, "--limit", 9, "--device", "cpu"]
    assert mmel(*common, "--out", tmp_path / "out", "--method", "eigen-cam,grad-cam")[0] == 0
    for name in ("eigen-cam", "grad-cam"):
        assert mmel(*common, "--out", tmp_path / name, "--method", name)[0] == 0
        assert_same(tmp_path / "out" / name, tmp_path / name)


def test_the_group_of_a_file_is_that_of_the_method_that_it_names(photos, tiny, tmp_path, mmel):
    (tmp_path / "c.yaml").write_text(f"model: {tiny}\nheatmaps: false\nmethod: {{name: flow, layers: last}}\n")
    command = ["explain", photos, "--config", tmp_path / "c.yaml", "--limit", 3, "--set", "method.text_layers=last"]
    assert mmel(*command, "--out", tmp_path / "out", "--method", " Gae,FLOW ")[0] == 0
    noted = {n: yaml.safe_load((tmp_path / "out" / n / "run.yaml").read_text()) for n in ("gae", "flow")}
    assert {n: noted[n]["config"]["method"]["layers"] for n in noted} == {"gae": "all", "flow": "last"}
    assert {noted[n]["config"]["method"]["text_layers"] for n in noted} == {"last"}
    assert mmel(*command, "--out", tmp_path / "one", "--method", "mmel")[0] == 0
    assert (tmp_path / "one/run.yaml").exists()  # one method: OUT itself, as ever


def test_images_are_decoded_and_forwards_taken_once(photos, tiny, tmp_path, mmel, monkeypatch):
    from mmel_cli.model.two_towers import TwoTowers

    captured, decoded = [], []
    real_capture, real_preprocess = TwoTowers.capture, TwoTowers.preprocess
    monkeypatch.setattr(TwoTowers, "capture", lambda *a, **k: captured.append(a[4]) or real_capture(*a, **k))
    monkeypatch.setattr(TwoTowers, "preprocess", lambda *a, **k: decoded.append(1) or real_preprocess(*a, **k))
    command = ["explain", photos, "--model", tiny, "--batch-size", 10, "--set", "heatmaps=false"]
    code, _, err = mmel(*command, "--out", tmp_path / "out", "--method", "gae,random,grad-eclip")
    assert code == 0, err
    assert len(captured) == 3  # 24 pairs in batches of 10, one capture each for three methods
    assert [request.layers for request in captured] == [(1, 2, 3, 4)] * 3
    assert len(decoded) == 12  # every image once: batches of 10 end between images of two captions


def test_a_killed_run_goes_on_in_each_folder_where_it_is(pairs, tiny, alone, tmp_path, mmel):
    out = tmp_path / "out"
    command = ["explain", pairs, "--out", out, "--model", tiny, "--method", METHODS, *FEW]
    process = subprocess.Popen(
        [sys.executable, "-m", "mmel_cli", *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    limit = time.monotonic() + 90
    while not (out / "flow/archive/part-00000.h5").exists() and time.monotonic() < limit and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out / "flow/archive/part-00000.h5").exists()
    # one folder is gone, one is further than the others
    shutil.rmtree(out / "gae")
    shutil.rmtree(out / "rise")
    shutil.copytree(alone / "rise", out / "rise")
    code, text, err = mmel(*command, "--json")
    assert code == 3, err
    report = json.loads(text)
    assert report["gae"]["resumed"] == 0
    assert report["rise"]["resumed"] == 23
    assert "rise: Going on: 23 records done" in err
    for name in NAMES:
        assert report[name]["done"] == 23
        assert sorted(path.name for path in (out / name / "archive").iterdir())[0] == "part-00000.h5"
        with load_archive(out / name) as one, load_archive(alone / name) as other:
            assert one.ids == other.ids
            np.testing.assert_array_equal(one.column("map"), other.column("map"))
            np.testing.assert_array_equal(one.column("score"), other.column("score"))


def test_a_method_that_is_done_is_not_repeated(photos, tiny, tmp_path, mmel, monkeypatch):
    explained = []
    real = engines.Engine._explain

    def watched(engine, batch, truth, shared):
        explained.append((engine.method.name, len(batch.samples)))
        return real(engine, batch, truth, shared)

    monkeypatch.setattr(engines.Engine, "_explain", watched)
    command = ["explain", photos, "--out", tmp_path / "out", "--model", tiny, "--batch-size", 10]
    assert mmel(*command, "--method", "flow,random", "--limit", 10)[0] == 0
    del explained[:]
    code, _, err = mmel(*command, "--method", "flow,gae", "--limit", 20)
    assert code == 0, err
    assert explained == [("gae", 10), ("flow", 10), ("gae", 10)]
    del explained[:]
    code, _, err = mmel(*command, "--method", "gae,flow", "--limit", 20)
    assert (code, explained) == (0, [])


def test_memory_that_runs_out_for_one_method_halves_its_batches_alone(photos, tiny, tmp_path, mmel, monkeypatch):
    real = engines.Engine._explain

    def small_memory(engine, batch, truth, shared):
        if engine.method.name == "gae" and len(batch.samples) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(engine, batch, truth, shared)

    command = ["explain", photos, "--model", tiny, "--batch-size", 10, "--set", "heatmaps=false"]
    names = ("grad-eclip", "gae", "random")
    assert mmel(*command, "--out", tmp_path / "whole", "--method", ",".join(names))[0] == 0
    monkeypatch.setattr(engines.Engine, "_explain", small_memory)
    code, _, err = mmel(*command, "--out", tmp_path / "out", "--method", ",".join(names))
    assert code == 0, err
    assert_same(tmp_path / "out/grad-eclip", tmp_path / "whole/grad-eclip")
    assert_same(tmp_path / "out/random", tmp_path / "whole/random")
    with load_archive(tmp_path / "out/gae") as one, load_archive(tmp_path / "whole/gae") as other:
        assert one.ids == other.ids
        np.testing.assert_allclose(one.column("map"), other.column("map"), rtol=1e-4, atol=1e-7)


def test_interrupted_it_says_so_and_keeps_every_folder_in_step(pairs, tiny, tmp_path):
    out = tmp_path / "out"
    command = ["explain", pairs, "--out", out, "--model", tiny, "--method", "flow,gae", "--json", *FEW[:4]]
    process = subprocess.Popen(
        [sys.executable, "-m", "mmel_cli", *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    limit = time.monotonic() + 90
    while not list(out.glob("flow/heatmaps/*.jpg")) and time.monotonic() < limit and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    text, err = process.communicate(timeout=90)
    report = json.loads(text)
    assert process.returncode in (143, 3), err
    assert report["flow"]["done"] == report["gae"]["done"]
    assert report["flow"]["complete"] == report["gae"]["complete"] == (process.returncode == 3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--method", "flow,gae,Flow"], "--method flow,gae,Flow: flow is given twice"),
        (["--method", "flow,gea"], "no method 'gea'; did you mean gae?"),
        (["--method", "flow,"], "no method ''"),
        (
            ["--method", "flow,gae", "--set", "method.masks=5"],
            "--set method.masks=5: none of flow, gae has a parameter",
        ),
        (["--method", "flow,gae", "--set", "method.shift=5"], "a parameter shift; did you mean shifts?"),
        (["--method", "flow,gae", "--weights", "untrained"], "--weights: none of flow, gae has a parameter weights"),
        (["--method", "flow,gae", "--set", "method.layers=none"], "method.layers: 'none' is not"),
        (["--method", "flow,gae", "--set", "batchsize=5"], "batchsize: no such setting"),
    ],
)
def test_what_is_refused(photos, tiny, tmp_path, mmel, arguments, says):
    code, out, err = mmel("explain", photos, "--model", tiny, "--out", tmp_path / "out", *arguments)
    assert (code, out) == (2, "")
    assert says in err.splitlines()[-1]


def test_folders_that_are_others_are_refused_before_any_is_written(photos, tiny, tmp_path, mmel):
    command = ["explain", photos, "--model", tiny, "--method", "flow,gae", "--limit", 2, "--set", "heatmaps=false"]
    (tmp_path / "out/gae").mkdir(parents=True)
    (tmp_path / "out/gae/thesis.txt").write_text("")
    code, _, err = mmel(*command, "--out", tmp_path / "out")
    assert code == 2
    assert "out/gae: is not empty and holds no mmel run" in err
    assert not (tmp_path / "out/flow").exists()
    (tmp_path / "file").write_text("")
    code, _, err = mmel(*command, "--out", tmp_path / "file")
    assert code == 2
    assert "file: is a file" in err
    one = ["explain", photos, "--model", tiny, "--limit", 2, "--set", "heatmaps=false", "--out", tmp_path / "one"]
    assert mmel(*one)[0] == 0
    code, _, err = mmel(*command, "--out", tmp_path / "one")
    assert code == 2
    assert "is the run folder of one method" in err


def test_a_dry_run_checks_every_method_and_writes_nothing(photos, tiny, tmp_path, mmel):
    command = ["explain", photos, "--model", tiny, "--out", tmp_path / "out", "--dry-run", "--method", "flow,gae"]
    code, out, _ = mmel(*command)
    assert code == 0
    assert out.count("24 pairs") == 1
    code, out, _ = mmel(*command, "--json")
    assert {name: plan["pairs"] for name, plan in json.loads(out).items()} == {"flow": 24, "gae": 24}
    assert not (tmp_path / "out").exists()


def test_words_and_phrases_of_each_method_are_its_own(pairs, tiny, tmp_path, mmel):
    """Readers of directions, their layers and gradients differ from method to method."""
    names = ("flow", "mmel", "attention", "gae")
    common = (
        "--model",
        tiny,
        "--words",
        "--set",
        "words.texts=20",
        "--set",
        "heatmaps=false",
        "--limit",
        11,
        *FEW[:-2],
    )
    assert mmel("explain", pairs, "--out", tmp_path / "all", "--method", ",".join(names), *common)[0] == 3
    for name in names:
        assert mmel("explain", pairs, "--out", tmp_path / name, "--method", name, *common)[0] == 3
        assert_same(tmp_path / "all" / name, tmp_path / name)
    with load_archive(tmp_path / "flow") as one, load_archive(tmp_path / "mmel") as other:
        assert np.abs(one.column("phrases/map") - other.column("phrases/map"))[:, 0].max() > 1e-4

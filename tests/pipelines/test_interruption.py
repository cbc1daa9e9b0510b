"""Killed, terminated, interrupted: nothing finished is lost, nothing is twice, the end is the same to the bit."""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from layouts import tars
from PIL import Image

from mmel_cli import load_archive

KILLS = 40
BATCH, SHARD = 5, ["archive.shard_size=7"]


def run_explain(source, out, model):
    """In a child: the pipeline itself, on one thread so that sums have one order."""
    import torch

    torch.set_num_threads(1)
    from mmel_cli.config import load_config
    from mmel_cli.pipelines.explain import explain

    options = {"model": str(model), "device": "cpu", "batch_size": BATCH, "workers": 2}
    explain(source, out, load_config(None, SHARD, options))


def columns(run):
    """Every dataset of an archive, joined over its shards."""
    parts = {}
    for path in sorted((run / "archive").glob("part-*.h5")):
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item: (
                    parts.setdefault(name, []).append(item[:]) if isinstance(item, h5py.Dataset) else None
                )
            )
    return {name: np.concatenate(values) for name, values in parts.items()}


def committed(run):
    """Ids by shard."""
    found = {}
    for path in sorted((run / "archive").glob("part-*.h5")):
        with h5py.File(path) as file:
            found[path.name] = list(file["id"].asstr()[:])
    return found


@pytest.fixture(scope="module")
def spawn():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mmel_cli.pipelines.explain", "transformers.models.clip.modeling_clip"])

    def start(*arguments):
        process = context.Process(target=run_explain, args=arguments)
        process.start()
        return process

    return start


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """46 pairs, most images with two captions, every ninth pair broken: an empty image, or a row without a caption."""
    folder, rng, rows = tmp_path_factory.mktemp("broken"), np.random.default_rng(3), []
    for number in range(46):
        name = f"{number:02}.png" if number % 9 == 8 else f"{number // 2 * 2:02}.png"
        if number % 9 == 8:
            (folder / name).write_bytes(b"")
        elif not (folder / name).exists():
            Image.fromarray(rng.integers(0, 255, (30 + number, 40, 3), dtype=np.uint8)).save(folder / name)
        text = "" if number % 18 == 17 else f"a red dog {number % 4}"
        rows.append({"file_name": name, "text": text})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.slow
def test_forty_kills_leave_the_archive_of_an_uninterrupted_run(broken, tiny, tmp_path, spawn):
    """Two folders at a time, each run is of one thread: half of the kills in each."""
    whole = spawn(broken, tmp_path / "whole", tiny)
    began = time.monotonic()
    whole.join(120)
    length = time.monotonic() - began
    assert whole.exitcode == 0
    expected = columns(tmp_path / "whole")
    assert len(expected["id"]) == 38
    assert [len(ids) for ids in committed(tmp_path / "whole").values()] == [8, 9, 8, 9, 4]  # each ends with a batch

    def kill(half):
        return killed(lambda run: spawn(broken, run, tiny), tmp_path / f"half{half}", (expected, length), half)

    with ThreadPoolExecutor(2) as pool:
        assert all(finished >= 1 for finished in pool.map(kill, range(2)))


def killed(start, place, whole, seed):
    """Kill runs at random moments, KILLS / 2 times, and let the last one end; how many ended with the whole archive."""
    (expected, length), chance, kills, finished = whole, random.Random(seed), 0, 0
    run, before = place / "run0", {}
    while kills < KILLS // 2 or before or not finished:
        process = start(run)
        process.join(chance.uniform(0.2, 1.1) * length if kills < KILLS // 2 else 120)
        if process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):  # it may end by itself in between
                os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += process.exitcode != 0
        now = committed(run) if (run / "archive").exists() else {}
        assert all(now.get(name) == ids for name, ids in before.items()), "a finished shard changed"
        ids = [i for shard in now.values() for i in shard]
        assert len(ids) == len(set(ids))
        before = now
        if process.exitcode == 0:
            values = columns(run)
            assert values.keys() == expected.keys()
            for name, column in expected.items():
                assert np.array_equal(column, values[name], equal_nan=column.dtype.kind == "f"), name
            finished += 1
            run, before = place / f"run{finished}", {}
    return finished


def test_a_run_on_tars_goes_on_after_a_kill_and_ends_the_same(tiny, tmp_path, spawn):
    data, run = tars(tmp_path / "data", 23), tmp_path / "run"
    whole = spawn(data, tmp_path / "whole", tiny)
    whole.join(120)
    assert whole.exitcode == 0
    process, deadline = spawn(data, run, tiny), time.monotonic() + 120
    while not list(run.glob("archive/part-*.h5")) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it was faster than the kill"
    before = sum(map(len, committed(run).values()))
    assert 0 < before < 46
    again = spawn(data, run, tiny)
    again.join(120)
    assert again.exitcode == 0
    assert json.loads((run / "summary.json").read_text())["resumed"] == before
    expected, values = columns(tmp_path / "whole"), columns(run)
    assert len(expected["id"]) == 46
    assert values.keys() == expected.keys()
    for name, column in expected.items():
        assert np.array_equal(column, values[name], equal_nan=column.dtype.kind == "f"), name


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_commits_what_is_finished_and_the_same_command_goes_on(photos, tiny, tmp_path, number, code):
    command = [sys.executable, "-m", "mmel_cli", "explain", photos, "--out", tmp_path / "run", "--model", tiny]
    command += ["--device", "cpu", "--batch-size", "1", "--workers", "1", "--json"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").rglob("*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    summary = json.loads(out)
    assert process.returncode == (code if not summary["complete"] else 0)
    assert "run the same command again" in err or summary["complete"]
    with load_archive(tmp_path / "run") as archive:
        assert len(archive) == summary["done"] >= 1
    again = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["done"] == 24
    assert json.loads(again.stdout)["resumed"] == summary["done"]
    with load_archive(tmp_path / "run") as archive:
        assert archive.ids == [f"{i:02}.png#{k}" for i in range(12) for k in (0, 1)]

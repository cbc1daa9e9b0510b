"""Any number of processes, dying and starting as they like, leave the archive of one, bit for bit."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from mmel_cli.config import load_config
from mmel_cli.pipelines import explain as explaining
from mmel_cli.runs import Events
from mmel_cli.runs.plan import read_plan

SETTINGS = ["--batch-size", 5, "--set", "archive.shard_size=4", "--set", "ranks.lease=3", "--workers", 1, "--json"]
KILLS = int(os.environ.get("MMEL_KILLS", "1"))
_LEAST = 0.3  # of a run's time, before which nothing is worth killing


@pytest.fixture(scope="module")
def broken(tmp_path_factory, photos):
    """The photos, and behind them a broken image and a row without a caption: 26 entries, 6 shards."""
    folder = tmp_path_factory.mktemp("broken") / "in"
    folder.mkdir()
    rows = (photos / "metadata.jsonl").read_text().splitlines()
    rows.insert(7, json.dumps({"file_name": "empty.png", "text": "nothing"}))
    rows.insert(20, json.dumps({"file_name": "00.png", "text": ""}))
    for image in photos.glob("*.png"):
        os.link(image, folder / image.name)
    (folder / "empty.png").write_bytes(b"")
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def command(broken, tiny):
    def of(out, *more):
        words = [
            "-m",
            "mmel_cli",
            "explain",
            broken,
            "--out",
            out,
            "--model",
            tiny,
            "--device",
            "cpu",
            *SETTINGS,
            *more,
        ]
        return [sys.executable, *map(str, words)]

    return of


@pytest.fixture(scope="module")
def run(command):
    """Start a process; sums have one order, since all have one thread."""

    def start(out, *more, **environment):
        surroundings = os.environ | {"OMP_NUM_THREADS": "1"} | environment
        pipe = subprocess.PIPE
        return subprocess.Popen(command(out, *more), env=surroundings, stdout=pipe, stderr=pipe, text=True)

    return start


def ended(process, code=3):
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, err
    return json.loads(out), err


@pytest.fixture(scope="module")
def one(run, tmp_path_factory):
    """The records of one process, by id, and how long it took."""
    out, began = tmp_path_factory.mktemp("one") / "run", time.monotonic()
    ended(run(out))
    return records(out), time.monotonic() - began


def records(out):
    """Every dataset of every record by its id; no record twice."""
    every = {}
    for path in sorted((out / "archive").glob("part-*.h5")):
        with h5py.File(path) as file:
            names = []
            file.visit(names.append)
            columns = {name: file[name][:] for name in names if isinstance(file[name], h5py.Dataset)}
        for row, name in enumerate(columns["id"]):
            assert name not in every, name
            every[name] = {column: values[row] for column, values in columns.items()}
    return every


def assert_same(out, one):
    mine, (expected, _) = records(out), one
    assert mine.keys() == expected.keys()
    for name, columns in expected.items():
        for column, value in columns.items():
            other = mine[name][column]
            assert np.array_equal(value, other, equal_nan=np.asarray(value).dtype.kind == "f"), (name, column)
    failed = [json.loads(line)["id"] for line in (out / "failures.jsonl").read_text().splitlines()]
    assert sorted(failed) == ["00.png#2", "empty.png#0"]
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["done"], summary["failed"], summary["complete"]) == (len(expected), 2, True)
    assert (out / "index.html").exists()
    assert not list((out / "shards").glob("*.lease*"))


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_give_the_archive_of_one_process(ranks, run, one, tmp_path):
    summary, _ = ended(run(tmp_path / "run", "--ranks", ranks))
    assert summary["done"] == len(one[0])
    assert_same(tmp_path / "run", one)


@pytest.mark.slow
def test_a_member_of_an_array_does_what_the_missing_ones_leave(run, one, tmp_path):
    """Members 1 and 6 of eight, at a time; then everything is there, and another member has nothing to do."""
    array = {"SLURM_ARRAY_TASK_COUNT": "8", "SLURM_ARRAY_JOB_ID": "12"}
    members = [run(tmp_path / "run", SLURM_ARRAY_TASK_ID=number, **array) for number in ("1", "6")]
    for member in members:
        _, err = ended(member)
        assert "of 8" in err
    assert_same(tmp_path / "run", one)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run/shards").iterdir()}
    ended(run(tmp_path / "run", SLURM_ARRAY_TASK_ID="7", **array))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run/shards").iterdir()} == before
    assert_same(tmp_path / "run", one)


@pytest.mark.slow
def test_a_rank_is_refused_where_settings_differ_or_another_is_alone(run, tmp_path):
    held = run(tmp_path / "run", "--shard", "0/2")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run/shards").glob("*.lease")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(held.pid, signal.SIGSTOP)
    try:
        said, _ = ended(run(tmp_path / "run", "--shard", "1/2", "--batch-size", 4), code=2)
        assert "batch_size was 5, is now 4" in said["error"]["message"]
        said, _ = ended(run(tmp_path / "run"), code=2)
        assert "another mmel is writing there" in said["error"]["message"]
    finally:
        os.kill(held.pid, signal.SIGCONT)
    ended(held)


def campaign(start, one, place, kills, who):
    """Kill at random moments, each time a run anew, and let the next call end it; how many were alive to be killed."""
    chance, killed = random.Random(who), 0
    for number in range(kills):
        out = place / f"run{number}"
        process = start(out)
        time.sleep(chance.uniform(_LEAST, 1.0) * one[1])
        victims = {"driver": [process.pid], "rank": children(process.pid)[:1]}[who]
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
            killed += 1
        process.communicate(timeout=240)
        if who == "rank" and victims:
            assert process.returncode in (0, 1, 3)
        ended(start(out))
        assert_same(out, one)
    return killed


def children(pid):
    """The processes that a process has started."""
    every = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            every += [int(path.parent.name)] if path.read_text().rpartition(")")[2].split()[1] == str(pid) else []
    return every


@pytest.mark.slow
@pytest.mark.parametrize("who", ["rank", "driver"])
def test_a_kill_loses_nothing(who, run, one, tmp_path):
    """MMEL_KILLS=20 makes a campaign of it."""
    assert campaign(lambda out: run(out, "--ranks", 2), one, tmp_path, KILLS, who) >= KILLS // 2


@pytest.mark.slow
def test_actors_of_ray_give_the_archive_of_one_process_though_they_are_killed(run, one, tmp_path):
    pytest.importorskip("ray")
    killed, chance = 0, random.Random("actor")
    for number in range(KILLS):
        out = tmp_path / f"run{number}"
        process = run(out, "--engine", "ray", "--ranks", 2)
        deadline = time.monotonic() + 120
        while not list((out / "shards").glob("*.json")) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 0.5) * one[1])
        for victim in actors(process.pid)[:1]:
            os.kill(victim, signal.SIGKILL)
            killed += 1
        ended(process)
        assert_same(out, one)
    assert killed >= KILLS // 2


def actors(pid):
    """The workers of Ray that hold ranks, below a process."""
    names = {
        child: Path(f"/proc/{child}/cmdline").read_bytes() for child in below(pid) if Path(f"/proc/{child}").exists()
    }
    return [child for child, name in names.items() if b"ray::" in name and b"Actor" in name]


def below(pid):
    """All processes that a process has started, and those that these have."""
    own = children(pid)
    return own + [lower for child in own for lower in below(child)]


def test_ray_that_is_not_there_or_has_no_room_is_said_so(mmel, broken, tiny, tmp_path, monkeypatch):
    command = ["explain", broken, "--out", tmp_path / "run", "--model", tiny]
    code, _, err = mmel(*command, "--address", "somewhere:1")
    assert (code, "goes with --engine ray" in err) == (2, True), err
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = mmel(*command, "--engine", "ray")
    assert (code, "pip install '.[ray]'" in err) == (2, True), err
    assert not (tmp_path / "run/archive").exists()


def test_a_plan_covers_the_input_once_and_begins_shards_with_batches(run, one, tmp_path):
    ended(run(tmp_path / "run"))
    plan = read_plan(tmp_path / "run/plan.jsonl")
    assert [(shard.first, shard.entries) for shard in plan.shards] == [(n, 5) for n in range(0, 25, 5)] + [(25, 1)]
    assert plan.entries == 26
    assert yaml.safe_load((tmp_path / "run/run.yaml").read_text())["config_sha256"] == plan.head.identity


def test_a_shard_whose_file_is_gone_or_damaged_is_explained_again(run, one, tmp_path):
    ended(run(tmp_path / "run"))
    files = sorted((tmp_path / "run/archive").glob("part-*.h5"))
    files[1].unlink()
    files[3].write_bytes(files[3].read_bytes()[:-100])
    ended(run(tmp_path / "run"))
    assert files[3].with_name(f"{files[3].name}.damaged").exists()
    assert_same(tmp_path / "run", one)
    files[3].with_name(f"{files[3].name}.damaged").unlink()
    files[3].unlink(missing_ok=True)
    for leftover in (tmp_path / "run/archive").glob(f"{files[3].stem}_*"):
        leftover.unlink()
    ended(run(tmp_path / "run", "--ranks", 2))
    assert_same(tmp_path / "run", one)


def test_leases_of_processes_that_are_gone_hold_nothing_up(run, one, tmp_path):
    """Of another machine, or of this one before it was started again."""
    (tmp_path / "run/shards").mkdir(parents=True)
    (tmp_path / "run/run.yaml").write_text("format: mmel-run\n")
    for name in ("00001", "end"):
        (tmp_path / f"run/shards/{name}.lease").write_text(json.dumps({"token": "x", "machine": "another", "pid": 1}))
    ended(run(tmp_path / "run", "--set", "ranks.lease=3000"))
    assert_same(tmp_path / "run", one)


def test_a_run_that_is_refused_changes_nothing(run, tmp_path):
    ended(run(tmp_path / "run", "--limit", 3), code=0)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    said, _ = ended(run(tmp_path / "run", "--limit", 3, "--method", "gae"), code=2)
    assert "method.name was" in said["error"]["message"]
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


@pytest.mark.slow
@pytest.mark.parametrize(("number", "engine"), [(signal.SIGINT, "local"), (signal.SIGTERM, "ray")])
def test_a_signal_ends_all_ranks_and_what_is_known_is_written(number, engine, run, one, tmp_path):
    process = run(tmp_path / "run", "--ranks", 2, "--engine", engine)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run/shards").glob("0*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    said, err = ended(process, code=130 if number == signal.SIGINT else 143)
    assert "Traceback" not in err
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["done"] == said["done"] == len(records(tmp_path / "run"))
    assert summary["complete"] == (summary["done"] == len(one[0]))
    failed = (tmp_path / "run/failures.jsonl").read_text().splitlines()
    assert len(failed) == summary["failed"]
    ended(run(tmp_path / "run"))
    assert_same(tmp_path / "run", one)


@pytest.mark.slow
def test_a_signal_before_there_is_anything_to_tell(run, tmp_path):
    process = run(tmp_path / "run", "--ranks", 2)
    deadline = time.monotonic() + 120
    while len(children(process.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert "Traceback" not in err


def test_threads_build_shards_at_a_time(one, run, tmp_path):
    """As several methods in one pass do: their shards end with the same batch."""
    methods = ("--method", "flow,gae,grad-eclip", "--no-heatmaps", "--set", "report=false")
    process = run(tmp_path / "run", *methods)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 3, err
    for name in ("flow", "gae", "grad-eclip"):
        assert records(tmp_path / f"run/{name}").keys() == one[0].keys()


def test_progress_of_ranks_adds_up(broken, tiny, tmp_path):
    passed, totals = [], set()
    events = Events(total=totals.add, progress=lambda done, failed: passed.append((done, failed)))
    options = {"model.name": str(tiny), "batch_size": 5, "archive.shard_size": 4, "ranks.count": 2, "device": "cpu"}
    config = load_config(options=options | {"report": False, "heatmaps": False, "workers": 1})
    summary, _ = explaining.explain(broken, tmp_path / "run", config, events=events)
    assert (summary.done, totals) == (24, {26})
    assert (sum(done for done, _ in passed), sum(failed for _, failed in passed)) == (24, 2)

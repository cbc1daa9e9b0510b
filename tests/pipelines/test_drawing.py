"""Pictures from processes: the same bytes as from threads, and none is lost when a process dies."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmel_cli.pipelines.drawing import Drawing

LIMIT = 120  # seconds


def square(number: int, seconds: float, written: Path) -> float:
    """Stands for a picture; the process that drew it is what it writes."""
    time.sleep(seconds)
    (written / f"{number}").write_text(str(os.getpid()))
    return seconds


def command(source, out, model, *more):
    words = [sys.executable, "-m", "mmel_cli", "explain", source, "--out", out, "--model", model, "--device", "cpu"]
    return [str(word) for word in (*words, "--batch-size", 5, "--set", "report=false", "--json", *more)]


def pictures(out):
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*.jpg")}


def test_processes_draw_what_threads_draw(photos, tiny, tmp_path):
    for name, more in (("threads", ()), ("processes", ("--set", "draw_processes=2"))):
        subprocess.run(command(photos, tmp_path / name, tiny, *more), check=True, capture_output=True)
    assert pictures(tmp_path / "processes") == pictures(tmp_path / "threads") != {}
    assert not list(tmp_path.rglob("*.tmp"))


def test_what_a_process_that_dies_had_is_drawn_again(tmp_path):
    told = []
    with ThreadPoolExecutor(1) as threads, Drawing(threads, 2, told.append) as drawing:
        begun = [drawing.submit(square, number, 0.3, tmp_path) for number in range(7)]
        deadline = time.monotonic() + LIMIT
        while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.01)
        first = next(iter(tmp_path.iterdir()))
        while not first.read_text():
            time.sleep(0.01)
        os.kill(int(first.read_text()), signal.SIGKILL)
        for one in begun:
            one.result()
        drawing.submit(square, 7, 0, tmp_path).result()
    drawn = {int(path.name): int(path.read_text()) for path in tmp_path.iterdir()}
    assert sorted(drawn) == list(range(8))
    assert drawn[7] == os.getpid()
    assert told == ["Warning: a process that draws pictures ended early; threads draw from now on"]


@pytest.mark.slow
def test_processes_end_with_the_run_that_is_killed(photos, tiny, tmp_path):
    more = ("--set", "draw_processes=2", "--set", "archive.shard_size=5")
    run = subprocess.Popen(
        command(photos, tmp_path / "run", tiny, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + LIMIT
    while not list((tmp_path / "run/heatmaps").rglob("*.jpg")) and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.01)
    own = children(run.pid)
    assert own
    run.kill()
    run.wait()
    while any(Path(f"/proc/{child}").exists() for child in own) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [child for child in own if Path(f"/proc/{child}").exists()]


def children(pid):
    """The processes that a process has started (Linux)."""
    every = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in every for child in path.read_text().split()]

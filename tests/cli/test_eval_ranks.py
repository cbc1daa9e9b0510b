"""`mmel eval --ranks N`: the files of one process, bit for bit, and a rank that dies is named."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mmel_cli.pipelines import rank_scoring

QUICK = ["--set", "comparison.resamples=99", "--set", "faithfulness.steps=3", "--set", "plots=false"]
METRICS = "insertion-deletion,caption-contrast,sparseness,energy-inside"


@pytest.fixture(scope="module")
def explained(tmp_path_factory, tiny):
    """Two methods on scenes, of which one image is gone and one has other bytes since."""
    from mmel_cli import explain, load_config
    from mmel_cli.data.scenes.folder import write_scenes

    root = tmp_path_factory.mktemp("ranks")
    write_scenes(root / "in", 7, 3, side=48)
    for method in ("grad-eclip", "attention"):
        settings = {"model": str(tiny), "method.name": method, "heatmaps": False, "report": False, "device": "cpu"}
        explain(root / "in", root / method, load_config(None, (), settings))
    lines = (root / "in/metadata.jsonl").read_text().splitlines()
    (root / "in/metadata.jsonl").write_text("".join(line + "\n" for line in lines[:-2]))
    image = root / "in" / json.loads(lines[4])["file_name"]
    image.write_bytes(image.read_bytes()[:80])
    return root


def scored(folder: Path) -> dict[str, bytes]:
    """What an evaluation wrote that is a result, without the settings in metrics.json."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in (folder / "scores").iterdir()}
    report = json.loads((folder / "metrics.json").read_text())
    report.pop("config")
    files["metrics.json"] = json.dumps(report).encode()
    return files | {name: (folder / name).read_bytes() for name in ("per_record.csv", "failures.jsonl")}


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_write_what_one_process_writes(explained, tmp_path, mmel, ranks):
    """Of two runs, with failures of three kinds and batches that do not divide each other."""
    command = [
        "eval",
        explained / "grad-eclip",
        explained / "attention",
        "--metrics",
        METRICS,
        "--batch-size",
        4,
        *QUICK,
    ]
    said = []
    for number in (1, ranks):
        code, _, err = mmel(*command, "--out", tmp_path / str(number), "--ranks", number)
        assert code == 3, err
        said.append([line for line in err.splitlines() if line.startswith(("grad-eclip: ", "attention: "))])
    assert said[0] == said[1]
    one, several = scored(tmp_path / "1"), scored(tmp_path / str(ranks))
    assert one.keys() == several.keys()
    assert one == several
    stages = [json.loads(line)["error"] for line in one["failures.jsonl"].decode().splitlines()]
    assert any("not in the input any more" in error for error in stages)
    assert len({*stages}) > 1
    assert json.loads(one["metrics.json"])["metrics"]["insertion-deletion"]["runs"]["grad-eclip"]["records"] > 8


@pytest.mark.slow
def test_a_killed_rank_is_named_and_the_next_call_goes_on(explained, tmp_path, mmel, monkeypatch):
    """The log holds whole batches from the start of the input on; nothing else of a killed evaluation is there."""
    command = ["eval", explained / "grad-eclip", "--metrics", METRICS, "--batch-size", 2, *QUICK]
    mmel(*command, "--out", tmp_path / "one")
    heard, hear = [], rank_scoring._Rank.hear

    def killed(rank, events, *keys):
        heard.append(keys)
        if len(heard) == 5:  # two refusals and two batches have come
            rank.worker._process.kill()
            while rank.worker.poll().running:
                time.sleep(0.01)
            rank._lines.clear()  # what was on its way is lost too
        return hear(rank, events, *keys)

    monkeypatch.setattr(rank_scoring._Rank, "hear", killed)
    code, _, err = mmel(*command, "--out", tmp_path / "two", "--ranks", 2)
    assert code == 1
    assert "rank 0 of 2 ended early (killed by SIGKILL)" in err.splitlines()[-1]
    assert "what is scored is saved, so run the same command again" in err.splitlines()[-1]
    for log in (tmp_path / "two/scores").iterdir():
        whole = (tmp_path / "one/scores" / log.name).read_bytes()
        assert 1 <= len(log.read_bytes().splitlines()) <= 2  # a batch whose image is broken leaves no line
        assert whole.startswith(log.read_bytes())
    assert not {"metrics.json", "per_record.csv", "failures.jsonl"} & {
        path.name for path in (tmp_path / "two").iterdir()
    }
    monkeypatch.undo()
    code, _, err = mmel(*command, "--out", tmp_path / "two", "--ranks", 2)
    assert code == 3
    assert "scored before" in err
    assert scored(tmp_path / "two") == scored(tmp_path / "one")


@pytest.mark.slow
def test_what_a_rank_cannot_do_is_said_like_by_one_process(explained, tmp_path, mmel):
    command = ["eval", explained / "attention", "--metrics", "insertion-deletion", "--device", "cuda:77", *QUICK]
    said = []
    for ranks in (1, 2):
        code, _, err = mmel(*command, "--out", tmp_path / str(ranks), "--ranks", ranks)
        said.append((code, err.splitlines()[-1]))
    assert said[0] == said[1]
    assert said[0][0] == 2


@pytest.mark.slow
def test_a_signal_ends_the_ranks_with_the_command(explained, tmp_path, tiny):
    """Those are gone when the command has ended, and it can go on."""
    run = shutil.copytree(explained / "grad-eclip", tmp_path / "run")
    command = [sys.executable, "-m", "mmel_cli", "eval", run, "--metrics", "randomisation,insertion-deletion"]
    command += ["--ranks", "2", "--batch-size", "1", "--out", tmp_path / "out", *QUICK]
    process = subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    children: set[str] = set()
    deadline = time.monotonic() + 120
    while not any(log.stat().st_size for log in (tmp_path / "out/scores").glob("*")) and time.monotonic() < deadline:
        children |= set(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    threading.Timer(60, process.kill).start()
    err = process.stderr.read().decode()
    assert process.wait() == 130, err
    assert "run the same command again to go on" in err
    assert len(children) >= 2
    assert not any(Path(f"/proc/{child}").exists() for child in children)


@pytest.mark.slow
def test_actors_of_ray_write_what_one_process_writes(explained, tmp_path):
    pytest.importorskip("ray")
    command = [sys.executable, "-m", "mmel_cli", "eval", explained / "attention", "--metrics", "insertion-deletion"]
    command += ["--device", "cpu", "--batch-size", "2", *QUICK]
    for name, more in (("one", ()), ("ray", ("--engine", "ray", "--ranks", "2"))):
        words = [str(word) for word in (*command, "--out", tmp_path / name, *more)]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, check=False, capture_output=True, text=True, env=env)
        assert done.returncode in (0, 3), done.stderr
    assert scored(tmp_path / "ray") == scored(tmp_path / "one")

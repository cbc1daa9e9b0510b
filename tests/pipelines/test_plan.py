"""What ranks agree on: the plan of the input and where each begins in it, leases, files that one alone writes."""

import io
import json
import subprocess
import sys
import tarfile
import time
from dataclasses import replace

import pytest
from PIL import Image

from mmel_cli.archive.writer import write_once
from mmel_cli.data import open_source
from mmel_cli.errors import UsageError
from mmel_cli.pipelines import explain as explaining
from mmel_cli.pipelines.local_ranks import shares
from mmel_cli.pipelines.planning import Cursor, Rank
from mmel_cli.pipelines.ranks import _Bounded, rank_of
from mmel_cli.runs import Events
from mmel_cli.runs.leases import Leases
from mmel_cli.runs.plan import Head, read_plan, write_plan


def test_a_lease_has_one_holder_until_it_is_stale(tmp_path):
    code = "import sys, time; from pathlib import Path; from mmel_cli.runs.leases import Leases\n"
    code += (
        "leases = Leases(Path(sys.argv[1]), 60).__enter__(); print(bool(leases.claim('a')), flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "True\n"
    with Leases(tmp_path, 0.5) as leases:
        assert leases.claim("a") is None
        other.kill()
        other.wait()
        mine = leases.claim("a")  # its process is gone: at once
        assert mine is not None
        assert Leases(tmp_path, 60).claim("a") is None
        (tmp_path / "b.lease").write_text(json.dumps({"token": "x", "machine": "another", "pid": 1}))
        assert leases.claim("b") is None
        time.sleep(0.6)
        assert leases.claim("b") is not None  # no sign of life
        (tmp_path / "a.lease").write_text(json.dumps({"token": "y"}))
        assert not mine.mine()
        leases.release(mine)
        assert (tmp_path / "a.lease").exists()


def test_a_file_that_is_there_is_not_written_again(tmp_path):
    assert write_once(tmp_path / "a", b"first")
    assert not write_once(tmp_path / "a", b"second")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"first")]


def test_ranks_that_see_every_gpu_take_one_each(monkeypatch):
    assert explaining._device_of(Rank(9, 16, local=5), "auto") == "auto"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert explaining._device_of(Rank(9, 16, local=5), "auto") == "cuda:1"
    assert explaining._device_of(Rank(9, 16, local=5), "cpu") == "cpu"
    assert explaining._device_of(Rank(9, 16, local=5), "cuda:3") == "cuda:3"
    assert explaining._device_of(Rank(9, 16), "cuda") == "cuda"
    assert explaining._device_of(None, "cuda") == "cuda"


def test_who_is_which_rank():
    assert rank_of("2/4", {}) == Rank(2, 4)
    assert rank_of(None, {"RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}) == Rank(1, 2)
    slurm = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_JOB_ID": "9"}
    assert rank_of(None, slurm) == Rank(7, 3, "SLURM_ARRAY_JOB_ID 9")
    several = {"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1"}
    assert rank_of(None, several) == Rank(9, 16, local=1)
    assert rank_of(None, slurm | {"LOCAL_RANK": "1"}).local is None
    assert rank_of(None, {"RANK": "0", "WORLD_SIZE": "1"}) is None
    for wrong in ("4/4", "a/b", "1"):
        with pytest.raises(UsageError, match="--shard"):
            rank_of(wrong, {})
    assert shares(2, [0, 1, 2]) == [[0], [1, 2]]
    assert shares(4, [0, 1]) == [[0, 1]] * 4


def test_progress_ends_with_the_input_whatever_is_done_twice():
    told = []
    bounded = _Bounded(Events(total=told.append, progress=lambda *passed: told.append(passed)))
    for _ in range(2):
        bounded.total(7)
    for passed in ((4, 1), (3, 0), (1, 1)):
        bounded.progress(*passed)
    assert told == [7, (4, 1), (2, 0), (0, 0)]


def tars(folder, counts):
    """Tars of so many images with a text each."""
    folder.mkdir()
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "png")
    for number, count in enumerate(counts):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            for member in range(count):
                for suffix, content in (("png", buffer.getvalue()), ("txt", b"thing %d" % member)):
                    info = tarfile.TarInfo(f"{member:03}.{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return open_source(folder)


def test_a_rank_begins_where_its_shard_does(tmp_path):
    source, read = tars(tmp_path / "in", (4, 5, 0, 4)), []
    every = [entry.id for entry in source]
    counted = replace(source, pieces=tuple(counting(piece, n, read) for n, piece in enumerate(source.pieces)))
    head = Head("0" * 64, 2, 4, None, "0" * 64)
    plan = write_plan(tmp_path / "plan.jsonl", head, (piece() for piece in counted.parts))
    assert (plan.entries, plan.parts, read) == (13, [0, 4, 9, 9], [0, 1, 2, 3])
    assert read_plan(tmp_path / "plan.jsonl") == plan
    read.clear()
    cursor = Cursor(counted, plan, tmp_path)
    for number in (3, 0, 1, 2):
        shard = plan.shards[number]
        own = [entry.id for entry in cursor.entries(shard)]
        assert own == every[shard.first : shard.first + shard.entries]
    assert read == [3, 0, 1, 2, 3]  # the last shard from the last tar; then from the first, without a stop
    tars(tmp_path / "other", (4, 5, 0, 3))
    with pytest.raises(UsageError, match="entries 13 to 13 of INPUT are not those"):
        Cursor(open_source(tmp_path / "other"), plan, tmp_path).entries(plan.shards[3])


def counting(piece, number, read):
    """The same piece; what is read goes to `read`."""

    def opened():
        read.append(number)
        yield from piece()

    return opened


@pytest.mark.parametrize("more", [{"prompts": ("a", "b")}, {"against": "thing 1"}, {"against_other": True}])
def test_what_is_made_of_pieces_is_what_is_made_of_the_whole(more, tmp_path):
    tars(tmp_path / "in", (4, 5))
    given = dict(more)
    if "prompts" in given:
        (tmp_path / "prompts.txt").write_text("\n".join(given["prompts"]))
        given["prompts"] = tmp_path / "prompts.txt"
    source = open_source(tmp_path / "in", **given)
    assert len(source.parts) == 2
    every = list(source)
    assert [entry.id for read in source.parts for entry in read()] == [entry.id for entry in every]
    assert [type(entry) for read in source.parts for entry in read()] == [type(entry) for entry in every]

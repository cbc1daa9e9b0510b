"""A folder that a command writes: what it takes for its own, what it never touches, and who may hold it."""

import subprocess
import sys

import pytest
import yaml

from mmel_cli.errors import UsageError
from mmel_cli.runs import EVALUATED, EXPLAINED, REPORTED, TRAINED, FailureLog, RunFolder
from mmel_cli.types import Failure

KINDS = [EXPLAINED, EVALUATED, TRAINED, REPORTED]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
def test_the_marker_is_the_first_file_and_says_whose_it_is(tmp_path, kind):
    with RunFolder(tmp_path / "a" / "b", kind):
        names = {path.name for path in (tmp_path / "a" / "b").iterdir()}
        assert names == {".lock", kind.marker}
    said = yaml.safe_load((tmp_path / "a" / "b" / kind.marker).read_text())
    assert said == {"format": kind.format, "state": "started"}
    with RunFolder(tmp_path / "a" / "b", kind) as folder:
        folder.note({"more": 1})
        assert folder.notes() == {"format": kind.format, "more": 1}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_kill_before_the_marker_leaves_a_folder_that_can_be_used(tmp_path, kind, overwrite):
    for name in (".lock", ".lock-r01", f"{kind.marker}.tmp"):
        (tmp_path / name).touch()
    with RunFolder(tmp_path, kind, overwrite=overwrite):
        pass
    assert (tmp_path / kind.marker).exists()


@pytest.mark.parametrize("kind", KINDS[:3], ids=lambda kind: kind.what)
def test_markers_of_the_first_version_are_ours(tmp_path, kind):
    (tmp_path / kind.marker).write_text(yaml.safe_dump(dict.fromkeys(kind.before_format, "x") | {"more": 1}))
    with RunFolder(tmp_path, kind, overwrite=True) as folder:
        assert folder.notes() == {"format": kind.format, "state": "started"}


def test_overwrite_removes_what_mmel_wrote_and_nothing_else(tmp_path):
    ours = ["archive/part-00000.h5", "archive/part-00001.h5.damaged", "archive/part-r03-00000.h5", "summary.json"]
    ours += ["heatmaps/a/b.png_0.0123abcd.png", "heatmaps/drawn.json", "thumbnails/a/b.png_0.0123abcd.jpg"]
    ours += ["photos/a/b.png.0123abcd.jpg", "report/app/vendor/one/a.js", "report/app/main.css", "report/data/head.js"]
    ours += ["report/data/maps-0-00001.js", "report/data/details-12-00001.js.tmp", "report/data/records-00000.js"]
    ours += ["index.html", "page-00002.html", "failures.jsonl", "failures-r01.jsonl"]
    theirs = ["photos/mine.jpg", "report/mine.txt", "report/data/mine.js"]
    theirs += ["archive/notes.txt", "heatmaps/a/mine.png", "report.pdf", "run.yaml.bak", "archive/part-00000.h5.old"]
    with RunFolder(tmp_path, EXPLAINED):
        pass
    for name in ours + theirs:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    with RunFolder(tmp_path, EXPLAINED, overwrite=True):
        pass
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted([*theirs, ".lock", "run.yaml"])
    assert not (tmp_path / "thumbnails").exists()


def test_one_process_holds_a_folder_and_ranks_do_not_meet(tmp_path):
    code = "import sys; from pathlib import Path; from mmel_cli.runs import EXPLAINED, RunFolder\n"
    code += "rank = int(sys.argv[2]) if len(sys.argv) > 2 else None\n"
    code += "with RunFolder(Path(sys.argv[1]), EXPLAINED, rank=rank): pass"

    def other(*rank):
        command = [sys.executable, "-c", code, str(tmp_path), *map(str, rank)]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    with RunFolder(tmp_path, EXPLAINED):
        assert "another mmel is writing there" in other().stderr
    assert other().returncode == 0
    with RunFolder(tmp_path, EXPLAINED, rank=3) as folder:
        folder.failures.add([Failure("a", "image", "b")])
        assert other(3).returncode == 1
        assert other(4).returncode == 0
    assert (tmp_path / "failures-r03.jsonl").read_text().count("\n") == 1


def test_a_failure_log_counts_by_stage(tmp_path):
    log = FailureLog(tmp_path / "f.jsonl")
    log.add([Failure("a", "image", "x"), Failure("b", "pair", "no caption: y"), Failure("c", "image", "z")])
    log.close()
    assert (log.stages["image"], log.stages["pair"], log.without_caption) == (2, 1, 1)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "f").touch()
    with pytest.raises(UsageError, match="is a file"), RunFolder(tmp_path / "f", EXPLAINED):
        pass

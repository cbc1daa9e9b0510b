"""`mmel export`: what it refuses, and that a file is there whole or not at all."""

import json
import subprocess
import sys

import pytest
from made_runs import INFO, record, write_run

from mmel_cli import names
from mmel_cli.export import FORMATS, Exported, Format, find_format


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("made") / "run", [record(n) for n in range(11)])


def test_formats_are_those_that_are_named():
    for name in names.EXPORTS:
        assert find_format(name).name == name
        assert find_format(name.upper()).summary


@pytest.mark.parametrize(
    ("to", "says"),
    [("coko", "did you mean coco?"), ("voc", "is not one of coco, points, parquet, fiftyone")],
)
def test_an_unknown_format_is_refused_by_name(to, says, run, tmp_path, mmel):
    code, _, err = mmel("export", run, "--to", to, "--out", tmp_path / "x")
    assert (code, says in err, len(err.splitlines())) == (2, True, 1)


def test_nothing_is_overwritten_unasked(run, tmp_path, mmel):
    out = tmp_path / "deep/boxes.json"
    command = ("export", run, "--to", "coco", "--out", out)
    assert mmel(*command)[0] == 0
    before = out.read_bytes()
    out.write_bytes(b"mine")
    code, _, err = mmel(*command)
    assert (code, "is there already; give --overwrite, or another file" in err) == (2, True)
    assert out.read_bytes() == b"mine"
    assert mmel(*command, "--overwrite")[0] == 0
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["boxes.json"]
    folder = tmp_path / "folder"
    folder.mkdir()
    code, _, err = mmel(*command[:-1], folder, "--overwrite")
    assert (code, "is there and is no file, which --to coco writes" in err) == (2, True)
    code, _, err = mmel("export", run, "--to", "fiftyone", "--out", out, "--overwrite")
    assert (code, "is there and is no folder" in err) == (2, True)
    assert out.read_bytes() == before


def test_the_runs_own_archive_is_never_the_target(run, mmel):
    shard = run / "archive/part-00000.h5"
    before = shard.read_bytes()
    code, _, err = mmel("export", run, "--to", "points", "--out", shard, "--overwrite")
    assert (code, "is an archive of the run itself" in err) == (2, True)
    assert shard.read_bytes() == before


@pytest.mark.parametrize("to", names.EXPORTS)
def test_a_damaged_shard_leaves_no_half_file(to, tmp_path, mmel):
    run = write_run(tmp_path / "run", [record(n) for n in range(11)])
    shard = run / "archive/part-00002.h5"
    whole = bytearray(shard.read_bytes())
    import h5py

    with h5py.File(shard, "r") as file:
        where = file["map"].id.get_chunk_info(2)
    whole[where.byte_offset : where.byte_offset + 8] = b"\xff" * 8
    shard.write_bytes(whole)
    code, _, err = mmel("export", run, "--to", to, "--out", tmp_path / "out")
    assert code == 1
    assert "part-00002.h5: map is damaged" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_record_without_evidence_has_no_box_and_no_point(tmp_path, mmel):
    import numpy as np

    none = [record(n, fields={"map": np.full(INFO.grid, -1.0, np.float32)}) for n in range(3)]
    run = write_run(tmp_path / "run", [*none, record(3)])
    code, out, _ = mmel("export", run, "--to", "coco", "--out", tmp_path / "b.json", "--json")
    assert code == 0
    assert json.loads(out)["counts"]["records without a box"] == 3
    assert mmel("export", run, "--to", "points", "--out", tmp_path / "p.jsonl")[0] == 0
    first = json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0])["prompts"][0]
    assert (first["points"], first["labels"], first["box"], first["boxes"]) == ([], [], None, [])


def test_what_is_no_number_becomes_null(tmp_path, mmel):
    run = write_run(tmp_path / "run", [record(n, score=float("nan"), logit=float("nan")) for n in range(2)])
    for to in ("coco", "points"):
        assert mmel("export", run, "--to", to, "--out", tmp_path / to)[0] == 0
        assert "NaN" not in (tmp_path / to).read_text()


def test_exporting_loads_no_torch(run, tmp_path):
    code = (
        "import sys; from pathlib import Path; from mmel_cli.cli import app; from mmel_cli.export import *\n"
        "from mmel_cli.export import export\n"
        f"for to in {list(names.EXPORTS)!r}: export(Path({str(run)!r}), Path({str(tmp_path)!r}) / to, find_format(to), "
        "ExportOptions())\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert len(list(tmp_path.iterdir())) == len(names.EXPORTS)


def test_a_format_from_outside_the_package(run, tmp_path, mmel, monkeypatch):
    def write(job, path):
        with path.open("w") as file:
            for one in job.records("map"):
                file.write(f"{one.id}\t{one.map.max():.3f}\n")
        return Exported({"lines": len(job.archive)}, ["mind the tabs"])

    monkeypatch.setitem(FORMATS, "tsv", Format("tsv", "the largest value of each map", write))
    code, out, err = mmel("export", run, "--to", "tsv", "--out", tmp_path / "m.tsv")
    assert (code, out) == (0, f"11 lines in {tmp_path}/m.tsv\n")
    assert "mind the tabs" in err
    assert (tmp_path / "m.tsv").read_text().startswith("photos/000.jpg#0\t")


def test_the_example_of_the_help_and_the_names_for_completion_are_the_registry():
    assert list(names.EXPORTS) == list(FORMATS)

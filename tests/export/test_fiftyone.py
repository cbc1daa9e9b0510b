"""`mmel export --to fiftyone`: its files as documented, and imported by FiftyOne where there is one.

FiftyOne brings MongoDB and pins that mmel does not share, so it is asked in a process of its own: that of
MMEL_FIFTYONE_PYTHON (scripts/test-fiftyone makes one), else this one's.
"""

import base64
import io
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from export.conftest import BOXES
from made_runs import record, write_run
from PIL import Image

from mmel_cli import load_archive
from mmel_cli.export.fiftyone import over_image

PYTHON = os.environ.get("MMEL_FIFTYONE_PYTHON", sys.executable)
READER = Path(__file__).with_name("opened_by_fiftyone.py")


def samples(folder):
    return json.loads((folder / "samples.json").read_text())["samples"]


def unpacked(value):
    return np.load(io.BytesIO(zlib.decompress(base64.b64decode(value["$binary"]["base64"]))), allow_pickle=False)


def exported(mmel, run, out, *more):
    code, said, err = mmel("export", run, "--to", "fiftyone", "--out", out, *more)
    assert code == 0, err
    return said, err


def test_samples_have_photos_heatmaps_of_one_range_and_boxes(spoken, tmp_path, mmel):
    exported(mmel, spoken, tmp_path / "fo")
    with load_archive(spoken) as archive:
        records = list(archive)
    strongest = [float(np.abs(one.map).max()) for one in records]
    every = samples(tmp_path / "fo")
    ranges = {tuple(sample["evidence"]["range"]) for sample in every}
    ((low, high),) = ranges
    assert -low == high == pytest.approx(np.percentile(strongest, 99.5))
    for sample, one in zip(every, records, strict=True):
        assert (sample["record"], sample["caption"], sample["score"]) == (one.id, one.caption, one.score)
        with Image.open(tmp_path / "fo" / sample["filepath"]) as photo:
            assert photo.size == one.image_size[::-1]
            assert not photo.getexif().get(274)
        with Image.open(tmp_path / "fo" / sample["thumbnail_path"]) as small:
            assert small.format == "JPEG"
        for found in sample["regions"]["detections"]:
            x, y, width, height = found["bounding_box"]
            assert 0 <= x < x + width <= 1 + 1e-9
            assert 0 <= y < y + height <= 1 + 1e-9
        values = unpacked(sample["evidence"]["map"])
        assert set(values.ravel()) <= {*one.map.ravel(), 0.0}
        assert set(one.map.ravel()) <= set(values.ravel())
    names = sorted(path.name for path in (tmp_path / "fo/data").iterdir())
    assert len(names) == 3
    links = [path for path in (tmp_path / "fo/data").iterdir() if path.is_symlink()]
    assert len(links) == 2  # the one that is stored turned is copied upright
    exported(mmel, spoken, tmp_path / "copied", "--copy", "--no-thumbnails")
    assert not any(path.is_symlink() for path in (tmp_path / "copied/data").iterdir())
    assert not (tmp_path / "copied/fields").exists()


@pytest.mark.parametrize("geometry", BOXES)
def test_a_heatmap_lies_over_the_whole_image(geometry, placed, tmp_path, mmel):
    exported(mmel, placed[geometry], tmp_path / "fo", "--threshold", 0.5)
    x0, y0, x1, y1 = BOXES[geometry]
    for sample in samples(tmp_path / "fo"):
        values = unpacked(sample["evidence"]["map"])
        height, width = values.shape
        down, across = (np.arange(height) + 0.5) * 80 / height, (np.arange(width) + 0.5) * 160 / width
        inside = np.outer((down > y0) & (down < y1), (across > x0) & (across < x1))
        np.testing.assert_array_equal(values, inside.astype(np.float32))
        (box,) = sample["regions"]["detections"]
        assert box["bounding_box"] == pytest.approx([x0 / 160, y0 / 80, (x1 - x0) / 160, (y1 - y0) / 80])


def test_over_image_keeps_a_map_that_is_the_image_and_bounds_a_tiny_one():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert over_image(values, (0.0, 0.0, 30.0, 20.0), (20, 30)) is not None
    np.testing.assert_array_equal(over_image(values, (0.0, 0.0, 30.0, 20.0), (20, 30)), values)
    assert max(over_image(values, (100.0, 100.0, 103.0, 102.0), (4000, 4000)).shape) <= 512


def test_a_run_whose_photos_are_gone_says_so(tmp_path, mmel):
    run = write_run(tmp_path / "run", [record(n) for n in range(3)])
    said, err = exported(mmel, run, tmp_path / "fo")
    assert "0 samples" in said
    assert "3 records have no photo any more and are left out; --data" in err


def test_only_a_folder_of_an_earlier_export_is_replaced(placed, tmp_path, mmel):
    out, command = tmp_path / "fo", ("export", placed["native"], "--to", "fiftyone", "--out", tmp_path / "fo")
    out.mkdir()
    assert mmel(*command)[0] == 0  # into an empty folder
    code, _, err = mmel(*command)
    assert (code, "is there already; give --overwrite" in err) == (2, True)
    (out / "data/stale").write_text("x")
    originals = {path: path.read_bytes() for path in (placed["native"].parent / "in").iterdir()}
    assert mmel(*command, "--overwrite")[0] == 0
    assert not (out / "data/stale").exists()
    assert {path: path.read_bytes() for path in originals} == originals  # links were removed, not what they lead to
    other = tmp_path / "mine"
    other.mkdir()
    (other / "notes.txt").write_text("x")
    code, _, err = mmel(*command[:-1], other, "--overwrite")
    assert (code, "was not written by mmel export" in err) == (2, True)
    assert (other / "notes.txt").exists()


def test_fiftyone_imports_it(spoken, tmp_path, mmel):
    exported(mmel, spoken, tmp_path / "fo", "--threshold", 0.3)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    asked = subprocess.run(
        [PYTHON, READER, tmp_path / "fo"],
        capture_output=True, text=True, check=False, timeout=300, env=clean | {"FIFTYONE_DO_NOT_TRACK": "1"},
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr[-2000:]
    told = json.loads(asked.stdout.splitlines()[-1])
    if "missing" in told:
        pytest.skip(f"FiftyOne cannot be opened here ({told['missing']}); scripts/test-fiftyone")
    mine = samples(tmp_path / "fo")
    with load_archive(spoken) as archive:
        records = {one.id: one for one in archive}
    assert [sample["record"] for sample in told["samples"]] == list(records)
    for sample, own in zip(told["samples"], mine, strict=True):
        one = records[sample["record"]]
        assert (sample["caption"], sample["score"], sample["size"]) == (one.caption, one.score, list(one.image_size))
        assert sample["filepath"] == str(tmp_path / "fo" / own["filepath"])
        assert Path(sample["thumbnail"]).is_file()
        assert sample["words"] == [word.text for word in one.words]
        assert sample["dtype"] == "float32"
        np.testing.assert_array_equal(np.array(sample["map"], np.float32), unpacked(own["evidence"]["map"]))
        assert sample["range"] == own["evidence"]["range"]
        detections = own["regions"]["detections"]
        assert [r["label"] for r in sample["regions"]] == [d["label"] for d in detections]
        assert [r["box"] for r in sample["regions"]] == [d["bounding_box"] for d in detections]
    assert told["schema"]["evidence"] == "EmbeddedDocumentField"
    assert told["schema"]["rank"] == "IntField"
    assert told["info"]["mmel"]["method"] == "mmel"
    assert told["lowest"] == [min(records.values(), key=lambda one: one.score).id]
    assert told["confident"] == sum(d["confidence"] > 0.5 for s in mine for d in s["regions"]["detections"])

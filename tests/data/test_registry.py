"""A source that is added from outside, through the registry: images and captions in a zip file, none a file on disk."""

import io
import json
import shutil
import zipfile
from functools import partial

import numpy as np
import pytest
import yaml
from PIL import Image

from mmel_cli import load_archive
from mmel_cli.data import SOURCES, Request, Source, open_source, reopen
from mmel_cli.data.captions import check_caption
from mmel_cli.data.images import decode
from mmel_cli.errors import RecordError, UsageError
from mmel_cli.types import Failure, ImageRef, Sample

QUICK = ["--set", "comparison.resamples=99", "--set", "sanity.samples=1", "--set", "faithfulness.steps=3"]


def recognise(request):
    """A zip file that holds captions.jsonl."""
    if not zipfile.is_zipfile(request.path):
        return None
    with zipfile.ZipFile(request.path) as file:
        if "captions.jsonl" not in file.namelist():
            raise UsageError(f"{request.path}: has no captions.jsonl")
    return Source(request, "zip file with captions.jsonl", partial(read, request.path))


def read(path):
    with zipfile.ZipFile(path) as file:
        rows = [json.loads(line) for line in file.read("captions.jsonl").splitlines()]
    for number, row in enumerate(rows):
        name = row["image"]
        try:
            yield Sample(
                id=f"{name}#{number}",
                image=name,
                ref=ImageRef(f"{path.name}/{name}", partial(member, path, name)),
                caption=check_caption(row.get("caption"), f"captions.jsonl, line {number + 1}"),
                mask=ImageRef(f"{path.name}/{row['mask']}", partial(member, path, row["mask"]))
                if "mask" in row
                else None,
            )
        except RecordError as error:
            yield Failure(f"{name}#{number}", error.stage, str(error))


def member(path, name):
    with zipfile.ZipFile(path) as file:
        return io.BytesIO(file.read(name))


@pytest.fixture
def zipped(tmp_path, monkeypatch):
    """Seven images of several sizes in a zip, two captions each, the first five with masks; one more is broken."""
    monkeypatch.setitem(SOURCES, "zip", recognise)
    rng, rows = np.random.default_rng(3), []
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:

        def put(name, array):
            held = io.BytesIO()
            Image.fromarray(array).resize((90, 60), Image.Resampling.NEAREST).save(held, "PNG")
            file.writestr(name, held.getvalue())

        for n in range(7):
            put(f"images/{n}.png", rng.integers(0, 255, (3, 4 + n, 3), dtype=np.uint8))
            put(f"masks/{n}.png", np.uint8([[0, 255], [0, 0]]))
            for text in (f"a red thing {n}", f"a blue one {n}"):
                mask = {"mask": f"masks/{n}.png"} if n < 5 else {}
                rows.append({"image": f"images/{n}.png", "caption": text} | mask)
        file.writestr("images/broken.png", b"no image at all")
        rows += [{"image": "images/broken.png", "caption": "x"}, {"image": "images/0.png", "caption": " "}]
        file.writestr("captions.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "photos.zip"


def test_every_command_works_on_a_source_from_outside(zipped, tiny, tmp_path, mmel):
    run = tmp_path / "run"
    code, _, err = mmel("explain", zipped, "--out", run, "--model", tiny, "--batch-size", 5, "--device", "cpu")
    assert code == 3, err
    assert "Input: zip file with captions.jsonl" in err
    failures = [json.loads(line) for line in (run / "failures.jsonl").read_text().splitlines()]
    assert {failure["id"] for failure in failures} == {"images/broken.png#14", "images/0.png#15"}
    assert any("photos.zip/images/broken.png: is no image" in failure["error"] for failure in failures)
    with load_archive(run) as archive:
        assert archive.ids == [f"images/{n // 2}.png#{n}" for n in range(14)]
        assert all(record.image_size == (60, 90) and np.ptp(record.map) > 0 for record in archive)
    assert len(list((run / "heatmaps").rglob("*.jpg"))) == 14

    noted = yaml.safe_load((run / "run.yaml").read_text())["input"]
    assert noted == {"source": "zip", "path": str(zipped), "layout": "zip file with captions.jsonl"}
    metrics = "insertion,pixel-ap,quadrant-recognition,grad-eclip-insertion-top1"
    code, out, err = mmel("eval", run, "--metrics", metrics, "--json", *QUICK)
    assert code == 0, err
    assert f"input {zipped} (zip file" in err
    found = {name: metric["runs"]["run"]["records"] for name, metric in json.loads(out)["metrics"].items()}
    assert found == {"insertion": 14, "pixel-ap": 10, "quadrant-recognition": 14, "grad-eclip-insertion-top1": 14}

    weights = tmp_path / "w.safetensors"
    command = ["train-weights", run, "--out", weights, "--json", "--objective", "faithfulness"]
    command += ["--set", "training.epochs=1", "--set", "training.validation=0.4"]
    code, out, err = mmel(*command)
    assert code == 0, err
    assert sum(json.loads(out)["records"].values()) == 14
    code, _, err = mmel("fuse", run, "--weights", weights, "--out", tmp_path / "fused")
    assert code == 0, err
    assert len(list((tmp_path / "fused/heatmaps").rglob("*.jpg"))) == 14
    assert yaml.safe_load((tmp_path / "fused/run.yaml").read_text())["input"] == noted | {"fused_from": str(run)}


def test_what_a_source_writes_down_opens_it_again(zipped, photos, tmp_path):
    picture = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(picture)
    named = shutil.copytree(photos, tmp_path / "named")
    (named / "metadata.jsonl").write_text('{"file_name": "00.png", "alt": "a dog"}\n')
    for source in (
        open_source(zipped),
        open_source(picture, caption="a dog"),
        open_source(photos),
        open_source(named, caption_column="alt"),
    ):
        plain = yaml.safe_load(yaml.safe_dump(source.plain()))
        again = reopen(plain)
        assert (again.name, again.layout) == (source.name, source.layout)
        assert list(again) == list(source)
    moved = reopen(open_source(zipped).plain(), photos)  # and unpacked meanwhile
    assert (moved.name, list(moved)) == ("imagefolder", list(open_source(photos)))
    with pytest.raises(UsageError, match="no column 'alt'"):  # options go with it
        reopen(plain, photos)


def test_what_an_older_version_wrote_down_opens_too(photos, tmp_path):
    old = {"path": str(photos), "layout": "HuggingFace imagefolder (metadata.jsonl)"}
    assert list(reopen(old)) == list(open_source(photos))
    for plain, says in (
        ({}, "no run.yaml"),
        ({"path": 5}, "no run.yaml"),
        ({"path": str(photos), "source": "zip"}, "zip is not one of"),
        ({"path": str(tmp_path / "gone"), "source": "sidecar"}, "does not exist"),
        ({"path": str(tmp_path), "source": "imagefolder"}, "not of the kind 'imagefolder' any more"),
    ):
        with pytest.raises(UsageError, match=says):
            reopen(plain)


def test_the_first_that_recognises_an_input_reads_it(photos, monkeypatch):
    first = {"never": lambda request: None, "mine": lambda request: Source(request, "mine", lambda: iter(()))}
    monkeypatch.setattr("mmel_cli.data.source.SOURCES", first | SOURCES)
    source = open_source(photos)
    assert (source.name, source.layout, list(source)) == ("mine", "mine", [])
    assert source.request == Request(photos)


def test_references_are_equal_by_key(tmp_path):
    one, other = (ImageRef("a", partial(io.BytesIO, data)) for data in (b"1", b"2"))
    assert one == other
    assert len({one, other, ImageRef("b", one.open)}) == 2
    for data, says in ((b"", "a: is empty"), (b"x" * 300_000_000, "max_bytes"), (b"<html>", "a: is no image")):
        with pytest.raises(RecordError, match=says):
            decode(ImageRef("a", partial(io.BytesIO, data)))

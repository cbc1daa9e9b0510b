"""Real runs whose maps are known: the control method `mask` gives each cell the part of it that a box covers."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from mmel_cli import explain, load_config

BOXES = {  # two by two cells of the 4 x 4 grid over a picture of 160 x 80, by geometry
    "native": (60, 20, 100, 60),  # the grid is on the middle 80 x 80
    "squash": (40, 20, 120, 60),
    "letterbox": (40, 0, 120, 80),  # the grid reaches 40 pixels above and below
}


def write_photos(folder: Path, rows: list[dict]) -> Path:
    (folder / "in").mkdir(parents=True)
    for n, name in enumerate(dict.fromkeys(row["file_name"] for row in rows)):
        pixels = np.random.default_rng(n).integers(0, 255, (80, 160, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "in" / name)
    (folder / "in/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "in"


@pytest.fixture(scope="session")
def placed(tiny, tmp_path_factory):
    """A run for each geometry: five captions of three pictures, all with the same box."""
    runs = {}
    for geometry, box in BOXES.items():
        rows = [{"file_name": f"{n // 2}.png", "text": f"a red dog {n}", "boxes": [box]} for n in range(5)]
        folder = tmp_path_factory.mktemp(geometry)
        options = {"model": str(tiny), "device": "cpu", "method.name": "mask", "image.geometry": geometry}
        options |= {"heatmaps": False, "archive.shard_size": 2, "batch_size": 2}
        explain(write_photos(folder, rows), folder / "run", load_config(options=options))
        runs[geometry] = folder / "run"
    return runs


@pytest.fixture(scope="session")
def spoken(tiny, tmp_path_factory):
    """A run with words x regions; one picture is stored turned (EXIF), and a caption is hostile."""
    folder = tmp_path_factory.mktemp("spoken")
    texts = ["a red dog and a blue cat", 'a cat \u2028 </script> "<b>"', "of on the", "a blue dog on the grass"]
    rows = [{"file_name": f"{n // 2}.png", "text": text} for n, text in enumerate(texts)]
    rows.append({"file_name": "turned.jpg", "text": "a red cat"})
    source = write_photos(folder, rows)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (160, 80), "red").save(source / "turned.jpg", exif=exif)
    options = {"model": str(tiny), "device": "cpu", "words.regions": True, "words.texts": 20, "heatmaps": False}
    explain(source, folder / "run", load_config(options=options | {"archive.shard_size": 2, "batch_size": 2}))
    return folder / "run"

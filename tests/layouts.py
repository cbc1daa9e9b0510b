"""The same pairs laid out as every source reads them."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def png(image):
    held = io.BytesIO()
    image.save(held, "PNG")
    return held.getvalue()


IN_FIRST = 4  # images in the first shard
PIXEL = png(Image.new("RGB", (4, 4)))


def write(path, content=PIXEL):
    """A file with its folders; content of any kind that the suffix asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, (dict, list)):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_tar(path, members):
    """Members are (name or TarInfo, bytes); the same bytes at every call."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def pairs(count=7):
    """(name, image, mask, box, captions) of `count` images of several sizes, two captions each."""
    rng = np.random.default_rng(5)
    for n in range(count):
        width, height = (int(x) for x in rng.integers(36, 80, 2))
        image = Image.fromarray(rng.integers(0, 255, (4, 5, 3), dtype=np.uint8)).resize((width, height))
        inside = np.zeros((height, width), np.uint8)
        inside[4 : height // 2, 3 : width // 2] = 255
        box = [3, 4, width // 2, height // 2]
        yield f"{n:02}", image, Image.fromarray(inside), box, [f"a red dog {n}", f"a blue cat {n}"]


def coco(root: Path) -> Path:
    images, annotations = [], []
    for n, (name, image, _, (x0, y0, x1, y1), captions) in enumerate(pairs()):
        write(root / f"val2017/{name}.png", png(image))
        images.append({"id": n, "file_name": f"{name}.png"})
        for text in captions:
            box = [x0, y0, x1 - x0, y1 - y0]
            annotations.append({"id": len(annotations), "image_id": n, "caption": text, "bbox": box})
    write(root / "annotations/captions_val2017.json", {"images": images, "annotations": annotations})
    write(root / "annotations/instances_val2017.json", {"images": images, "annotations": [{"image_id": 0, "id": 1}]})
    return root


def table(root: Path) -> Path:
    lines = ["filepath\ttitle\tmask"]
    for name, image, mask, _, captions in pairs():
        write(root / f"images/{name}.png", png(image))
        write(root / f"masks/{name}.png", png(mask))
        lines += [f"{name}.png\t{text}\tmasks/{name}.png" for text in captions]
    write(root / "captions.csv", "\r\n".join(lines))
    return root


def tars(root: Path, count: int = 7) -> Path:
    members = []
    for name, image, mask, box, captions in pairs(count):
        members += [(f"{name}.png", png(image)), (f"{name}.mask.png", png(mask))]
        members.append((f"{name}.json", json.dumps({"caption": captions, "boxes": [box]}).encode()))
    write_tar(root / "00000.tar", members[: 3 * IN_FIRST])
    write_tar(root / "00001.tar", members[3 * IN_FIRST :])
    return root


LAYOUTS = {
    "coco": (coco, "COCO captions (annotations/captions_val2017.json; images in val2017/)", "val2017/{}.png"),
    "table": (
        table,
        "table (captions.csv, tab; images by filepath, captions by title; images in images/)",
        "images/{}.png",
    ),
    "tar": (tars, "tar shards (00000.tar and 1 more; .json, .mask.png, .png)", "{tar}/{}.png"),
}
"""By name in SOURCES: writes it, what is said of it, and what its images are called."""


def image_name(layout: str, n: int) -> str:
    return LAYOUTS[layout][2].format(f"{n:02}", tar="00000.tar" if n < IN_FIRST else "00001.tar")

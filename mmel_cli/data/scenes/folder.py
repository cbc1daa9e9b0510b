"""Write scenes as a HuggingFace imagefolder: images/, masks/ and metadata.jsonl, one row a caption."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmel_cli.data.scenes.captions import Caption, captions_of
from mmel_cli.data.scenes.paint import paint
from mmel_cli.data.scenes.sample import SPLITS, Scene, sample_scene
from mmel_cli.errors import UsageError

_CAPTION_STREAM = 1
_PARAMETERS = "scenes.json"


def write_scenes(folder: Path, count: int, seed: int, *, split: str = "test", side: int = 192) -> int:
    """Write `count` scenes of `side` x `side` pixels; the same arguments give the same bytes.

    A row of metadata.jsonl has file_name, text, mask, boxes, and kind, objects, held_out, split.

    Returns:
        The number of captions.

    Raises:
        UsageError: if the folder holds anything but the same scenes.
    """
    parameters = {"count": count, "seed": seed, "split": split, "side": side}
    _claim(folder, parameters)
    for name in ("images", "masks"):
        (folder / name).mkdir(exist_ok=True)
    rows: list[dict[str, Any]] = []
    index = written = 0
    while written < count:
        scene = sample_scene(seed, split, index)
        rng = np.random.default_rng([seed, SPLITS.index(split), _CAPTION_STREAM, index])
        index += 1
        if scene.objects:
            rows += [
                row | {"split": split} for row in _write(folder, f"{written:06}", scene, captions_of(scene, rng), side)
            ]
            written += 1
    temporary = folder / "metadata.jsonl.tmp"
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    temporary.rename(folder / "metadata.jsonl")
    return len(rows)


def _claim(folder: Path, parameters: dict[str, Any]) -> None:
    """Make the folder, or see that it was made for the same scenes."""
    mark = folder / _PARAMETERS
    if mark.is_file():
        if json.loads(mark.read_text("utf-8")) != parameters:
            raise UsageError(f"{folder}: holds other scenes ({mark.read_text('utf-8').strip()}); give a new folder")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: is not empty; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps(parameters) + "\n", "utf-8")


def _write(folder: Path, name: str, scene: Scene, captions: list[Caption], side: int) -> list[dict[str, Any]]:
    """One scene's image and masks; its rows."""
    images, visible = paint([scene], side)
    pixels = images[0].mul(255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    rows = []
    for caption in captions:
        named = caption.about(scene)
        mask = f"masks/{name}_{''.join(map(str, named))}.png"
        union = visible[0, list(named)].any(0).numpy()
        Image.fromarray((union * 255).astype(np.uint8)).save(folder / mask)
        rows.append(
            {
                "file_name": f"images/{name}.png",
                "text": caption.text,
                "mask": mask,
                "boxes": [box for box in (_box(visible[0, k].numpy()) for k in named) if box],
                "kind": caption.kind,
                "objects": len(scene.objects),
                "held_out": any(scene.objects[k].held_out for k in named),
            }
        )
    return rows


def _box(mask: np.ndarray) -> list[int]:
    """x0, y0, x1, y1 around the visible pixels, right and bottom exclusive; empty if there are none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1] if len(rows) else []

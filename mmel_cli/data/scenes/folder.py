"""Write scenes as a HuggingFace imagefolder: images/, masks/ and metadata.jsonl, one row a caption."""

import json
import os
from collections.abc import Iterator
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

    A row of metadata.jsonl has file_name, text, mask, boxes, and phrases, kind, objects, held_out, split. A phrase has
    start, end, text, mask, boxes: of all objects that it names (of a relation, those of which the caption is true).
    A folder that a version without phrases wrote for the same arguments is written anew.

    Returns:
        The number of captions.

    Raises:
        UsageError: if the folder holds anything but the same scenes.
    """
    _check(count, seed, split, side)
    _claim(folder, {"count": count, "seed": seed, "split": split, "side": side})
    for name in ("images", "masks"):
        (folder / name).mkdir(exist_ok=True)
    final, temporary = folder / "metadata.jsonl", folder / "metadata.jsonl.tmp"
    final.unlink(missing_ok=True)  # while files are rewritten the set is not whole
    captions = 0
    with temporary.open("w", encoding="utf-8") as file:
        for number, (scene, said) in enumerate(_scenes(count, seed, split)):
            for row in _write(folder, f"{number:06}", scene, said, side):
                file.write(json.dumps(row | {"split": split}) + "\n")
                captions += 1
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(final)
    return captions


def made_here(folder: Path) -> bool:
    """Whether `write_scenes` made a folder, by the file that it leaves there."""
    try:
        written = json.loads((folder / _PARAMETERS).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(written, dict) and set(written) == {"count", "seed", "split", "side"}


def _scenes(count: int, seed: int, split: str) -> Iterator[tuple[Scene, list[Caption]]]:
    """The first `count` scenes that have an object, with their captions."""
    index = made = 0
    while made < count:
        scene = sample_scene(seed, split, index)
        rng = np.random.default_rng([seed, SPLITS.index(split), _CAPTION_STREAM, index])
        index += 1
        if scene.objects:
            yield scene, captions_of(scene, rng)
            made += 1


def _check(count: int, seed: int, split: str, side: int) -> None:
    if split not in SPLITS:
        raise UsageError(f"split {split!r}: is not one of {', '.join(SPLITS)}")
    if count < 1 or seed < 0 or side < 1:
        raise UsageError(f"count {count}, seed {seed}, side {side}: count and side must be above 0, seed not below")


def _claim(folder: Path, parameters: dict[str, Any]) -> None:
    """Make the folder, or see that it was made for the same scenes."""
    mark = folder / _PARAMETERS
    if mark.is_file():
        try:
            written = json.loads(mark.read_text("utf-8"))
        except ValueError as error:
            raise UsageError(f"{mark}: is not what mmel writes; give a new folder") from error
        if written != parameters:
            raise UsageError(f"{folder}: holds other scenes ({json.dumps(written)[:200]}); give a new folder")
        return
    temporary = folder / f"{_PARAMETERS}.tmp"
    if folder.exists() and (not folder.is_dir() or any(path != temporary for path in folder.iterdir())):
        raise UsageError(f"{folder}: is not empty; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(parameters) + "\n", "utf-8")
    temporary.rename(mark)


def _write(folder: Path, name: str, scene: Scene, captions: list[Caption], side: int) -> list[dict[str, Any]]:
    """One scene's image and masks; its rows."""
    images, visible = paint([scene], side)
    pixels = images[0].mul(255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    masks = visible[0].numpy()
    rows = [
        {"file_name": f"images/{name}.png", "text": caption.text}
        | _truth(name, masks, caption.about(scene))
        | {
            "phrases": [
                {"start": start, "end": end, "text": caption.text[start:end]} | _truth(name, masks, named)
                for (start, end), named in zip(caption.spans, caption.about_each(scene), strict=True)
            ],
            "kind": caption.kind,
            "objects": len(scene.objects),
            "held_out": any(scene.objects[k].held_out for k in caption.about(scene)),
        }
        for caption in captions
    ]
    for named in sorted({n for said in captions for n in (said.about(scene), *said.about_each(scene))}):
        union = masks[list(named)].any(0)
        Image.fromarray((union * 255).astype(np.uint8)).save(folder / _mask(name, named))
    return rows


def _truth(name: str, masks: np.ndarray, named: tuple[int, ...]) -> dict[str, Any]:
    """Where some objects of a scene are; the same objects have the same file, whatever names them."""
    boxes = [box for box in (_box(masks[k]) for k in named) if box]
    return {"mask": _mask(name, named), "boxes": boxes}


def _mask(name: str, named: tuple[int, ...]) -> str:
    return f"masks/{name}_{''.join(map(str, named))}.png"


def _box(mask: np.ndarray) -> list[int]:
    """x0, y0, x1, y1 around the visible pixels, right and bottom exclusive; empty if there are none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1] if len(rows) else []

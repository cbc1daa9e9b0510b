"""COCO captions: one JSON file whose `images` are joined to the captions in `annotations`."""

import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mmel_cli.data.base import Request, Source, refuse_caption, refuse_columns
from mmel_cli.data.boxes import boxes_in
from mmel_cli.data.captions import NO_CAPTION, check_caption
from mmel_cli.data.paths import file_ref, may_be_read, readable_image, record_id, resolve, shown
from mmel_cli.data.places import Place, find_place
from mmel_cli.data.records import Seen
from mmel_cli.errors import RecordError, UsageError
from mmel_cli.types import Failure, Sample

_SHELF = "annotations"  # where COCO keeps its JSON files
_KEYS = (b'"images"', b'"annotations"', b'"caption"')
_SHOWN_KEYS = 12


def recognise(request: Request) -> Source | None:
    """A JSON file, or a folder that holds one of COCO's captions, in it or in its annotations/."""
    path = request.path
    if path.is_dir():
        names = [name for name in json_files(path) if holds(path / name, _KEYS)]
        if len(names) > 1:
            raise UsageError(f"{path}: holds several COCO caption files; give one of them: {shown(', '.join(names))}")
        file = path / names[0] if names else None
    else:
        names, file = [path.name], path if path.suffix.lower() == ".json" else None
    if file is None:
        return None
    refuse_caption(request)
    refuse_columns(request, "a COCO caption file")
    captions = _read(file, names[0])
    place = find_place(request.folder, file, captions.files, above=True)
    layout = f"COCO captions ({shown(names[0])}{place.layout})"
    return Source(request, layout, _Coco(captions, place).read)


def json_files(folder: Path) -> list[str]:
    """The JSON files in a folder and its annotations/, sorted, relative; links that lead out are not among them."""
    files = [*folder.glob("*.json"), *(folder / _SHELF).glob("*.json")]
    names = sorted(file.relative_to(folder).as_posix() for file in files)
    return [name for name in names if may_be_read(folder, name)]


def holds(file: Path, words: tuple[bytes, ...]) -> bool:
    """Whether a file has all of these bytes somewhere; the file is mapped, not read into memory."""
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return all(content.find(word) >= 0 for word in words)
    except (OSError, ValueError):  # ValueError: it is empty
        return False


@dataclass
class _Captions:
    """What is needed of a caption file: parallel lists of images, and what is wrong with its entries."""

    name: str
    files: list[str] = field(default_factory=list)
    annotations: list[list[tuple[int, Any, Any]]] = field(default_factory=list)  # an image's: annotation, caption, bbox
    faults: list[tuple[str, str]] = field(default_factory=list)  # entry, error


@dataclass(frozen=True)
class _Coco:
    captions: _Captions
    place: Place

    def read(self) -> Iterator[Sample | Failure]:
        """The captions of each image together, images in the order of the file; then what is wrong with its entries."""
        seen = Seen()
        for file, annotations in zip(self.captions.files, self.captions.annotations, strict=True):
            yield from self._entries(file, annotations, seen)
        for where, error in self.captions.faults:
            yield Failure(where, "pair", error)

    def _entries(self, file: str, annotations: list[tuple[int, Any, Any]], seen: Seen) -> Iterator[Sample | Failure]:
        image = (PurePosixPath(self.place.folder) / file.replace("\\", "/")).as_posix()
        if not annotations:
            error = f"{NO_CAPTION}: {shown(self.captions.name)} has no annotation of the image"
            at_hand = readable_image(self.place.root, image)
            yield Failure(record_id(image, seen.number(image)), "pair", error, at_hand)
        for number, caption, box in annotations:
            identity, where = (
                record_id(image, seen.number(image)),
                f"{shown(self.captions.name)}, annotations[{number}]",
            )
            try:
                ref = file_ref(resolve(self.place.root, image))
                yield Sample(identity, image, ref, check_caption(caption, where), boxes=_boxes(box, where))
            except RecordError as error:
                yield Failure(identity, error.stage, str(error), readable_image(self.place.root, image))


def _read(file: Path, name: str) -> _Captions:
    """The captions of a file.

    Raises:
        UsageError: if it cannot be read, or is no COCO file with captions.
    """
    where = shown(str(file))
    try:
        content = json.loads(file.read_bytes().decode("utf-8-sig", "surrogateescape"))
    except OSError as error:
        raise UsageError(f"{where}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: is not JSON in UTF-8 ({shown(str(error))})") from error
    if not isinstance(content, dict):
        raise UsageError(f"{where}: is a JSON {type(content).__name__}; COCO is an object with images and annotations")
    for key in ("images", "annotations"):
        if not isinstance(content.get(key), list):
            keys = shown(", ".join(list(content)[:_SHOWN_KEYS])) or "none"
            raise UsageError(f"{where}: has no list {key!r}, as COCO captions have; its keys are {keys}")
    annotations = content["annotations"]
    if annotations and not any(isinstance(entry, dict) and "caption" in entry for entry in annotations):
        first = next((entry for entry in annotations if isinstance(entry, dict)), {})
        keys = shown(", ".join(list(first)[:_SHOWN_KEYS])) or "none"
        raise UsageError(f"{where}: its annotations have no caption (their keys: {keys}); give COCO's captions_*.json")
    captions = _Captions(name)
    _join(captions, _index(captions, content["images"]), annotations)
    if not captions.files:
        raise UsageError(f"{where}: lists no usable image")
    return captions


def _index(captions: _Captions, images: list[Any]) -> dict[int | str, int | None]:
    """Take the images in; by id their place in the lists, None for an id of several files."""
    places: dict[int | str, int | None] = {}
    for number, image in enumerate(images):
        where = f"{shown(captions.name)}, images[{number}]"
        identity, file = (_id(image.get("id")), image.get("file_name")) if isinstance(image, dict) else (None, None)
        if identity is None:
            captions.faults.append((where, f"{where}: has no id"))
        elif not isinstance(file, str) or not file:
            captions.faults.append((where, f"{where}: has no file_name"))
        elif identity in places:
            place = places[identity]
            captions.faults.append((where, f"{where}: id {shown(str(identity))} is not unique"))
            if place is not None and captions.files[place] != file:
                places[identity] = None
        else:
            places[identity] = len(captions.files)
            captions.files.append(file)
            captions.annotations.append([])
    return places


def _join(captions: _Captions, places: dict[int | str, int | None], annotations: list[Any]) -> None:
    """Give each annotation to its image."""
    ids: set[int | str] = set()
    for number, annotation in enumerate(annotations):
        where = f"{shown(captions.name)}, annotations[{number}]"
        entry = annotation if isinstance(annotation, dict) else {}
        image, identity = _id(entry.get("image_id")), _id(entry.get("id"))
        if image is None:
            fault = "has no image_id"
        elif image not in places:
            fault = f"image_id {shown(repr(image))} is of no image"
        elif places[image] is None:
            fault = f"image_id {shown(repr(image))} is of several images"
        elif identity is not None and identity in ids:
            fault = f"id {shown(repr(identity))} is not unique"
        else:
            place = places[image]
            assert place is not None  # noqa: S101 - asked above
            captions.annotations[place].append((number, entry.get("caption"), entry.get("bbox")))
            ids.update(() if identity is None else (identity,))
            continue
        captions.faults.append((where, f"{where}: {fault}"))


def _id(value: Any) -> int | str | None:
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _boxes(value: Any, where: str) -> tuple[tuple[float, float, float, float], ...]:
    """COCO's bbox: x, y, width, height."""
    if value in (None, []):
        return ()
    try:
        x, y, width, height = (float(n) for n in value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RecordError("pair", f"{where}: bbox must be [x, y, width, height] in pixels") from error
    return boxes_in([[x, y, x + width, y + height]], where)

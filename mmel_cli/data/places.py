"""In which folder the images of a table or a COCO file lie: beside it, or in one with a usual name."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mmel_cli.data.paths import shown
from mmel_cli.errors import UsageError

_COCO = tuple(f"{split}{year}" for year in (2014, 2015, 2017) for split in ("train", "val", "test"))
FOLDERS = ("images", "Images", *_COCO, "train", "val", "test", "flickr30k_images", "flickr30k-images")
_ABOVE = ("annotations", "annotation")  # a file in such a folder speaks of what lies beside that folder


@dataclass(frozen=True)
class Place:
    """`folder`, relative to `root` and "" for itself, is what file names are relative to; none may leave `root`."""

    root: Path
    folder: str

    @property
    def layout(self) -> str:
        """For the line that says how an input was recognised; empty if images lie beside the file."""
        return f"; images in {shown(self.folder)}/" if self.folder else ""


def find_place(inside: Path, file: Path, names: Iterable[str], *, above: bool) -> Place:
    """Where the first of `names` that exists anywhere lies.

    Beside the file comes first, then a folder that its name ends in (captions_val2017.json: val2017), then others.

    Args:
        inside: the input folder; ids are relative to it if it holds the images, else to the folder above the file.
        file: the table or JSON file.
        names: file names as it gives them.
        above: whether images may also lie beside the folder that holds the file.

    Raises:
        UsageError: if none of the names exists, or one exists in several folders of which none comes first.
    """
    inside, beside = inside.resolve(), file.parent.resolve()
    own = _own(file)
    bases = (beside, beside.parent) if above else (beside,)
    first = [beside, *(base / name for base in bases for name in own)]
    folders = [*first, *(base / name for base in bases for name in FOLDERS)]
    folders += [beside.parent] if above and beside.name.lower() in _ABOVE else []
    there = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
    asked = ""
    for name in names:
        relative = _relative(name)
        if not relative:
            continue
        asked = asked or relative
        hits = [folder for folder in there if os.path.lexists(folder / relative)]
        if hits:
            if len(hits) > 1 and hits[0] not in first:
                several = " and ".join(f"{folder.parent.name}/{folder.name}/" for folder in hits[:3])
                raise UsageError(
                    f"{shown(str(file))}: {shown(relative)} lies in {shown(several)}; move the file into the one that "
                    "it describes"
                )
            return _place(inside, beside, hits[0])
    if asked:
        usual = "images/, train2017/, val2017/ or another usual folder" + (" beside or above it" if above else "")
        raise UsageError(
            f"{shown(str(file))}: none of its images is there: {shown(asked)} lies neither beside it nor in {usual}"
        )
    return _place(inside, beside, beside)  # no name can be used: each is a failure of its own


def _own(file: Path) -> tuple[str, ...]:
    """What the file's name calls its split: captions_val2017.json is of val2017 or images/val2017."""
    splits = dict.fromkeys((file.stem.rsplit("_", 1)[-1], file.stem))
    return tuple(name for split in splits for name in (split, f"images/{split}"))


def _relative(name: str) -> str:
    """A name that may be looked for; empty for others, which are refused later."""
    name = name.replace("\\", "/")
    path = PurePosixPath(name)
    return "" if not name or path.is_absolute() or ".." in path.parts or ":/" in name else name


def _place(inside: Path, beside: Path, folder: Path) -> Place:
    root = next(root for root in (inside, beside, beside.parent) if folder.is_relative_to(root))
    below = folder.relative_to(root).as_posix()
    return Place(root, "" if below == "." else below)

"""Flickr30k Entities as a metadata.jsonl: one row a caption, with its phrases and their boxes.

    DATA="--sentences Sentences --annotations Annotations --images flickr30k-images"
    python scripts/convert_flickr30k_entities.py $DATA
    python scripts/convert_flickr30k_entities.py $DATA --split test.txt --out flickr30k-images/test.jsonl
    mmel explain flickr30k-images/test.jsonl --out runs/entities --model openai/clip-vit-base-patch16

Reads the data set as its authors give it out (github.com/BryanPlummer/flickr30k_entities; unpack annotations.zip):
Sentences/ID.txt has a caption a line, in which "[/EN#7/people A young man]" is a phrase about the entity 7;
Annotations/ID.xml has the boxes of entities, with corners counted from 1 and belonging to the box. --split is a list of
IDs, one a line.

A row has file_name, text (the caption without markup, with the blanks of its tokens) and phrases; a phrase has start,
end, text, entity, types, and boxes as mmel reads them: [x0, y0, x1, y1] from 0, right and bottom exclusive, all boxes
of the entity. Entities without boxes keep their phrase and have no truth: those that are not visual (entity 0), that
are the whole scene, and that nobody found in the image.

What cannot be read is named on stderr and left out: a caption with broken markup alone, an image with broken
annotations with all its captions. Exit code 3 then, 2 where there is nothing to convert, 0 else.
"""

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

_PHRASE = re.compile(r"\[/EN#(\d+)((?:/[A-Za-z]+)+) +([^\[\]]*[^\[\]\s]) *\]")
_LARGEST = 1 << 20  # bytes of a file; the data set's own have a few thousand
_SUFFIX = ".jpg"


class Unreadable(Exception):  # noqa: N818 - what is wrong with a file, in a line
    pass


class _NoDoctype(ET.TreeBuilder):
    """Refuses a document type, and with it every entity that one could define, before any of it is read."""

    def doctype(self, *_: Any) -> None:
        raise Unreadable("has a DOCTYPE, which the data set's files have not; refused")


def parse_caption(line: str) -> tuple[str, list[dict[str, Any]]]:
    """A caption without its markup, and its phrases."""
    text, phrases, end = "", [], 0
    for match in _PHRASE.finditer(line):
        entity, types, words = match.groups()
        text += line[end : match.start()]
        phrases.append(
            {
                "start": len(text),
                "end": len(text) + len(words),
                "text": words,
                "entity": entity,
                "types": types[1:].split("/"),
            }
        )
        text += words
        end = match.end()
    text += line[end:]
    if "[/EN" in text or "]" in text or not text.strip():
        raise Unreadable(f"is no caption with [/EN#ID/TYPE WORDS] in it: {line[:80]!r}")
    return text, phrases


def parse_annotations(content: bytes) -> dict[str, list[list[int]]]:
    """The boxes of each entity that has any."""
    parser = ET.XMLParser(target=_NoDoctype())  # noqa: S314 - external entities are not fetched, others refused
    try:
        root = ET.fromstring(content, parser)  # noqa: S314
    except ET.ParseError as error:
        raise Unreadable(f"is not XML ({error})") from error
    if root.tag != "annotation":
        raise Unreadable(f"is <{root.tag}>, not <annotation>")
    boxes: dict[str, list[list[int]]] = defaultdict(list)
    for thing in root.iter("object"):
        names = [name.text.strip() for name in thing.findall("name") if name.text and name.text.strip()]
        if not names:
            raise Unreadable("has an <object> without <name>")
        for box in thing.findall("bndbox"):
            corners = _corners(box)
            for name in names:
                boxes[name].append(corners)
    return dict(boxes)


def _corners(box: ET.Element) -> list[int]:
    try:
        x0, y0, x1, y1 = (int(box.findtext(side, "")) for side in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError as error:
        raise Unreadable("has a <bndbox> without xmin, ymin, xmax and ymax in whole pixels") from error
    if x1 < x0 or y1 < y0:
        raise Unreadable(f"has a box from {x0}, {y0} to {x1}, {y1}, which is turned round")
    return [x0 - 1, y0 - 1, x1, y1]


def rows_of(
    sentences: Path, annotations: Path, image: Path, folder: Path, faults: list[str]
) -> Iterator[dict[str, Any]]:
    """The rows of one image; what is wrong is added to `faults`."""
    where = annotations
    try:
        boxes = parse_annotations(read(annotations))
        where = sentences
        lines = read(sentences).decode().splitlines()
    except UnicodeDecodeError:
        faults.append(f"{where}: is not UTF-8")
        return
    except Unreadable as error:
        faults.append(f"{where}: {error}")
        return
    if not image.is_file():
        faults.append(f"{image}: is not there")
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            text, phrases = parse_caption(line.strip())
        except Unreadable as error:
            faults.append(f"{sentences}, line {number}: {error}")
            continue
        given = [phrase | ({"boxes": boxes[e]} if (e := phrase["entity"]) in boxes else {}) for phrase in phrases]
        yield {"file_name": image.relative_to(folder).as_posix(), "text": text, "phrases": given}


def read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST:
            raise Unreadable(f"is over {_LARGEST} bytes")
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror})") from error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=Path, required=True, help="the folder of ID.txt")
    parser.add_argument("--annotations", type=Path, required=True, help="the folder of ID.xml")
    parser.add_argument("--images", type=Path, required=True, help=f"the folder of ID{_SUFFIX}")
    parser.add_argument("--split", type=Path, help="a file of IDs, one a line; all that have sentences otherwise")
    parser.add_argument(
        "--out", type=Path, help="a new .jsonl in the folder of images or above; else metadata.jsonl there"
    )
    args = parser.parse_args()
    out, images = (args.out or args.images / "metadata.jsonl").resolve(), args.images.resolve()
    if out.suffix != ".jsonl" or out.exists() or not images.is_dir() or not images.is_relative_to(out.parent):
        parser.error(f"{out} must be a new .jsonl file in the folder of images or in one above it")
    there = sorted(path.stem for path in args.sentences.glob("*.txt"))
    names = there if args.split is None else args.split.read_text("utf-8").split()
    if not names:
        parser.error(f"{args.split or args.sentences}: names no image")
    faults: list[str] = []
    captions = phrases = boxed = 0
    unfinished = out.with_suffix(".jsonl.tmp")
    with unfinished.open("w", encoding="utf-8") as file:
        for name in names:
            paths = (args.sentences / f"{name}.txt", args.annotations / f"{name}.xml", images / f"{name}{_SUFFIX}")
            for row in rows_of(*paths, out.parent, faults):
                file.write(json.dumps(row) + "\n")
                captions += 1
                phrases += len(row["phrases"])
                boxed += sum("boxes" in phrase for phrase in row["phrases"])
    for fault in faults:
        print(fault, file=sys.stderr)
    if not captions:
        unfinished.unlink()
        print(f"{args.sentences}: no caption could be converted", file=sys.stderr)
        return 2
    unfinished.replace(out)
    print(f"{captions} captions with {phrases} phrases, {boxed} of them with boxes, in {out}; left out: {len(faults)}")
    return 3 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

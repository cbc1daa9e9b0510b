"""Boxes of evidence as COCO annotations: what pycocotools, detection tools and labelling tools read."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

from mmel_cli.blobs import Blob, blobs
from mmel_cli.export.base import Exported, Format, Job
from mmel_cli.export.named import FIELDS, Named, boxed, number, phrases_of
from mmel_cli.types import Explanation

_LEFT_OUT = "phrases left out, whose share is not above 0"


def write(job: Job, path: Path) -> Exported:
    """One JSON: images, annotations with a `score`, and a category for every phrase or caption.

    A record's phrases have boxes where it has phrases, else its caption has. An annotation's `score` is the share of
    the map's positive evidence in its region (no confidence), `share` the phrase's share of the score (null: the whole
    caption), `cosine` the record's score, `peak` the strongest evidence there. Phrases without a share above 0 have no
    boxes: a box would say that a thing is there that the model does not find. Numbers
    start at 1, since pycocotools takes 0 for none.
    """
    images: dict[str, int] = {}
    categories: dict[tuple[str, str], int] = {}
    counts = {"images": 0, "boxes": 0, "records without a box": 0, _LEFT_OUT: 0}
    with path.open("w", encoding="utf-8") as file, tempfile.TemporaryFile("w+", encoding="utf-8") as annotations:
        about = {"description": "boxes of evidence, by mmel", "threshold": job.options.threshold}
        file.write(f'{{"info": {json.dumps(about | _made_by(job))}, "images": [')
        for record in job.records(*FIELDS):
            if record.image not in images:
                images[record.image] = len(images) + 1
                _item(file, _image(record, images[record.image]), first=len(images) == 1)
            before = counts["boxes"]
            for named in boxed(record):
                key = (named.kind, named.text)
                category = categories.setdefault(key, len(categories) + 1)
                for blob in blobs(named.map, record.box, record.image_size, job.options.threshold):
                    counts["boxes"] += 1
                    place = {"id": counts["boxes"], "image_id": images[record.image], "category_id": category}
                    _item(annotations, place | _annotation(record, named, blob), first=counts["boxes"] == 1)
            counts["records without a box"] += counts["boxes"] == before
            counts[_LEFT_OUT] += sum((phrase.share or 0) <= 0 for phrase in phrases_of(record))
        file.write('], "annotations": [')
        annotations.seek(0)
        shutil.copyfileobj(annotations, file)
        file.write('], "categories": [')
        for (kind, text), number in categories.items():
            _item(file, {"id": number, "name": text, "supercategory": kind}, first=number == 1)
        file.write("]}\n")
    return Exported(counts | {"images": len(images), "categories": len(categories)})


def _image(record: Explanation, number: int) -> dict[str, Any]:
    height, width = record.image_size
    return {"id": number, "file_name": record.image, "height": height, "width": width}


def _annotation(record: Explanation, named: Named, blob: Blob) -> dict[str, Any]:
    x0, y0, x1, y1 = (round(edge, 3) for edge in blob.box)
    width, height = round(x1 - x0, 3), round(y1 - y0, 3)
    return {
        "bbox": [x0, y0, width, height],
        "area": width * height,
        "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
        "iscrowd": 0,
        "score": blob.share,
        "share": None if named.share is None else number(named.share),
        "peak": blob.peak,
        "cosine": number(record.score),
        "record": record.id,
        "span": [named.start, named.end],
    }


def _made_by(job: Job) -> dict[str, str]:
    info = job.archive.info
    return {"model": info.model, "model_sha256": info.model_sha256, "method": info.method}


def _item(file: IO[str], value: dict[str, Any], *, first: bool) -> None:
    file.write(("\n" if first else ",\n") + json.dumps(value))


FORMAT = Format("coco", "boxes of evidence, a category for each phrase or caption: one COCO JSON", write)

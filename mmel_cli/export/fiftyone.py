"""A dataset on disk that FiftyOne imports: photos, heatmaps of one fixed range, boxes of evidence."""

import base64
import hashlib
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mmel_cli.blobs import blobs
from mmel_cli.export import fiftyone_layout as layout
from mmel_cli.export.base import Exported, Format, Job
from mmel_cli.export.named import FIELDS, boxed, number
from mmel_cli.fields import MAP, MATCH_AMONG, MATCH_RANK, WORD_VALUE
from mmel_cli.render import picture_name
from mmel_cli.types import Box, Explanation, Map

_PERCENTILE = 99.5  # of the records' strongest evidence: the range of all heatmaps
_POINTS = 4  # a cell's side, in a heatmap over a whole image
_MOST = 512  # points of a heatmap's side


def write(job: Job, path: Path) -> Exported:
    """A folder as FiftyOne's own export writes it: metadata.json, samples.json, data/ and fields/.

    A sample is a record: `evidence` is a Heatmap over the whole image, 0 where the model does not look, each point with
    the archived value of the cell that it lies in. The range of all heatmaps is that of the run, from -top to top: the
    99.5th percentile, over records, of the largest |value| of a map. `regions` are Detections with `confidence`, the
    share of the map's positive evidence, and `peak`, the strongest. Records whose photo is gone are left out.
    """
    top = _range(job)
    counts, without = {"samples": 0, "boxes": 0}, 0
    (path / layout.DATA).mkdir(parents=True)
    with (path / layout.SAMPLES).open("w", encoding="utf-8") as file:
        file.write('{"samples": [')
        for record in job.records(*FIELDS, WORD_VALUE.name, MATCH_RANK.name, MATCH_AMONG.name):
            name = str(picture_name(record.image))
            suffix = job.photos.place(record, path / layout.DATA / name, copy=job.options.copy)
            if suffix is None:
                without += 1
                continue
            photo = Path(layout.DATA) / Path(name).with_suffix(suffix)
            sample = _sample(record, photo, top, job.options.threshold)
            sample |= {"thumbnail_path": _thumbnail(job, record, path)} if job.options.thumbnails else {}
            file.write((",\n" if counts["samples"] else "\n") + json.dumps(sample, allow_nan=False))
            counts["samples"] += 1
            counts["boxes"] += len(sample["regions"]["detections"])
        file.write("]}\n")
    metadata = layout.metadata(job.archive.info, top, thumbnails=job.options.thumbnails)
    (path / layout.METADATA).write_text(json.dumps(metadata) + "\n", "utf-8")
    left_out = f"{without} records have no photo any more and are left out; --data says where the input lies now"
    return Exported(counts, [left_out] if without else [])


def _range(job: Job) -> float:
    """The end of the scale of all heatmaps; 1 in a run without evidence."""
    each = [
        float(np.abs(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)).max())
        for (values,) in job.archive.rows(MAP.name)
    ]
    return float(np.percentile(each, _PERCENTILE)) or max(each) or 1.0


def _sample(record: Explanation, photo: Path, top: float, threshold: float) -> dict[str, Any]:
    words, values = [word.text for word in record.words], record.word_values
    return {
        "_id": _object_id(record.id),
        "filepath": photo.as_posix(),
        "tags": [],
        "_media_type": "image",
        "_rand": int(_digest(record.id)[:8], 16) / 16**8,
        "record": record.id,
        "caption": record.caption,
        "score": number(record.score),
        "logit": number(record.logit),
        "rank": int(record.fields[MATCH_RANK.name]) if MATCH_RANK.name in record.fields else None,
        "among": int(record.fields[MATCH_AMONG.name]) if MATCH_AMONG.name in record.fields else None,
        "against": record.against,
        "words": words,
        "word_values": None if values is None else [number(value) for value in values],
        "evidence": {
            "_id": _object_id(record.id, "evidence"),
            "_cls": "Heatmap",
            "tags": [],
            "map": {"$binary": _packed(over_image(record.map, record.box, record.image_size))},
            "range": [-top, top],
        },
        "regions": {"_cls": "Detections", "detections": _detections(record, threshold)},
    }


def _detections(record: Explanation, threshold: float) -> list[dict[str, Any]]:
    """Boxes as parts of the image's width and height, as FiftyOne has them."""
    height, width = record.image_size
    return [
        {
            "_id": _object_id(record.id, named.kind, str(named.start), str(place)),
            "_cls": "Detection",
            "attributes": {},
            "tags": [],
            "label": named.text,
            "bounding_box": [
                blob.box[0] / width,
                blob.box[1] / height,
                (blob.box[2] - blob.box[0]) / width,
                (blob.box[3] - blob.box[1]) / height,
            ],
            "confidence": blob.share,
            "peak": blob.peak,
        }
        for named in boxed(record)
        for place, blob in enumerate(blobs(named.map, record.box, record.image_size, threshold))
    ]


def over_image(values: Map, box: Box, size: tuple[int, int]) -> Map:
    """A map over the whole image, since FiftyOne stretches it so: about _POINTS a cell's side, 0 outside the box.

    Each point has the value of the cell that its middle lies in; a map whose box is the image stays as it is.
    """
    known: Map = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if np.allclose(box, (0, 0, size[1], size[0])):
        return known
    down = _cells((box[1], box[3]), size[0], values.shape[0])
    across = _cells((box[0], box[2]), size[1], values.shape[1])
    padded = np.pad(known, 1)
    return padded[np.ix_(down + 1, across + 1)]


def _cells(edges: tuple[float, float], length: int, cells: int) -> np.ndarray:
    """The cell of each point along one side of the image: -1 before the box, `cells` behind it."""
    each = (edges[1] - edges[0]) / cells
    points = int(np.clip(np.ceil(length / each * _POINTS), 1, _MOST))
    middles = (np.arange(points) + 0.5) * length / points
    return np.floor((middles - edges[0]) / each).astype(int).clip(-1, cells)


def _thumbnail(job: Job, record: Explanation, path: Path) -> str | None:
    """Written once an image."""
    name = Path(layout.FIELDS) / layout.THUMBNAIL / Path(str(picture_name(record.image))).with_suffix(".jpg")
    small = job.photos.thumbnail(record)
    if small is None:
        return None
    if not (path / name).exists():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(small)
    return name.as_posix()


def _packed(values: Map) -> dict[str, str]:
    """An array as FiftyOne keeps it: numpy's format, compressed, as MongoDB's JSON writes bytes."""
    with io.BytesIO() as file:
        np.save(file, values, allow_pickle=False)
        return {"base64": base64.b64encode(zlib.compress(file.getvalue())).decode("ascii"), "subType": "00"}


def _object_id(*texts: str) -> dict[str, str]:
    return {"$oid": _digest(*texts)[:24]}


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


FORMAT = Format(
    "fiftyone",
    "photos, heatmaps of one fixed range and boxes: a FiftyOneDataset folder",
    write,
    folder=True,
    owns=layout.is_ours,
)

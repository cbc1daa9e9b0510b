"""Prompts for segmenters (SAM and its like): points, labels and boxes in pixels, one line of JSON a record."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mmel_cli.blobs import blobs, opposite, peaks
from mmel_cli.export.base import Exported, ExportOptions, Format, Job
from mmel_cli.export.named import FIELDS, Named, caption_of, number, phrases_of
from mmel_cli.types import Explanation


def write(job: Job, path: Path) -> Exported:
    """One object a line: the record, and `prompts` for its caption and each of its phrases.

    SAM's convention: `points` [[x, y], ...] in pixels of the upright original, `labels` 1 for what is meant and 0 for
    what is not, `box` [x0, y0, x1, y1]. Points with 1 are the strongest cells that no neighbour exceeds, at least the
    threshold of the strongest; the one with 0 is the cell outside all boxes with the strongest evidence against, else
    the one farthest from them. `box` is the region with most evidence, `boxes` all of them. Where there is no evidence
    all of them are empty.
    """
    counts = {"records": 0, "prompts": 0, "prompts without a point": 0}
    with path.open("w", encoding="utf-8") as file:
        for record in job.records(*FIELDS):
            prompts = [_prompt(record, named, job.options) for named in (caption_of(record), *phrases_of(record))]
            height, width = record.image_size
            line = {
                "id": record.id,
                "image": record.image,
                "height": height,
                "width": width,
                "score": number(record.score),
            }
            file.write(json.dumps(line | {"prompts": prompts}) + "\n")
            counts["records"] += 1
            counts["prompts"] += len(prompts)
            counts["prompts without a point"] += sum(not prompt["points"] for prompt in prompts)
    return Exported(counts)


def _prompt(record: Explanation, named: Named, options: ExportOptions) -> dict[str, Any]:
    box, size = record.box, record.image_size
    meant = peaks(named.map, box, size, options.points, options.threshold)
    regions = blobs(named.map, box, size, options.threshold) if meant else []
    away = np.logical_or.reduce([blob.cells for blob in regions]) if regions else None
    other = None if away is None else opposite(named.map, box, size, away)
    points = [*meant, *([other] if other else [])]
    boxes = [[round(edge, 3) for edge in blob.box] for blob in regions]
    return {
        "text": named.text,
        "kind": named.kind,
        "span": [named.start, named.end],
        "share": named.share,
        "points": [[round(point.x, 3), round(point.y, 3)] for point in points],
        "labels": [1] * len(meant) + [0] * (len(points) - len(meant)),
        "values": [point.value for point in points],
        "box": boxes[0] if boxes else None,
        "boxes": boxes,
    }


FORMAT = Format("points", "point and box prompts for segmenters, as SAM takes them: JSON lines", write)

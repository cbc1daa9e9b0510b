"""The columns of all records, in files of RECORDS: what the gallery sorts, filters and shows by."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mmel_cli.archive.schema import AGAINST
from mmel_cli.fields import MATCH_AMONG, MATCH_RANK
from mmel_cli.report.layout import RECORDS
from mmel_cli.report.photos import PhotoPaths
from mmel_cli.report.run import ReportRun
from mmel_cli.report.scripts import numbers
from mmel_cli.trust import of_records

_SHARED = ("id", "caption", "truncated", "image", "image_size")


def record_columns(
    runs: Sequence[ReportRun],
    photos: PhotoPaths,
    metrics: Sequence[np.ndarray],
    difference: np.ndarray | None,
) -> Iterator[dict[str, Any]]:
    """The columns of RECORDS records after the other.

    Args:
        runs: with the same records, in the same order.
        photos: where the photo of an image lies.
        metrics: (n,) float64 each, NaN where undefined.
        difference: (n,) float32, the same; None for a single run.
    """
    marked = [None if run.archive is None else of_records(run.archive) for run in runs]
    for start in range(0, len(runs[0].rows), RECORDS):
        part = slice(start, start + RECORDS)
        yield _shared(runs[0], part, photos) | {
            "runs": [_of_run(run, part, of) for run, of in zip(runs, marked, strict=True)],
            "metrics": [[None if np.isnan(v) else float(v) for v in values[part]] for values in metrics],
            "difference": None if difference is None else numbers(difference[part]),
        }


def _shared(run: ReportRun, part: slice, photos: PhotoPaths) -> dict[str, Any]:
    """What is the same in every run."""
    assert run.archive is not None  # noqa: S101 - it has records
    names = [*_SHARED, *([AGAINST] if run.info.against else ())]
    rows = run.archive.take(names, run.places[part])
    images = [str(image) for image in rows["image"]]
    paths = [photos(image) for image in images]
    return {
        "id": [str(text) for text in rows["id"]],
        "caption": [str(text) for text in rows["caption"]],
        "truncated": [int(cut) for cut in rows["truncated"]],
        "against": [str(text) for text in rows[AGAINST]] if AGAINST in rows else None,
        "image": images,
        "photo": [photo for photo, _ in paths],
        "thumb": [thumb for _, thumb in paths],
        "size": rows["image_size"].tolist(),
    }


def _of_run(run: ReportRun, part: slice, marked: Any) -> dict[str, Any]:
    assert run.archive is not None  # noqa: S101 - the same
    names = ["score", *(["against_score"] if run.info.against else ())]
    match = [MATCH_RANK.name, MATCH_AMONG.name] if run.shows["match"] else []
    places, rows = run.places[part], run.rows[part]
    read = run.archive.take([*names, *match], places)
    return {
        "score": numbers(read["score"]),
        "against_score": numbers(read["against_score"]) if "against_score" in read else None,
        "rank": read[MATCH_RANK.name].tolist() if match else None,
        "among": read[MATCH_AMONG.name].tolist() if match else None,
        "evidence": numbers(marked.evidence[rows]),
        "against_evidence": numbers(marked.against_evidence[rows]),
        "marks": marked.marks[rows].tolist(),
        "shard": places[:, 0].tolist(),
        "row": places[:, 1].tolist(),
    }

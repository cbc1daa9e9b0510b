"""One row a record with its map, words and a thumbnail: for pandas, polars, DuckDB, datasets."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mmel_cli.export.base import Exported, Format, Job
from mmel_cli.fields import MAP, MATCH_AMONG, MATCH_RANK, PHRASE_SHARE, PHRASE_SPAN, WORD_SHARE, WORD_VALUE
from mmel_cli.types import Explanation, RunInfo

_FIELDS = (
    MAP.name,
    WORD_VALUE.name,
    WORD_SHARE.name,
    PHRASE_SPAN.name,
    PHRASE_SHARE.name,
    MATCH_RANK.name,
    MATCH_AMONG.name,
)
_GROUP = 256  # records of a row group, which is what memory holds


def write(job: Job, path: Path) -> Exported:
    """A Parquet file; the metadata `mmel` of its schema says in JSON what made the maps.

    `map` is a list of rows of float32, of one fixed shape, as archived: signed, unnormalised, laid over `box`
    (x0, y0, x1, y1 in pixels of the upright original, which may lie outside it). What the run has not is null.
    """
    import pyarrow as pa  # noqa: PLC0415 - an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    schema, rows, without = _schema(pa, job.archive.info), _rows(job), 0
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        while block := list(islice(rows, _GROUP)):
            without += sum(row["thumbnail"] is None for row in block)
            file.write_table(pa.Table.from_pylist(block, schema))
    notes = [f"{without} records have no photo any more, so no thumbnail; --data says where the input lies now"]
    return Exported({"records": len(job.archive)}, notes if without and job.options.thumbnails else [])


def _schema(pa: Any, info: RunInfo) -> Any:
    rows, columns = info.grid
    text, number, whole = pa.string(), pa.float32(), pa.int32()
    types = {
        "id": text,
        "image": text,
        "caption": text,
        "truncated": pa.bool_(),
        "score": number,
        "logit": number,
        "rank": whole,
        "among": whole,
        "against": text,
        "against_score": number,
        "words": pa.list_(text),
        "word_values": pa.list_(number),
        "word_shares": pa.list_(number),
        "phrases": pa.list_(text),
        "phrase_shares": pa.list_(number),
        "map": pa.list_(pa.list_(number, columns), rows),
        "box": pa.list_(number, 4),
        "height": whole,
        "width": whole,
        "thumbnail": pa.binary(),
    }
    about = {"model": info.model, "model_sha256": info.model_sha256, "method": info.method, "gradient": info.gradient}
    about |= {"geometry": info.geometry, "map": "evidence for the caption: signed, unnormalised, laid over box"}
    return pa.schema(types.items(), metadata={"mmel": json.dumps(about)})


def _rows(job: Job) -> Iterator[dict[str, Any]]:
    for record in job.records(*_FIELDS):
        small = job.photos.thumbnail(record) if job.options.thumbnails else None
        yield _row(record) | {"thumbnail": small}


def _row(record: Explanation) -> dict[str, Any]:
    fields = record.fields
    height, width = record.image_size
    return {
        "id": record.id,
        "image": record.image,
        "caption": record.caption,
        "truncated": record.truncated,
        "score": record.score,
        "logit": None if np.isnan(record.logit) else record.logit,
        "rank": int(fields[MATCH_RANK.name]) if MATCH_RANK.name in fields else None,
        "among": int(fields[MATCH_AMONG.name]) if MATCH_AMONG.name in fields else None,
        "against": record.against,
        "against_score": record.against_score,
        "words": [word.text for word in record.words],
        "word_values": fields.get(WORD_VALUE.name),
        "word_shares": fields.get(WORD_SHARE.name),
        "phrases": [phrase.text for phrase in record.phrases] if PHRASE_SPAN.name in fields else None,
        "phrase_shares": fields.get(PHRASE_SHARE.name),
        "map": record.map.tolist(),
        "box": list(record.box),
        "height": height,
        "width": width,
    }


FORMAT = Format("parquet", "a row a record: map, words, box, thumbnail: one Parquet file", write, package="pyarrow")

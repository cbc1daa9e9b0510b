"""The files of a FiftyOneDataset folder, and what its metadata.json says of the fields of a sample."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmel_cli.types import RunInfo

METADATA, SAMPLES, DATA, FIELDS, THUMBNAIL = "metadata.json", "samples.json", "data", "fields", "thumbnail_path"
VERSION = "1.1.0"  # of FiftyOne, whose layout this is; later ones bring it up to date as they import it
_NAMES = "fiftyone.core.fields."
_TEXT, _NUMBER, _WHOLE = "StringField", "FloatField", "IntField"


def metadata(info: RunInfo, top: float, *, thumbnails: bool) -> dict[str, Any]:
    """The dataset's document; `top` is the end of the range of all heatmaps."""
    now = {"$date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")}
    shown = {"media_fields": ["filepath", THUMBNAIL], "grid_media_field": THUMBNAIL} if thumbnails else {}
    about = {"model": info.model, "model_sha256": info.model_sha256, "method": info.method, "range": [-top, top]}
    return {
        "_id": {"$oid": "0" * 24},
        "name": "mmel",
        "slug": "mmel",
        "version": VERSION,
        "created_at": now,
        "last_modified_at": now,
        "last_loaded_at": now,
        "sample_collection_name": "samples.mmel",
        "persistent": False,
        "media_type": "image",
        "group_media_types": {},
        "tags": [],
        "info": {"mmel": about},
        "app_config": {"modal_media_field": "filepath", "plugins": {}} | shown,
        "classes": {},
        "default_classes": [],
        "mask_targets": {},
        "default_mask_targets": {},
        "skeletons": {},
        "sample_fields": _sample_fields(thumbnails=thumbnails),
        "frame_fields": [],
        "saved_views": [],
        "workspaces": [],
        "annotation_runs": {},
        "brain_methods": {},
        "evaluations": {},
        "runs": {},
    }


def is_ours(folder: Path) -> bool:
    """Whether `mmel export` wrote a folder."""
    try:
        said = json.loads((folder / METADATA).read_text("utf-8"))
        return "mmel" in said["info"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sample_fields(*, thumbnails: bool) -> list[dict[str, Any]]:
    plain = {"record": _TEXT, "caption": _TEXT, "score": _NUMBER, "logit": _NUMBER, "rank": _WHOLE, "among": _WHOLE}
    plain |= {"against": _TEXT} | ({THUMBNAIL: _TEXT} if thumbnails else {})
    label = [_field("id", "ObjectIdField", stored="_id"), _list("tags", _TEXT)]
    heatmap = [*label, _field("map", "ArrayField"), _field("map_path", _TEXT)]
    heatmap.append(_field("range", "HeatmapRangeField", of=_NUMBER))
    detection = [*label, _field("attributes", "DictField", of="EmbeddedDocumentField", kind="labels.Attribute")]
    detection += [_field("label", _TEXT), _list("bounding_box", _NUMBER), _field("mask", "ArrayField")]
    detection += [_field("mask_path", _TEXT), _field("confidence", _NUMBER), _field("index", _WHOLE)]
    detection.append(_field("peak", _NUMBER))
    each = _field("detections", "ListField", of="EmbeddedDocumentField", kind="labels.Detection", fields=detection)
    return [
        _field("id", "ObjectIdField", stored="_id"),
        _field("filepath", _TEXT),
        _list("tags", _TEXT),
        _field("metadata", "EmbeddedDocumentField", kind="metadata.ImageMetadata", fields=_image_metadata()),
        _field("created_at", "DateTimeField", fixed=True),
        _field("last_modified_at", "DateTimeField", fixed=True),
        *(_field(name, kind) for name, kind in plain.items()),
        _list("words", _TEXT),
        _list("word_values", _NUMBER),
        _field("evidence", "EmbeddedDocumentField", kind="labels.Heatmap", fields=heatmap),
        _field("regions", "EmbeddedDocumentField", kind="labels.Detections", fields=[each]),
    ]


def _image_metadata() -> list[dict[str, Any]]:
    kinds = {"size_bytes": _WHOLE, "mime_type": _TEXT, "width": _WHOLE, "height": _WHOLE, "num_channels": _WHOLE}
    return [_field(name, kind) for name, kind in kinds.items()]


def _list(name: str, of: str) -> dict[str, Any]:
    return _field(name, "ListField", of=of)


def _field(  # noqa: PLR0913 - the document has these keys
    name: str,
    ftype: str,
    *,
    of: str | None = None,
    kind: str | None = None,
    fields: list[dict[str, Any]] | None = None,
    stored: str | None = None,
    fixed: bool = False,
) -> dict[str, Any]:
    """A field's document: its type, that of the items of a list, the kind of a document in it, and its fields."""
    return {
        "name": name,
        "ftype": _NAMES + ftype,
        "embedded_doc_type": None if kind is None else f"fiftyone.core.{kind}",
        "subfield": None if of is None else _NAMES + of,
        "fields": fields or [],
        "db_field": stored or name,
        "description": None,
        "info": None,
        "read_only": fixed,
        "created_at": None,
    }

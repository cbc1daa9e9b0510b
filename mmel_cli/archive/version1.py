"""Format "mmel-maps" version 1, which mmel 0.1 wrote, as far as a reader needs it: it did not say what it held."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

import h5py

from mmel_cli.fields import MAP, TOKEN_MAP, Field
from mmel_cli.types import RunInfo

LATER = ("logit", "words/text", "words/span")  # columns of version 2 that it lacks
_LAYER_KINDS = {"loosened": True, "flow": True, "alignment": False, "attention": False, "lambda": False}
_LATER_ATTRIBUTES = ("fields", "gradient", "trained", "identity", "described")
_LIBRARIES = ("mmel", "torch", "transformers")


def info(file: h5py.File) -> RunInfo:
    """Root attributes, with the fields told by the names of the datasets.

    Raises:
        KeyError, TypeError, ValueError: if an attribute is missing or wrong.
    """
    attrs = dict(file.attrs)
    versions = {key.removesuffix("_version"): str(attrs[key]) for key in attrs if key.endswith("_version")}
    texts: dict[str, Any] = {
        key: str(attrs[key])
        for key in ("model", "model_sha256", "method", "geometry", "device", "dtype", "config_sha256")
    }
    return RunInfo(
        **texts,
        layers=tuple(int(n) for n in attrs["layers"]),
        grid=pair(attrs["grid"]),
        patch=int(attrs["patch"]),
        image_size=pair(attrs["image_size"]),
        max_tokens=int(attrs["max_tokens"]),
        config=json.loads(attrs["config"]),
        versions=versions,
        fields=(MAP, TOKEN_MAP, *_layer_fields(file)),
        gradient="none" if str(attrs["method"]) in ("rise", "random", "mask") else "plain",
        trained=_trained(versions.get("weights")),
        described={name: text for name, text in versions.items() if name not in _LIBRARIES},
    )


def digest(info_read: RunInfo) -> str:
    """The checksum of the root attributes, as version 1 took it."""
    values = {name: value for name, value in asdict(info_read).items() if name not in _LATER_ATTRIBUTES}
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def pair(values: Any) -> tuple[int, int]:
    """Two whole numbers."""
    first, second = (int(value) for value in values)
    return first, second


def _layer_fields(file: h5py.File) -> list[Field]:
    names = [str(name) for name in file.get("layers", ()) if not str(name).endswith("_scale")]
    scales = sorted(int(name[7:]) for name in names if name.startswith("shared_") and name[7:].isdecimal())
    by_layer = ("layers", "rows", "columns")
    return [
        *(Field(f"layers/{k}", by_layer, "of version 1", evidence=e) for k, e in _LAYER_KINDS.items() if k in names),
        *(Field(f"layers/shared_{r}", ("layers", "channels(4)", f"regions({r})"), "of version 1") for r in scales),
    ]


def _trained(origin: str | None) -> Any:
    """What version 1 said in words."""
    if origin is None or origin.startswith("untrained"):
        return "untrained"
    return "shipped" if origin.startswith("shipped") else "file"

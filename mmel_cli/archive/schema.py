"""Format "mmel-maps" version 1: what a shard holds. Writer, reader and verify all take it from here."""

import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import h5py
import numpy as np

from mmel_cli.errors import ArchiveError, DamagedError
from mmel_cli.types import RunInfo

FORMAT, VERSION = "mmel-maps", 1
LIBVER = ("v110", "v110")
FILTERS = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}
TEXT = h5py.string_dtype("utf-8")
CHANNELS = 4  # of layers/shared_<r>
KINDS = ("loosened", "flow", "alignment", "attention", "lambda")
SCALE = "_scale"  # suffix of the float32 factor that goes with a float16 dataset
TEXTS = ("id", "image", "caption")
TOKENS_TEXT, TEXT_CRC = "tokens/text", "text_crc32"
COLUMNS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "id": (TEXT, ()),
    "image": (TEXT, ()),
    "caption": (TEXT, ()),
    "truncated": (np.bool_, ()),
    "score": (np.float32, ()),
    "image_size": (np.int32, (2,)),
    "box": (np.float32, (4,)),
    TEXT_CRC: (np.uint32, ()),
}


@dataclass(frozen=True)
class ArchiveOptions:
    """`channels`: "all", "layers" (no shared_<r>) or "final" (map and tokens); `dtype`: float16 keeps a scale a map."""

    shard_size: int = 256
    channels: Literal["all", "layers", "final"] = "all"
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise ValueError("archive.shard_size must be at least 1")


def text_crc32(texts: Iterable[str]) -> int:
    """CRC-32 of a record's id, image, caption and padded tokens: HDF5 keeps no checksum of text."""
    return zlib.crc32("\0".join(texts).encode())


def filters(dtype: Any) -> dict[str, Any]:
    """The filters of a dataset; HDF5 has none for text of variable length."""
    return {} if dtype == TEXT else FILTERS


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(config: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(config).encode()).hexdigest()


def map_shape(name: str, info: RunInfo) -> tuple[int, ...] | None:
    """The shape of one record in a map dataset, or None for a name that is none.

    Regions at scale r are ceil(h / r) x ceil(w / r), METHOD 3 step 2.
    """
    height, width = info.grid
    if name == "map":
        return (height, width)
    if name == "tokens/map":
        return (info.max_tokens,)
    group, _, kind = name.partition("/")
    if group == "layers" and kind in KINDS:
        return (len(info.layers), height, width)
    if group == "layers" and kind.startswith("shared_") and kind[7:].isdecimal() and int(kind[7:]) > 0:
        scale = int(kind[7:])
        return (len(info.layers), CHANNELS, -(-height // scale), -(-width // scale))
    return None


def write_info(file: h5py.File, info: RunInfo) -> None:
    """Root attributes."""
    values = asdict(info)
    versions = values.pop("versions")
    file.attrs.update(
        values
        | {"config": canonical(info.config), "format": FORMAT, "version": VERSION, "info_sha256": _digest(info)}
        | {"created": datetime.now(UTC).isoformat(timespec="seconds")}
        | {f"{name}_version": text for name, text in versions.items()}
    )


def read_info(file: h5py.File, name: str) -> RunInfo:
    """Root attributes back.

    Raises:
        ArchiveError: if the file is no archive of this version.
    """
    attrs = dict(file.attrs)
    if attrs.get("format") != FORMAT or attrs.get("version") != VERSION:
        raise ArchiveError(f"{name}: is not an {FORMAT} version {VERSION} archive; give one written by mmel explain")
    try:
        info = RunInfo(
            **{key: str(attrs[key]) for key in ("model", "model_sha256", "method", "geometry", "device", "dtype")},
            config_sha256=str(attrs["config_sha256"]),
            layers=tuple(int(n) for n in attrs["layers"]),
            grid=_pair(attrs["grid"]),
            patch=int(attrs["patch"]),
            image_size=_pair(attrs["image_size"]),
            max_tokens=int(attrs["max_tokens"]),
            config=json.loads(attrs["config"]),
            versions={key.removesuffix("_version"): str(attrs[key]) for key in attrs if key.endswith("_version")},
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArchiveError(
            f"{name}: a root attribute is missing or wrong ({error}); write the archive again"
        ) from error
    if attrs.get("info_sha256") != _digest(info):
        raise DamagedError(f"{name}: the root attributes do not match their checksum; write the archive again")
    return info


def _digest(info: RunInfo) -> str:
    """HDF5 keeps no checksum of text, and most root attributes are text."""
    return hashlib.sha256(canonical(asdict(info)).encode()).hexdigest()


def _pair(values: Any) -> tuple[int, int]:
    first, second = (int(value) for value in values)
    return first, second

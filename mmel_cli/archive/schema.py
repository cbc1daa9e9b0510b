"""Format "mmel-maps" version 2: what a shard holds. Writer, reader, safety checks and verify all take it from here."""

import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal

import h5py
import numpy as np

from mmel_cli.archive import version1
from mmel_cli.errors import ArchiveError, DamagedError
from mmel_cli.fields import Field, parse, plain
from mmel_cli.types import RunInfo

FORMAT, VERSION = "mmel-maps", 2
LIBVER = ("v110", "v110")
FILTERS = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}
TEXT = h5py.string_dtype("utf-8")
SCALE = "_scale"  # suffix of the float32 factor that goes with a float16 dataset
TEXTS = ("id", "image", "caption")
TOKENS_TEXT, WORDS_TEXT, WORDS_SPAN, TEXT_CRC = "tokens/text", "words/text", "words/span", "text_crc32"
PAD_SPAN = -1
AGAINST = "against"
_BASE: dict[str, tuple[Any, tuple[int, ...]]] = {
    "id": (TEXT, ()),
    "image": (TEXT, ()),
    "caption": (TEXT, ()),
    "truncated": (np.bool_, ()),
    "score": (np.float32, ()),
    "logit": (np.float32, ()),
    "image_size": (np.int32, (2,)),
    "box": (np.float32, (4,)),
    TEXT_CRC: (np.uint32, ()),
}
_JSON = ("config", "identity", "described")  # attributes that hold a JSON object


@dataclass(frozen=True)
class ArchiveOptions:
    """What is kept and how.

    `channels`: "all" fields of the method, "layers" (no regions and channels: an archive that cannot be fused again) or
    "final" (nothing by layer); `dtype`: float16 keeps a scale a map; a shard ends with the first batch that brings it
    to `shard_size` records.
    """

    shard_size: int = 256
    channels: Literal["all", "layers", "final"] = "all"
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise ValueError("archive.shard_size must be at least 1")

    def kept(self, declared: tuple[Field, ...]) -> tuple[Field, ...]:
        """Those of a method's declared fields that are archived."""
        if self.channels == "all":
            return declared
        by_layer = ("layers", "rows", "columns")
        return tuple(
            field for field in declared
            if "layers" not in field.dims or (self.channels == "layers" and field.dims == by_layer)
        )  # fmt: skip


def columns(info: RunInfo) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Type and shape of one record, by dataset, of everything that is no field."""
    count = info.max_tokens
    every: dict[str, tuple[Any, tuple[int, ...]]] = dict(_BASE)
    if info.against:
        every |= {AGAINST: (TEXT, ()), "against_score": (np.float32, ())}
    every |= {TOKENS_TEXT: (TEXT, (count,)), WORDS_TEXT: (TEXT, (count,)), WORDS_SPAN: (np.int32, (count, 2))}
    return every


def check_fields(declared: Iterable[Field], info: RunInfo) -> None:
    """Refuse a field that takes the name of a column.

    Raises:
        ArchiveError: naming it.
    """
    taken = {*columns(info), *(name + SCALE for name in columns(info))}
    for field in declared:
        if field.name in taken or field.name.endswith(SCALE):
            raise ArchiveError(f"field {field.name}: the archive uses this name itself; give it another")


def text_crc32(texts: Iterable[str]) -> int:
    """CRC-32 of a record's id, image, caption, what that is against (if anything), padded tokens and padded words.

    HDF5 keeps no checksum of text.
    """
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


def write_info(file: h5py.File, info: RunInfo) -> None:
    """Root attributes."""
    values = {field.name: getattr(info, field.name) for field in fields(info) if field.name != "versions"}
    values |= {name: canonical(values[name]) for name in _JSON} | {"fields": canonical(plain(info.fields))}
    file.attrs.update(
        values
        | {"format": FORMAT, "version": VERSION, "info_sha256": _digest(info)}
        | {"created": datetime.now(UTC).isoformat(timespec="seconds")}
        | {f"{name}_version": text for name, text in info.versions.items()}
    )


def read_info(file: h5py.File, name: str) -> tuple[int, RunInfo]:
    """The version of an archive file, and its root attributes back.

    Raises:
        ArchiveError: if the file is no archive of a version that mmel reads.
    """
    attrs = dict(file.attrs)
    if attrs.get("format") != FORMAT or attrs.get("version") not in (1, VERSION):
        raise ArchiveError(
            f"{name}: is not an {FORMAT} archive of version 1 or {VERSION}; give one written by mmel explain"
        )
    version = int(attrs["version"])
    try:
        info, digest = (_parse(attrs), _digest) if version == VERSION else (version1.info(file), version1.digest)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArchiveError(
            f"{name}: a root attribute is missing or wrong ({error}); write the archive again"
        ) from error
    if attrs.get("info_sha256") != digest(info):
        raise DamagedError(f"{name}: the root attributes do not match their checksum; write the archive again")
    return version, info


def _parse(attrs: dict[str, Any]) -> RunInfo:
    texts = ("model", "model_sha256", "method", "geometry", "device", "dtype", "config_sha256", "gradient", "trained")
    values: dict[str, Any] = {key: str(attrs[key]) for key in texts}
    return RunInfo(
        **values | {key: json.loads(attrs[key]) for key in _JSON},
        layers=tuple(int(n) for n in attrs["layers"]),
        grid=version1.pair(attrs["grid"]),
        patch=int(attrs["patch"]),
        image_size=version1.pair(attrs["image_size"]),
        max_tokens=int(attrs["max_tokens"]),
        fields=parse(json.loads(attrs["fields"])),
        versions={key.removesuffix("_version"): str(attrs[key]) for key in attrs if key.endswith("_version")},
    )


def _digest(info: RunInfo) -> str:
    """HDF5 keeps no checksum of text, and most root attributes are text."""
    return hashlib.sha256(canonical(asdict(info)).encode()).hexdigest()

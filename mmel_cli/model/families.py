"""The model families, by the model_type of their config.json, and the way from a name to a loaded model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch

from mmel_cli.errors import ModelError, UsageError
from mmel_cli.model.adapter import Adapter

if TYPE_CHECKING:
    from mmel_cli.model.loading import Checkpoint

DTYPES = {
    "auto": torch.float32,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


_KEPT: ContextVar[list[tuple[tuple[str, torch.device, str], Adapter]] | None] = ContextVar("kept", default=None)


@dataclass(frozen=True)
class Want:
    """How a model is to run."""

    device: torch.device
    dtype: torch.dtype
    image_size: tuple[int, int] | None = None  # height, width of its input in pixels; None: as it was trained


Loader = Callable[["Checkpoint", Want], Adapter]
"""Loads and checks the files of a checkpoint whose config.json names the family."""


def _hf(loader: str) -> Loader:
    """One of hf_files, which is imported when a model is loaded: transformers takes seconds."""

    def load(checkpoint: "Checkpoint", want: Want) -> Adapter:
        from mmel_cli.model import hf_files  # noqa: PLC0415 - as above

        return cast("Loader", getattr(hf_files, loader))(checkpoint, want)

    return load


def _open_clip(checkpoint: "Checkpoint", want: Want) -> Adapter:
    from mmel_cli.model.open_clip_files import load_open_clip  # noqa: PLC0415 - as above

    return load_open_clip(checkpoint, want)


FAMILIES: dict[str, Loader] = {
    "clip": _hf("load_clip"),
    "metaclip_2": _hf("load_metaclip2"),
    "altclip": _hf("load_altclip"),
    "chinese_clip": _hf("load_chinese_clip"),
    "siglip": _hf("load_siglip"),
    "open_clip": _open_clip,
}
"""By the model_type of config.json; "open_clip" has an open_clip_config.json in its place."""


def fetch_model(name: str, say: Callable[[str], None]) -> None:
    """Download a model's files into the hub's cache with a progress bar on stderr; nothing for one that is here.

    Args:
        name: hub id, folder, or "builtin".
        say: told in a line that a download begins.

    Raises:
        ModelError: when there is no such model, or it is of no family that mmel explains.
    """
    from mmel_cli.model.finding import download  # noqa: PLC0415 - as above

    checkpoint, _ = find_family(name)
    download(checkpoint, say)


def find_family(name: str) -> tuple["Checkpoint", Loader]:
    """Where a model's files are, and what loads them; reads nothing but its config.json.

    Raises:
        ModelError: when there is no such model, or it is of no family that mmel explains.
    """
    from mmel_cli.model.finding import open_checkpoint  # noqa: PLC0415 - imports transformers

    checkpoint = open_checkpoint(name)
    family = FAMILIES.get(checkpoint.model_type)
    if family is None:
        raise ModelError(
            f"model {name}: its type is {checkpoint.model_type!r}; mmel explains the types {', '.join(FAMILIES)}"
        )
    return checkpoint, family


def load_model(name: str, device: str, dtype: str, image_size: tuple[int, int] | None = None) -> Adapter:
    """Load a model of one of the FAMILIES by id or path, or the builtin one.

    Args:
        name: hub id, folder, or "builtin".
        device: "auto", "cpu", "cuda" or "cuda:i".
        dtype: "auto" (float32), "float32", "bfloat16" or "float16".
        image_size: height and width of its input, to which position embeddings are interpolated.

    Raises:
        ModelError: when it cannot be loaded, is of no family that mmel explains, or its files do not fit each other.
        UsageError: for a device or dtype that is not there.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype: {dtype!r} is not one of {', '.join(DTYPES)}")
    place, kept = find_device(device), _KEPT.get()
    for alike, model in kept or ():
        if alike == (name, place, dtype) and image_size == model.spec.image_size:
            return model
    checkpoint, family = find_family(name)
    _exact()
    model = family(checkpoint, Want(place, DTYPES[dtype], image_size))
    if kept is not None:
        kept.append(((name, place, dtype), model))
    return model


@contextmanager
def loaded_once() -> Iterator[None]:
    """Within it a model that was loaded stays in memory, and is the one that is given if its size is asked for again.

    For a command that explains and then goes on with the same model.
    """
    token = _KEPT.set([])
    try:
        yield
    finally:
        _KEPT.reset(token)


def find_device(device: str) -> torch.device:
    """Resolve "auto" and check that the device is there.

    Raises:
        UsageError: if it is not.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"device: {device!r} is not auto, cpu, cuda or cuda:i") from error
    if place.type not in ("cpu", "cuda"):
        raise UsageError(f"device: {device!r} is not auto, cpu, cuda or cuda:i")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device: {device} is not there ({torch.cuda.device_count()} CUDA devices); use --device cpu")
    return place


def _exact() -> None:
    """float32 is float32: TF32, which cuDNN takes by default, keeps 10 of its 23 bits in patch embeddings."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False

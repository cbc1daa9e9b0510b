"""The model families, by the model_type of their config.json, and the way from a name to a loaded model."""

from collections.abc import Callable
from typing import TYPE_CHECKING

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

Loader = Callable[["Checkpoint", torch.device, torch.dtype], Adapter]
"""Loads and checks the files of a checkpoint whose config.json names the family."""


def _clip(checkpoint: "Checkpoint", device: torch.device, dtype: torch.dtype) -> Adapter:
    from mmel_cli.model.hf_clip_files import load_clip  # noqa: PLC0415 - transformers takes seconds to import

    return load_clip(checkpoint, device, dtype)


def _open_clip(checkpoint: "Checkpoint", device: torch.device, dtype: torch.dtype) -> Adapter:
    from mmel_cli.model.open_clip_files import load_open_clip  # noqa: PLC0415 - as above

    return load_open_clip(checkpoint, device, dtype)


FAMILIES: dict[str, Loader] = {"clip": _clip, "open_clip": _open_clip}


def load_model(name: str, device: str, dtype: str) -> Adapter:
    """Load a model of one of the FAMILIES by id or path, or the builtin one.

    Args:
        name: hub id, folder, or "builtin".
        device: "auto", "cpu", "cuda" or "cuda:i".
        dtype: "auto" (float32), "float32", "bfloat16" or "float16".

    Raises:
        ModelError: when it cannot be loaded, is of no family that mmel explains, or its files do not fit each other.
        UsageError: for a device or dtype that is not there.
    """
    from mmel_cli.model.loading import open_checkpoint  # noqa: PLC0415 - as above

    if dtype not in DTYPES:
        raise UsageError(f"dtype: {dtype!r} is not one of {', '.join(DTYPES)}")
    place = find_device(device)
    checkpoint = open_checkpoint(name)
    family = FAMILIES.get(checkpoint.model_type)
    if family is None:
        raise ModelError(
            f"model {name}: its type is {checkpoint.model_type!r}; mmel explains the types {', '.join(FAMILIES)}"
        )
    _exact()
    return family(checkpoint, place, DTYPES[dtype])


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

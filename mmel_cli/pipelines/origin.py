"""Where the input, the model and the weights of a run are found again: in run.yaml, or where the caller says.

An archive may come from a stranger, so what an HDF5 file says of itself names no file and no folder here.
"""

from pathlib import Path
from typing import Any

from mmel_cli.config import MethodConfig, method_of, settings_of
from mmel_cli.data.paths import shown
from mmel_cli.errors import UsageError
from mmel_cli.model.adapter import BUILTIN
from mmel_cli.runs.inputs import Input, find_input, group, read_notes
from mmel_cli.types import RunInfo

__all__ = ["Input", "find_input", "find_model", "find_weights", "noted_origin", "read_notes"]

_NO_FILES = ("auto", "untrained")  # values of method.weights


def find_model(run: Path, info: RunInfo, given: str | None) -> str:
    """The model of a run: the caller's --model, else what run.yaml names, else the builtin one by its name.

    Raises:
        UsageError: if only the archive names it.
    """
    name = given or group(read_notes(run), "model").get("name")
    if isinstance(name, str):
        return name
    if info.model == BUILTIN:
        return BUILTIN
    raise UsageError(f"no run.yaml says where the model of {run} lies (the archive: {shown(info.model)}); give --model")


def find_weights(run: Path, info: RunInfo) -> MethodConfig:
    """The method of a run with its parameters, and its weights file as run.yaml names it.

    Raises:
        UsageError: if only the archive names a weights file, or this version does not know the method.
    """
    config = settings_of(info)
    settings = group(config, "method")
    if settings.get("weights", "auto") not in _NO_FILES:
        noted = group(group(read_notes(run), "config"), "method").get("weights")
        if not isinstance(noted, str):
            raise UsageError(f"no run.yaml says where the weights file of {run} lies; give the run folder")
        settings = settings | {"weights": noted}
    return method_of(config | {"method": settings})


def noted_origin(run: Path, info: RunInfo, source: Input) -> dict[str, dict[str, Any]]:
    """The groups `input` and `model` for run.yaml of a run that is made from another one's archive.

    The model's name is missing if only the archive gives it: else the archive's word would become that of a run.yaml.
    """
    source_notes = source.source.plain() if source.source else group(read_notes(run), "input")
    try:
        return {"input": source_notes, "model": {"name": find_model(run, info, None)}}
    except UsageError:
        return {"input": source_notes, "model": {}}

"""Where a model's files are: a folder, or the hub and its cache here; and of which family its configuration is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars
from transformers import PreTrainedConfig
from transformers import logging as hf_logging

from mmel_cli.errors import ModelError
from mmel_cli.model.adapter import BUILTIN, BUILTIN_FOLDER
from mmel_cli.model.families import FAMILIES
from mmel_cli.model.loading import OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS, WEIGHTS, Checkpoint, attempt, cached

_SMALL = ("[!/]*.json", "[!/]*.txt", "[!/]*.model")  # everything else that a model is loaded from
_PATIENCE = 10.0  # seconds that the hub has to answer


def open_checkpoint(name: str) -> Checkpoint:
    """Find a model and read its config.json, or the configuration of open_clip where that leads nowhere.

    Raises:
        ModelError: if there is none.
    """
    source = str(BUILTIN_FOLDER) if name == BUILTIN else name
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    if not Path(source).exists():
        _check_hub(name)
    open_clip = attempt(name, lambda: _open_clip(name, source))
    if open_clip is not None:
        return open_clip
    if Path(source).exists() and not (Path(source) / "config.json").is_file():
        raise ModelError(f"model {name}: no config.json there; give the folder of a HuggingFace model, or {BUILTIN}")
    config: Any = attempt(name, lambda: PreTrainedConfig.get_config_dict(source)[0])
    if not isinstance(config, dict):
        raise ModelError(f"model {name}: its config.json is no JSON object; give the file that belongs to it")
    return Checkpoint(name, source, config)


def _check_hub(name: str) -> None:
    """One look whether the hub, or its cache here, has a model of that name; retries take half a minute.

    Raises:
        ModelError: if it has not, or does not answer.
    """
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise ModelError(f"model {name}: does not exist; give a folder, a hub id, or {BUILTIN}")
    files = ("config.json", OPEN_CLIP_CONFIG)
    try:
        known = any(cached(name, file) for file in files) or any(_on_hub(name, file) for file in files)
    except (RepositoryNotFoundError, HFValidationError) as error:
        here = "there is no such folder, and no such model on the hub, or one that needs a login"
        raise ModelError(f"model {name}: {here}; give a folder, a hub id, or {BUILTIN}") from error
    except OfflineModeIsEnabled as error:
        raise ModelError(
            f"model {name}: is no folder, is not in the hub's cache, and HF_HUB_OFFLINE is set; give a folder, "
            f"or --model {BUILTIN}"
        ) from error
    except Exception as error:  # the network raises nearly anything
        reason = str(error).strip().splitlines()[0][:100] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"model {name}: is no folder, is not in the hub's cache, and the hub does not answer ({reason}); "
            f"give a folder, or --model {BUILTIN}"
        ) from error
    if not known:
        raise ModelError(f"model {name}: the hub has it, but without a {' or '.join(files)}; give a HuggingFace model")


def _on_hub(name: str, file: str) -> bool:
    try:
        get_hf_file_metadata(hf_hub_url(name, file), timeout=_PATIENCE)
    except EntryNotFoundError:
        return False
    return True


def _open_clip(name: str, source: str) -> Checkpoint | None:
    """A checkpoint of open_clip, None where there is none or config.json and the weights beside it are of a family.

    Many repositories of the hub hold both.
    """
    any_file = Checkpoint(name, source, {})
    path, other = any_file.find(OPEN_CLIP_CONFIG), any_file.find("config.json")
    if path is None:
        return None
    if other is not None and _json(name, other).get("model_type") in FAMILIES and any(map(any_file.has, WEIGHTS)):
        return None
    return Checkpoint(name, source, _json(name, path) | {"model_type": "open_clip"})


def _json(name: str, path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ModelError: if it is none.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ModelError(f"model {name}: its {path.name} is no JSON object; give the file that belongs to it")
    return values


def download(checkpoint: Checkpoint, say: Callable[[str], None]) -> None:
    """Bring what a model of the hub needs into the cache, with the hub's progress bars; see families.fetch_model."""
    name, weights = checkpoint.source, OPEN_CLIP_WEIGHTS if checkpoint.model_type == "open_clip" else WEIGHTS
    if Path(name).exists() or any(cached(name, file) for file in weights):
        return
    listed = attempt(checkpoint.name, lambda: HfApi().list_repo_files(name))
    chosen = next((file for file in weights if file in listed), "")
    shards = [f"{chosen.split('.')[0]}-*-of-*"] if chosen.endswith(".index.json") else []
    say(f"Downloading {name} from the hub into its cache")
    enable_progress_bars()
    try:
        attempt(checkpoint.name, lambda: snapshot_download(name, allow_patterns=[*_SMALL, chosen, *shards]))
    finally:
        disable_progress_bars()

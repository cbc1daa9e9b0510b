"""What every family checks of the files that it loaded, and their SHA-256 in a canonical form.

A hub id and a local folder of the same files have the same SHA-256: what was loaded is hashed, not how it was stored.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from torch import nn
from transformers.utils import cached_file

from mmel_cli.errors import MmelError, ModelError
from mmel_cli.model.adapter import BUILTIN
from mmel_cli.model.preprocess import seen_size

OPEN_CLIP_CONFIG = "open_clip_config.json"
_NOISE = ("_commit_hash", "_name_or_path", "transformers_version")  # of config.json: they decide nothing
_OWN_OFFSETS = "SiglipTokenizer"  # slow, but tokens.read knows where its tokens lie
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Where weights lie, in the order of preference."""
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
_SHOWN = 3  # tensors named in an error
_T = TypeVar("_T")


@dataclass(frozen=True)
class Checkpoint:
    """A model's files, before anything but its config.json is read."""

    name: str  # as the user gave it
    source: str  # hub id or folder
    config: dict[str, Any]  # config.json, or OPEN_CLIP_CONFIG with the model_type "open_clip"

    @property
    def model_type(self) -> str:
        """What config.json says it is."""
        return str(self.config.get("model_type", ""))

    def find(self, file: str) -> Path | None:
        """Where a file of it lies here (or in the hub's cache), None if it has none of that name."""
        quiet = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors")}
        path = cached_file(self.source, file, **quiet)
        return None if path is None else Path(path)

    def has(self, file: str) -> bool:
        """Whether it has a file of that name; unlike `find` it downloads nothing."""
        if Path(self.source).exists():
            return (Path(self.source) / file).is_file()
        if cached(self.source, file):
            return True
        try:
            return HfApi().file_exists(self.source, file)
        except Exception:  # offline, for example: what is not in the cache is not there
            return False

    def refuse(self, reason: str) -> ModelError:
        """An error that names it."""
        return ModelError(f"model {self.name}: {reason}")


def cached(name: str, file: str) -> bool:
    """Whether a file of a model of the hub lies in its cache here."""
    return isinstance(try_to_load_from_cache(name, file), str)


def attempt(name: str, load: Callable[[], _T]) -> _T:
    """What `load` gives.

    Raises:
        ModelError: in one line, for whatever transformers and safetensors raise where files are missing or wrong.
    """
    try:
        return load()
    except MmelError:
        raise
    except Exception as error:  # the loaders raise nearly anything on damaged files
        text = str(error).strip()
        reason = text.splitlines()[0][:200] if text else type(error).__name__
        raise ModelError(
            f"model {name}: cannot be loaded ({reason}); give the path of a folder with config.json, "
            f"model.safetensors, tokenizer and preprocessor files, or --model {BUILTIN}"
        ) from error


def listed(names: Sequence[str]) -> str:
    """The first few, for an error."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def check_weights(checkpoint: Checkpoint, report: dict[str, Any]) -> None:
    """Refuse weights that leave a tensor of the model random, have another shape, or belong to more than the model.

    Args:
        checkpoint: for its name.
        report: the loading info of transformers.

    Raises:
        ModelError: naming the first tensors and how many there are.
    """
    shapes = {
        key: f"{key} is {tuple(own)} instead of {tuple(wanted)}" for key, own, wanted in report["mismatched_keys"]
    }
    kinds = {"missing": report["missing_keys"], "of another shape": shapes, "unknown": report["unexpected_keys"]}
    for what, keys in kinds.items():
        # 0, 1, 2 ... as transformers wrote them before 4.31; the model makes them itself
        names = sorted(key for key in keys if not key.endswith(("position_ids", "token_type_ids")))
        if names:
            shown = listed([shapes.get(name, name) for name in names])
            raise checkpoint.refuse(
                f"{len(names)} of its tensors {'is' if len(names) == 1 else 'are'} {what} ({shown}); "
                "give the whole checkpoint that belongs to its config.json"
            )


def check_tokenizer_files(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint without any file of a tokenizer, for which transformers would make up an empty one.

    Raises:
        ModelError: naming the files that there may be.
    """
    if not any(checkpoint.has(name) for name in VOCABULARIES):
        raise checkpoint.refuse(
            f"it has no tokenizer files ({', '.join(VOCABULARIES)}); put those that it was trained with beside it"
        )


def check_tokenizer(checkpoint: Checkpoint, tokenizer: Any, vocab_size: int) -> None:
    """Refuse a tokenizer that comes from no file, gives no offsets, or has ids that the model has not.

    Raises:
        ModelError: naming what is wrong with it.
    """
    kind = type(tokenizer).__name__
    names: dict[str, str] = dict(tokenizer.vocab_files_names)
    whole = names.pop("tokenizer_file", "tokenizer.json")
    if checkpoint.find(whole) is None and not (names and all(checkpoint.find(name) for name in names.values())):
        needed = f"{whole}{' or ' if names else ''}{' and '.join(names.values())}"
        raise checkpoint.refuse(f"it has no tokenizer files ({needed}); put those that it was trained with beside it")
    if not tokenizer.is_fast and kind != _OWN_OFFSETS:
        raise checkpoint.refuse(f"its tokenizer {kind} gives no character offsets; give one with a tokenizer.json")
    if tokenizer.truncation_side != "right":
        raise checkpoint.refuse(
            f"its tokenizer {kind} cuts long captions on the {tokenizer.truncation_side} (truncation_side in "
            "tokenizer_config.json), which mmel does not read; set it to right"
        )
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if not 0 <= largest < vocab_size:
        raise checkpoint.refuse(
            f"its tokenizer {kind} has ids up to {largest}, the text tower up to {vocab_size - 1}; "
            "use the tokenizer that the model was trained with"
        )


def check_processor(checkpoint: Checkpoint, kinds: tuple[str, ...]) -> None:
    """Refuse an image processor that is not there, or declares another class than one of `kinds`.

    Raises:
        ModelError: naming the file and the class.
    """
    file, settings = attempt(checkpoint.name, lambda: _processor_file(checkpoint))
    names = ("image_processor_type", "feature_extractor_type", "processor_class")
    declared = next((str(settings[name]) for name in names if settings.get(name)), None)
    if declared not in kinds:
        says = f"declares the image processor {declared}" if declared else "declares no image_processor_type"
        raise checkpoint.refuse(f"its {file} {says}; {checkpoint.model_type} models need one of {', '.join(kinds)}")


def check_input_size(checkpoint: Checkpoint, processor: Any, size: tuple[int, int]) -> None:
    """Refuse an image processor whose output is not the model's input of `size` (height, width).

    Raises:
        ModelError: with both sizes.
    """
    kept = dict(processor.crop_size if processor.do_center_crop else processor.size)
    given = (kept.get("height"), kept.get("width"))
    if given != size:
        gives = f"{given[0]}x{given[1]} pixels" if all(given) else f"no fixed size ({json.dumps(kept)}, no crop)"
        raise checkpoint.refuse(
            f"its image processor gives {gives}, the vision tower takes {size[0]}x{size[1]}; "
            "use the preprocessor_config.json that belongs to it"
        )


def input_size(checkpoint: Checkpoint, vision: Any, wanted: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the input in pixels: what is wanted, else what the vision tower was trained with.

    Patches need not fill the input that it was trained with (preprocess.seen_size); to ask for the part that they fill
    is to ask for that input.

    Raises:
        ModelError: if patches do not fill another size that is wanted.
    """
    side, patch = vision.image_size, vision.patch_size
    if not isinstance(side, int) or not isinstance(patch, int) or side < patch:
        raise checkpoint.refuse(f"its input of {side} pixels in patches of {patch} is not square, or smaller than one")
    if wanted in (None, (side, side), seen_size((side, side), patch)):
        return side, side
    assert wanted is not None  # noqa: S101 - None is in the line above
    if min(wanted) < patch or seen_size(wanted, patch) != wanted:
        height, width = wanted
        raise checkpoint.refuse(f"model.image_size {height},{width} is no multiple of its patches of {patch} pixels")
    return wanted


def weights_file(checkpoint: Checkpoint) -> str:
    """Which file its weights lie in, safetensors first.

    Raises:
        ModelError: if there is none.
    """
    for name in WEIGHTS:
        if checkpoint.has(name):
            return name
    raise checkpoint.refuse(f"it has no weights ({' or '.join(WEIGHTS)}); give the whole checkpoint")


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over name, dtype, shape and bytes of every stored tensor, in the order of names."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def config_sha256(config: dict[str, Any]) -> str:
    """Of config.json without what decides nothing."""
    return plain_sha256({key: value for key, value in config.items() if key not in _NOISE})


def tokenizer_sha256(tokenizer: Any) -> str:
    """Of everything that decides a tokenizer's tokens; to be taken before its first use, which may change it."""
    framing = {name: getattr(tokenizer, name) for name in ("padding_side", "truncation_side", "model_max_length")}
    special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad", "unk")}
    if not tokenizer.is_fast:
        pieces = hashlib.sha256(tokenizer.sp_model.serialized_model_proto()).hexdigest()
        return plain_sha256({"pieces": pieces, "lower": tokenizer.do_lower_case, "special": special} | framing)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    # what the backend cuts and pads by itself is switched off where captions are read
    return plain_sha256({"backend": backend | {"truncation": None, "padding": None}, "special": special} | framing)


def plain_sha256(value: Any) -> str:
    """Of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _processor_file(checkpoint: Checkpoint) -> tuple[str, dict[str, Any]]:
    """The name and content of the file that says how images are prepared, in the order of transformers."""
    whole = checkpoint.find("processor_config.json")
    settings = None if whole is None else json.loads(whole.read_text("utf-8")).get("image_processor")
    path = whole if settings else checkpoint.find("preprocessor_config.json")
    if path is None:
        raise checkpoint.refuse("it has no preprocessor_config.json; put the one that it was trained with beside it")
    settings = settings or json.loads(path.read_text("utf-8"))
    if not isinstance(settings, dict):
        raise checkpoint.refuse(f"its {path.name} is no JSON object; give the file that belongs to it")
    return path.name, settings

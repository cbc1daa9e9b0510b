"""The files of a HuggingFace CLIP: loaded, checked and hashed."""

from typing import Any

import torch
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from mmel_cli.model.hf_clip import LEGACY_EOS, HfClip
from mmel_cli.model.loading import (
    Checkpoint,
    attempt,
    check_input_size,
    check_processor,
    check_tokenizer,
    check_weights,
    config_sha256,
    plain_sha256,
    tokenizer_sha256,
    weights_sha256,
)
from mmel_cli.model.preprocess import describe

_PROCESSORS = (
    "CLIPImageProcessor",
    "CLIPImageProcessorFast",
    "CLIPImageProcessorPil",
    "CLIPFeatureExtractor",
    "CLIPProcessor",
)
_WHOLE: dict[str, Any] = {
    "dtype": "auto",
    "use_safetensors": True,
    "output_loading_info": True,
    "ignore_mismatched_sizes": True,  # they are reported, so that check_weights names them
}


def load_clip(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> "HfClip":
    """Load a CLIP and check its files (a family of families.FAMILIES).

    Raises:
        ModelError: if they cannot be loaded, are not complete or do not fit each other.
    """
    name, source = checkpoint.name, checkpoint.source
    check_processor(checkpoint, _PROCESSORS)
    processor = attempt(name, lambda: CLIPImageProcessorPil.from_pretrained(source))
    tokenizer = attempt(name, lambda: AutoTokenizer.from_pretrained(source, trust_remote_code=False))
    model, report = attempt(name, lambda: CLIPModel.from_pretrained(source, **_WHOLE))
    check_weights(checkpoint, report)
    text, vision = model.config.text_config, model.config.vision_config
    check_tokenizer(checkpoint, tokenizer, text.vocab_size)
    check_input_size(checkpoint, processor, (vision.image_size, vision.image_size))
    files = {
        "weights": weights_sha256(model),
        "config": config_sha256(checkpoint.config),
        "tokenizer": tokenizer_sha256(tokenizer),
        "processor": plain_sha256(describe(processor)),
    }
    _check_special(checkpoint, tokenizer, text)
    model = model.to(device, dtype).eval().requires_grad_(requires_grad=False)
    return HfClip(name, files, model, tokenizer, processor)


def _check_special(checkpoint: Checkpoint, tokenizer: Any, text: Any) -> None:
    """Refuse a tokenizer whose start and end are not those of the text tower: it would pool another token."""
    legacy = text.eos_token_id == LEGACY_EOS
    end = text.vocab_size - 1 if legacy else text.eos_token_id
    # the tower does not look for its start, and old configurations say 0
    start = text.bos_token_id or tokenizer.bos_token_id
    if legacy:
        start = tokenizer.bos_token_id
    ids = tokenizer("a photo", split_special_tokens=True)["input_ids"]
    if (ids[0], ids[-1], tokenizer.eos_token_id) != (start, end, end) or {start, end} & {*ids[1:-1]}:
        raise checkpoint.refuse(
            f"its tokenizer {type(tokenizer).__name__} reads 'a photo' as {ids}, where its text tower needs {start} "
            f"at the start and {end} at the end alone; use the tokenizer that the model was trained with"
        )

"""The files of an open_clip checkpoint: its tensors by the names of transformers' CLIP, checked and hashed.

An open_clip CLIP of the standard kind is transformers' CLIP with other names: query, key and value are packed in that
order, projections multiply from the right, and the token with the highest id is pooled, which must be the end.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from jaxtyping import Shaped
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from mmel_cli.model.adapter import Adapter
from mmel_cli.model.families import Want
from mmel_cli.model.hf_files import assemble_clip
from mmel_cli.model.loading import (
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_WEIGHTS,
    VOCABULARIES,
    Checkpoint,
    attempt,
    check_tokenizer,
    listed,
)
from mmel_cli.model.open_clip_config import pixels, towers

_TOKENIZER = (*VOCABULARIES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_SCALARS = ("logit_scale", "logit_bias")  # stored with no dimension, or with one of length 1
_BLOCK = {
    "ln_1": "layer_norm1",
    "attn.out_proj": "self_attn.out_proj",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


class OpenClipImageProcessorPil(CLIPImageProcessorPil):  # type: ignore[misc] # transformers is untyped here
    """CLIP's image processor, which crops where torchvision does: that rounds half a pixel to the even one."""

    def crop_start(self, margin: int) -> int:
        """How many of `margin` pixels are cut off before the crop."""
        return round(margin / 2)

    def center_crop(
        self, image: Shaped[np.ndarray, "channels rows columns"], size: Any, **_options: Any
    ) -> Shaped[np.ndarray, "channels height width"]:
        """Cut `size` out of an image that is at least as large."""
        top, left = self.crop_start(image.shape[1] - size.height), self.crop_start(image.shape[2] - size.width)
        return image[:, top : top + size.height, left : left + size.width]


def load_open_clip(checkpoint: Checkpoint, want: Want) -> Adapter:
    """Load an open_clip checkpoint (a family of families.FAMILIES).

    The SHA-256 of its weights is over their new names, in the dtype that they are stored in.

    Raises:
        ModelError: if its files cannot be loaded, are not complete, do not fit each other, or are of other towers.
    """
    config = towers(checkpoint)
    processor = OpenClipImageProcessorPil(**pixels(checkpoint, config.vision_config.image_size))
    tokenizer = _tokenizer(checkpoint, config.text_config.vocab_size)
    text = config.text_config
    text.bos_token_id, text.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    model = _model(checkpoint, config).eval().requires_grad_(requires_grad=False)
    tokenizer.model_max_length = text.max_position_embeddings  # open_clip cuts there, whatever its files say
    return assemble_clip(checkpoint, (model, tokenizer, processor), want, highest=True)


def _tokenizer(checkpoint: Checkpoint, vocab_size: int) -> Any:
    """The tokenizer of its files, by the class that they name; CLIP's where they name none, as open_clip takes it."""
    paths = [path for path in map(checkpoint.find, _TOKENIZER) if path is not None]  # all, so that they lie here
    if not any(path.name in VOCABULARIES for path in paths):
        raise checkpoint.refuse(
            "it has no tokenizer files (tokenizer.json or vocab.json and merges.txt); put those that it was trained "
            "with beside it"
        )
    kind: Any = AutoTokenizer if any(path.name == "tokenizer_config.json" for path in paths) else CLIPTokenizer
    # from their folder: by a hub id it would look for a config.json first, which there may be none of
    tokenizer = attempt(checkpoint.name, lambda: kind.from_pretrained(paths[0].parent, trust_remote_code=False))
    check_tokenizer(checkpoint, tokenizer, vocab_size)
    end = vocab_size - 1
    ids = tokenizer("a photo", split_special_tokens=True)["input_ids"]
    read = (ids[0], ids[-1], tokenizer.eos_token_id) if ids else ()
    if read != (tokenizer.bos_token_id, end, end) or {ids[0], end} & {*ids[1:-1]}:
        raise checkpoint.refuse(
            f"its tokenizer {type(tokenizer).__name__} reads 'a photo' as {ids}, where its text tower pools the "
            f"highest id, so it needs a start, and {end} at the end alone; "
            "use the tokenizer that the model was trained with"
        )
    return tokenizer


def _model(checkpoint: Checkpoint, config: CLIPConfig) -> CLIPModel:
    """A CLIP that holds the tensors as they are stored."""
    stored = _stored(checkpoint)
    prefix = "text." if any(name.startswith("text.") for name in stored) else ""
    layers = config.vision_config.num_hidden_layers + config.text_config.num_hidden_layers
    if layers > len(stored):  # before as many are built
        raise checkpoint.refuse(f"it has {len(stored)} tensors, too few for {layers} layers; give the whole checkpoint")
    with torch.device("meta"):
        model = attempt(checkpoint.name, lambda: CLIPModel(config))
        biased = "logit_bias" in stored or checkpoint.config["model_cfg"].get("init_logit_bias") is not None
        if biased:
            model.register_buffer("logit_bias", torch.zeros([]))
    names = list(_names(config, prefix, biased=biased))
    empty = model.state_dict()
    expected = {name: _shape(name, [empty[target] for target in targets]) for name, targets in names}
    _check(checkpoint, stored, expected)
    tensors: dict[str, Tensor] = {}
    for name, targets in names:
        tensors |= dict(zip(targets, _parts(name, stored[name], len(targets)), strict=True))
    model.load_state_dict(tensors, strict=True, assign=True)
    for embeddings in (model.text_model.embeddings, model.vision_model.embeddings):  # not stored: 0, 1, 2 ...
        embeddings.position_ids = torch.arange(embeddings.position_ids.shape[1])[None]
    return model


def _names(config: CLIPConfig, prefix: str, *, biased: bool) -> Iterator[tuple[str, list[str]]]:
    """Each tensor by open_clip's name, and what it is called here: three parts where it is packed.

    `prefix` is that of the text tower's tensors, which a model with custom_text keeps apart.
    """
    yield "visual.class_embedding", ["vision_model.embeddings.class_embedding"]
    yield "visual.conv1.weight", ["vision_model.embeddings.patch_embedding.weight"]
    yield "visual.positional_embedding", ["vision_model.embeddings.position_embedding.weight"]
    yield "visual.proj", ["visual_projection.weight"]
    yield f"{prefix}token_embedding.weight", ["text_model.embeddings.token_embedding.weight"]
    yield f"{prefix}positional_embedding", ["text_model.embeddings.position_embedding.weight"]
    yield f"{prefix}text_projection", ["text_projection.weight"]
    yield "logit_scale", ["logit_scale"]
    if biased:
        yield "logit_bias", ["logit_bias"]
    modules = {"visual.ln_pre": "vision_model.pre_layrnorm", "visual.ln_post": "vision_model.post_layernorm"}
    modules |= {f"{prefix}ln_final": "text_model.final_layer_norm"}
    towers = (("visual.", "vision_model", config.vision_config), (prefix, "text_model", config.text_config))
    for theirs, ours, tower in towers:
        for layer in range(tower.num_hidden_layers):
            block, own = f"{theirs}transformer.resblocks.{layer}", f"{ours}.encoder.layers.{layer}"
            modules |= {f"{block}.{name}": f"{own}.{target}" for name, target in _BLOCK.items()}
            for kind in ("weight", "bias"):
                yield f"{block}.attn.in_proj_{kind}", [f"{own}.self_attn.{part}_proj.{kind}" for part in "qkv"]
    for name, target in modules.items():
        yield from ((f"{name}.{kind}", [f"{target}.{kind}"]) for kind in ("weight", "bias"))


def _shape(name: str, targets: list[Tensor]) -> tuple[int, ...]:
    """That of open_clip's tensor."""
    rows, *columns = targets[0].shape or (1,)
    if not targets[0].ndim:
        return ()
    shape = (len(targets) * rows, *columns)
    return shape[::-1] if name.endswith(("visual.proj", "text_projection")) else shape


def _parts(name: str, tensor: Tensor, count: int) -> list[Tensor]:
    """What a tensor is here."""
    if name in _SCALARS:
        return [tensor.reshape([])]
    if name.endswith(("visual.proj", "text_projection")):
        return [tensor.T.contiguous()]
    return list(tensor.chunk(count)) if count > 1 else [tensor]


def _check(checkpoint: Checkpoint, stored: dict[str, Tensor], expected: dict[str, tuple[int, ...]]) -> None:
    """Refuse tensors that are missing, left over, of another shape or no real numbers, by open_clip's names."""
    both = sorted(stored.keys() & expected.keys())
    shapes = {name: tuple(stored[name].shape) for name in both}
    other = [
        f"{name} is {shapes[name]} instead of {expected[name]}"
        for name in both
        if shapes[name] != expected[name] and not (name in _SCALARS and shapes[name] == (1,))
    ]
    problems = {
        "missing": sorted(expected.keys() - stored.keys()),
        "of another shape": other,
        "unknown": sorted(stored.keys() - expected.keys()),
        "of a type that is no floating point": [name for name in both if not stored[name].is_floating_point()],
    }
    for what, names in problems.items():
        if names:
            raise checkpoint.refuse(
                f"{len(names)} of its tensors {'is' if len(names) == 1 else 'are'} {what} ({listed(names)}); "
                f"give the whole checkpoint that belongs to its {OPEN_CLIP_CONFIG}"
            )


def _stored(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Its tensors by open_clip's names."""
    paths = (checkpoint.find(name) for name in OPEN_CLIP_WEIGHTS)
    path = next((path for path in paths if path is not None), None)
    if path is None:
        raise checkpoint.refuse(f"it has no {' or '.join(OPEN_CLIP_WEIGHTS)}; give the whole checkpoint")
    values = _read(checkpoint, path)
    values = values.get("state_dict", values) if isinstance(values, dict) else None
    if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
        raise checkpoint.refuse(f"its {path.name} holds no tensors by their names; give the file of its weights")
    # trained on several devices, each name begins with module.
    return {str(name).removeprefix("module."): value for name, value in values.items()}


def _read(checkpoint: Checkpoint, path: Path) -> Any:
    """What a file of weights holds; of one that torch.save wrote nothing but tensors is taken."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # mapped into memory where its form allows that
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except Exception as error:  # nearly anything, from a file that holds anything
        more = "" if path.suffix == ".safetensors" else ", or holds more than tensors"
        raise checkpoint.refuse(f"its {path.name} is damaged{more}; give the file of its weights") from error

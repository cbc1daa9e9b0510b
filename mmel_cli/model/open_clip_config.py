"""open_clip_config.json: the standard ViT and text tower in transformers' terms, and everything else refused by name.

The keys and what they mean when they are not given are those of open_clip (github.com/mlfoundations/open_clip):
CLIPVisionCfg, CLIPTextCfg, the arguments of its CLIP and CustomTextCLIP, and PreprocessCfg.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from transformers import CLIPConfig

from mmel_cli.model.loading import OPEN_CLIP_CONFIG, Checkpoint

_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of OpenAI's training set, which open_clip takes where none is given
_STD = (0.26862954, 0.26130258, 0.27577711)
_LARGEST = 1_000_000  # of any size; a larger one is a mistake, and would be built before a tensor is missed

_OFF: tuple[Any, ...] = (None, False, {})
_BLOCK: dict[str, tuple[Any, ...]] = {
    "ls_init_value": (None,),
    "final_ln_after_pool": _OFF,
    "act_kwargs": _OFF,
    "norm_kwargs": _OFF,
    "block_type": (None, "default"),
    "qk_norm": _OFF,
    "scaled_cosine_attn": _OFF,
    "scale_heads": _OFF,
    "scale_attn_inner": _OFF,
    "scale_attn": _OFF,
    "scale_fc": _OFF,
}


class _Keys(NamedTuple):
    """What a part of the configuration may hold."""

    numbers: Mapping[str, Any]  # read, with what they are when not given
    only: Mapping[str, tuple[Any, ...]]  # the values with which the tower is the standard one
    ignored: frozenset[str]  # without effect on a trained standard tower
    other: str = " "  # how the keys of a tower of another library begin, which this one is not


_VISION = _Keys(
    numbers={"layers": 12, "width": 768, "head_width": 64, "mlp_ratio": 4.0, "patch_size": 16, "image_size": 224},
    only=_BLOCK
    | {
        "timm_model_name": (None,),
        "attentional_pool": _OFF,
        "no_ln_pre": _OFF,
        "input_patchnorm": _OFF,
        "global_average_pool": _OFF,
        "pool_type": ("tok",),
        "pos_embed_type": ("learnable",),
    },
    # of training, and of an attentional pooler
    ignored=frozenset({"patch_dropout", "output_tokens", "attn_pooler_queries", "attn_pooler_heads"}),
    other="timm_",
)
_TEXT = _Keys(
    numbers={"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12, "mlp_ratio": 4.0},
    only=_BLOCK
    | {
        "hf_model_name": (None,),
        "embed_cls": _OFF,
        "no_causal_mask": _OFF,
        "pool_type": ("argmax",),
        "proj_bias": _OFF,
        "proj_type": ("linear",),
        "tokenizer_kwargs": _OFF,
    },
    # of masks and poolers that it has not; a tokenizer is judged by its files
    ignored=frozenset({"output_tokens", "pad_id", "eos_id", "proj", "pooler_type", "use_pad_mask", "correct_cls_mask"}),
    other="hf_",
)
_MODEL = _Keys(
    numbers={"embed_dim": None, "vision_cfg": None, "text_cfg": None, "quick_gelu": False},
    only={"multimodal_cfg": _OFF},
    # where its tensors stand says what custom_text says; the rest is what training starts from
    ignored=frozenset({"custom_text", "init_logit_scale", "init_logit_bias", "nonscalar_logit_scale", "output_dict"}),
)
_PREPROCESS = _Keys(
    numbers={"size": None, "mean": _MEAN, "std": _STD, "interpolation": "bicubic", "resize_mode": "shortest"},
    only={"mode": ("RGB",)},
    ignored=frozenset({"fill_color"}),  # what resize_mode longest pads with
)


def towers(checkpoint: Checkpoint) -> CLIPConfig:
    """The standard towers in transformers' terms; start, end and padding of the vocabulary are still its defaults.

    Raises:
        ModelError: naming the key and the value with which a tower is not a standard one.
    """
    model = _read(checkpoint, "model_cfg", checkpoint.config.get("model_cfg"), _MODEL)
    vision = _read(checkpoint, "vision_cfg", model["vision_cfg"], _VISION)
    text = _read(checkpoint, "text_cfg", model["text_cfg"], _TEXT)
    if not isinstance(model["quick_gelu"], bool):
        raise _wrong(checkpoint, "model_cfg.quick_gelu", model["quick_gelu"], "true or false")
    size, patch = (_square(checkpoint, f"vision_cfg.{key}", vision[key]) for key in ("image_size", "patch_size"))
    if size % patch:
        raise _wrong(checkpoint, "vision_cfg.image_size", size, f"a multiple of its patch_size of {patch}")
    heads = max(1, vision["width"] // _whole(checkpoint, "vision_cfg.head_width", vision["head_width"]))
    context, words = (_whole(checkpoint, f"text_cfg.{key}", text[key]) for key in ("context_length", "vocab_size"))
    activation = "quick_gelu" if model["quick_gelu"] else "gelu"
    return CLIPConfig(
        projection_dim=_whole(checkpoint, "model_cfg.embed_dim", model["embed_dim"]),
        vision_config=_transformer(checkpoint, "vision_cfg", vision | {"heads": heads})
        | {"image_size": size, "patch_size": patch, "hidden_act": activation},
        text_config=_transformer(checkpoint, "text_cfg", text)
        | {"max_position_embeddings": context, "vocab_size": words, "hidden_act": activation},
    )


def pixels(checkpoint: Checkpoint, size: int) -> dict[str, Any]:
    """The settings of a CLIP image processor that gives `size` x `size` pixels as its preprocess_cfg says.

    Raises:
        ModelError: naming the key and the value that it cannot follow.
    """
    given = _read(checkpoint, "preprocess_cfg", checkpoint.config.get("preprocess_cfg"), _PREPROCESS)
    if given["size"] is not None and _square(checkpoint, "preprocess_cfg.size", given["size"]) != size:
        raise _wrong(checkpoint, "preprocess_cfg.size", given["size"], f"vision_cfg.image_size, {size}")
    resamples = {"bicubic": 3, "bilinear": 2, "random": 3}  # random is of training; as numbers of Pillow
    _one_of(checkpoint, "preprocess_cfg.interpolation", given["interpolation"], tuple(resamples))
    _one_of(checkpoint, "preprocess_cfg.resize_mode", given["resize_mode"], ("shortest", "squash"))
    square, crops = {"height": size, "width": size}, given["resize_mode"] == "shortest"
    return {
        "size": {"shortest_edge": size} if crops else square,
        "crop_size": square,
        "do_center_crop": crops,
        "resample": resamples[given["interpolation"]],
        "image_mean": _colour(checkpoint, "preprocess_cfg.mean", given["mean"]),
        "image_std": _colour(checkpoint, "preprocess_cfg.std", given["std"], above=0.0),
    }


def _read(checkpoint: Checkpoint, part: str, given: Any, keys: _Keys) -> dict[str, Any]:
    """The numbers of a part, with what they are when not given; anything that makes it another tower is refused."""
    if not isinstance(given, dict):
        raise checkpoint.refuse(f"its {OPEN_CLIP_CONFIG} has no {part}; give the file that belongs to it")
    for key, value in given.items():
        if key in keys.only:
            _one_of(checkpoint, f"{part}.{key}", value, keys.only[key])
        elif key not in keys.numbers and key not in keys.ignored and not key.startswith(keys.other):
            raise _wrong(checkpoint, f"{part}.{key}", value, "a key that it knows")
    return dict(keys.numbers) | {key: given[key] for key in keys.numbers if given.get(key) is not None}


def _transformer(checkpoint: Checkpoint, part: str, given: dict[str, Any]) -> dict[str, Any]:
    """One tower's blocks."""
    width, heads, layers = (_whole(checkpoint, f"{part}.{key}", given[key]) for key in ("width", "heads", "layers"))
    if width % heads:
        raise _wrong(checkpoint, f"{part}.width", width, f"a multiple of its {heads} heads")
    ratio = given["mlp_ratio"]
    if not _number(ratio) or int(width * ratio) < 1:
        raise _wrong(checkpoint, f"{part}.mlp_ratio", ratio, "a positive number")
    sizes = {"hidden_size": width, "num_attention_heads": heads, "num_hidden_layers": layers}
    return sizes | {"intermediate_size": int(width * ratio), "layer_norm_eps": 1e-5}


def _one_of(checkpoint: Checkpoint, key: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if not any(type(value) is type(option) and value == option for option in allowed):
        options = " or ".join(json.dumps(option) for option in allowed if option not in _OFF)
        raise _wrong(checkpoint, key, value, options or "it not to be set")


def _whole(checkpoint: Checkpoint, key: str, value: Any) -> int:
    if type(value) is not int or not 0 < value < _LARGEST:
        raise _wrong(checkpoint, key, value, f"a whole number between 0 and {_LARGEST}")
    return value


def _square(checkpoint: Checkpoint, key: str, value: Any) -> int:
    """A side, given once or for height and width."""
    if isinstance(value, list) and len(value) in (1, 2) and len({*map(str, value)}) == 1:
        value = value[0]
    if isinstance(value, list):
        raise _wrong(checkpoint, key, value, "a square")
    return _whole(checkpoint, key, value)


def _colour(checkpoint: Checkpoint, key: str, value: Any, above: float = -math.inf) -> list[float]:
    """Three numbers, or one for all, each above a bound."""
    values = list(value) if isinstance(value, (list, tuple)) else [value] * 3
    if len(values) != 3 or not all(_number(one) and one > above for one in values):
        raise _wrong(checkpoint, key, value, f"three numbers above {above}")
    return [float(one) for one in values]


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _wrong(checkpoint: Checkpoint, key: str, value: Any, needed: str) -> Exception:
    return checkpoint.refuse(
        f"its {OPEN_CLIP_CONFIG} has {key} = {json.dumps(value)[:60]}, where mmel needs {needed}; "
        "of open_clip it explains the standard ViT and text tower"
    )

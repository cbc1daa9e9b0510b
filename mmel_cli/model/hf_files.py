"""The files of HuggingFace models, one loader a family: loaded, checked, hashed, and put together to an adapter."""

from typing import Any

from transformers import (
    AltCLIPModel,
    AutoTokenizer,
    ChineseCLIPImageProcessorPil,
    ChineseCLIPModel,
    CLIPImageProcessorPil,
    CLIPModel,
    MetaClip2Model,
    SiglipImageProcessorPil,
    SiglipModel,
)

from mmel_cli.model.adapter import Adapter
from mmel_cli.model.families import Want
from mmel_cli.model.loading import (
    Checkpoint,
    attempt,
    check_input_size,
    check_processor,
    check_tokenizer,
    check_tokenizer_files,
    check_weights,
    config_sha256,
    input_size,
    plain_sha256,
    tokenizer_sha256,
    weights_file,
    weights_sha256,
)
from mmel_cli.model.preprocess import describe
from mmel_cli.model.sides import TextSide
from mmel_cli.model.text import LEGACY_EOS, EosText, FirstText, LastText
from mmel_cli.model.tokens import context_of, read
from mmel_cli.model.two_towers import Parts, TwoTowers
from mmel_cli.model.vision import ClassVision
from mmel_cli.model.vision_probe import ProbeVision
from mmel_cli.scoring import Scoring

Loaded = tuple[Any, Any, Any]
"""A model, its tokenizer and its image processor."""

_PARTS = frozenset({"hidden", "alignment", "entering", "own", "alone", "surgery", "tails"})  # every model here gives


def load_clip(checkpoint: Checkpoint, want: Want) -> Adapter:
    """Load a CLIP (this and the other loaders are entries of families.FAMILIES).

    Raises:
        ModelError: if its files cannot be loaded, are not complete or do not fit each other.
    """
    model, tokenizer, processor = _load(checkpoint, CLIPModel, CLIPImageProcessorPil)
    text = model.config.text_config
    legacy = text.eos_token_id == LEGACY_EOS
    end = text.vocab_size - 1 if legacy else text.eos_token_id
    # the tower does not look for its start, and old configurations say 0
    start = tokenizer.bos_token_id if legacy else text.bos_token_id or tokenizer.bos_token_id
    check_ends(checkpoint, tokenizer, start, end)
    return assemble_clip(checkpoint, (model, tokenizer, processor), want, highest=legacy)


def load_metaclip2(checkpoint: Checkpoint, want: Want) -> Adapter:
    """Load a MetaCLIP 2: CLIP whose start and end are those of its configuration, whatever their ids."""
    model, tokenizer, processor = _load(checkpoint, MetaClip2Model, CLIPImageProcessorPil)
    check_ends(checkpoint, tokenizer, tokenizer.bos_token_id, model.config.text_config.eos_token_id)
    return assemble_clip(checkpoint, (model, tokenizer, processor), want, highest=False)


def assemble_clip(checkpoint: Checkpoint, loaded: Loaded, want: Want, *, highest: bool) -> TwoTowers:
    """An adapter of a model in the CLIP layout, already checked.

    Args:
        checkpoint: where it comes from.
        loaded: CLIPModel or one laid out like it, a fast tokenizer, an image processor.
        want: device, dtype and input size.
        highest: the token with the highest id is pooled, not the first end token.
    """
    model, tokenizer, _ = loaded
    text = EosText(model, tokenizer, checkpoint.name, highest)
    return _two_towers(checkpoint, loaded, want, (ClassVision, text), _PARTS | {"one_head"})


def load_altclip(checkpoint: Checkpoint, want: Want) -> Adapter:
    """Load an AltCLIP: CLIP's vision tower and an XLM-RoBERTa, whose positions count from behind the padding's id."""
    loaded = _load(checkpoint, AltCLIPModel, CLIPImageProcessorPil)
    model, tokenizer, _ = loaded
    text = model.config.text_config
    _check_first(checkpoint, tokenizer)
    if tokenizer.pad_token_id != text.pad_token_id:
        raise checkpoint.refuse(
            f"its tokenizer pads with {tokenizer.pad_token_id}, its text tower reads {text.pad_token_id} as padding; "
            "use the tokenizer that the model was trained with"
        )
    side = FirstText(model, tokenizer, text.max_position_embeddings - text.pad_token_id - 1)
    return _two_towers(checkpoint, loaded, want, (ClassVision, side))


def load_chinese_clip(checkpoint: Checkpoint, want: Want) -> Adapter:
    """Load a Chinese-CLIP: CLIP's vision tower and a BERT."""
    loaded = _load(checkpoint, ChineseCLIPModel, ChineseCLIPImageProcessorPil)
    model, tokenizer, _ = loaded
    _check_first(checkpoint, tokenizer)
    side = FirstText(model, tokenizer, model.config.text_config.max_position_embeddings)
    return _two_towers(checkpoint, loaded, want, (ClassVision, side))


def load_siglip(checkpoint: Checkpoint, want: Want) -> Adapter:
    """Load a SigLIP, or a SigLIP 2 of fixed resolution, which has the same layout."""
    loaded = _load(checkpoint, SiglipModel, SiglipImageProcessorPil)
    model, tokenizer, _ = loaded
    if not model.vision_model.use_head:
        raise checkpoint.refuse("its vision tower has no pooling head (vision_use_head), so it has no image embedding")
    if tokenizer.pad_token_id is None:
        raise checkpoint.refuse("its tokenizer has no padding token, with which the model reads every caption")
    length = model.config.text_config.max_position_embeddings
    if context_of(tokenizer, length) != length:
        raise checkpoint.refuse(
            f"its tokenizer pads captions to {tokenizer.model_max_length} tokens (model_max_length), its text tower "
            f"has {length} positions and pools the last one; set it to the length that it was trained with"
        )
    return assemble_siglip(checkpoint, loaded, want)


def assemble_siglip(checkpoint: Checkpoint, loaded: Loaded, want: Want) -> TwoTowers:
    """An adapter of a model in the SigLIP layout, already checked: as `assemble_clip`."""
    model, tokenizer, _ = loaded
    return _two_towers(checkpoint, loaded, want, (ProbeVision, LastText(model, tokenizer)))


def _load(checkpoint: Checkpoint, kind: Any, processor_kind: Any) -> Loaded:
    """Model, tokenizer and image processor, each by its own class, checked as far as all families are alike."""
    name, source = checkpoint.name, checkpoint.source
    base = processor_kind.__name__.removesuffix("ImageProcessorPil")
    kinds = [f"{base}{end}" for end in ("ImageProcessor", "ImageProcessorFast", "ImageProcessorPil")]
    check_processor(checkpoint, (*kinds, f"{base}FeatureExtractor", f"{base}Processor"))
    processor = attempt(name, lambda: processor_kind.from_pretrained(source))
    check_tokenizer_files(checkpoint)
    tokenizer = attempt(name, lambda: AutoTokenizer.from_pretrained(source, trust_remote_code=False))
    file = weights_file(checkpoint)
    options: dict[str, Any] = {
        "dtype": "auto",
        "use_safetensors": file.endswith((".safetensors", ".safetensors.index.json")),
        "weights_only": True,  # a .bin file is a pickle: nothing but tensors is taken from it
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # they are reported, so that check_weights names them
    }
    try:
        model, report = kind.from_pretrained(source, **options)
    except Exception as error:  # nearly anything; what torch advises about a pickle that holds more is not passed on
        more = "" if options["use_safetensors"] else ", or holds more than tensors"
        raise checkpoint.refuse(
            f"its {file} cannot be loaded by its config.json, is damaged{more}; give the whole checkpoint"
        ) from error
    check_weights(checkpoint, report)
    check_tokenizer(checkpoint, tokenizer, model.config.text_config.vocab_size)
    side = model.config.vision_config.image_size
    check_input_size(checkpoint, processor, (side, side))
    return model.eval().requires_grad_(requires_grad=False), tokenizer, processor


def _two_towers(
    checkpoint: Checkpoint,
    loaded: Loaded,
    want: Want,
    sides: tuple[type[ClassVision] | type[ProbeVision], TextSide],
    gives: frozenset[str] = _PARTS,
) -> TwoTowers:
    """The adapter: what is recorded is taken as loaded, before the model goes to its device and dtype."""
    model, _, processor = loaded
    vision, text = sides
    if text.max_tokens < 1:
        raise checkpoint.refuse("its tokenizer leaves no room for a caption (model_max_length); give the one it needs")
    parts = Parts(
        name=checkpoint.name,
        family=checkpoint.model_type,
        files=_files(checkpoint, *loaded),
        model=model,
        processor=processor,
        vision=vision(model, input_size(checkpoint, model.config.vision_config, want.image_size)),
        text=text,
        scoring=scoring_of(model),
        gives=gives,
    )
    model.to(want.device, want.dtype)
    return TwoTowers(parts)


def _files(checkpoint: Checkpoint, model: Any, tokenizer: Any, processor: Any) -> dict[str, str]:
    """SHA-256 by role, of what was loaded."""
    return {
        "weights": weights_sha256(model),
        "config": config_sha256(checkpoint.config),
        "tokenizer": tokenizer_sha256(tokenizer),
        "processor": plain_sha256(describe(processor)),
    }


def scoring_of(model: Any) -> Scoring:
    """Its temperature, and its bias where it was trained with a sigmoid loss (SigLIP, some of open_clip)."""
    scale, bias = float(model.logit_scale.float().exp()), getattr(model, "logit_bias", None)
    return Scoring(scale) if bias is None else Scoring(scale, float(bias.float()), "sigmoid")


def check_ends(checkpoint: Checkpoint, tokenizer: Any, start: int, end: int) -> None:
    """Refuse a tokenizer whose start and end are not those of the text tower: it would pool another token.

    Raises:
        ModelError: with what it reads.
    """
    reading = read(tokenizer, ["a photo"])[0]
    given = (reading.before, reading.after, tokenizer.eos_token_id)
    if given != ((start,), (end,), end) or {start, end} & {*reading.ids}:
        row = [*reading.before, *reading.ids, *reading.after]
        raise checkpoint.refuse(
            f"its tokenizer {type(tokenizer).__name__} reads 'a photo' as {row}, where its text tower needs {start} "
            f"at the start and {end} at the end alone; use the tokenizer that the model was trained with"
        )


def _check_first(checkpoint: Checkpoint, tokenizer: Any) -> None:
    """Refuse a tokenizer that puts no start before a caption, or has no padding."""
    reading = read(tokenizer, ["a photo"])[0]
    if len(reading.before) != 1 or tokenizer.pad_token_id is None:
        lacks = "no padding token" if len(reading.before) == 1 else "no start token, which its text tower pools"
        raise checkpoint.refuse(
            f"its tokenizer {type(tokenizer).__name__} has {lacks}; use the tokenizer that the model was trained with"
        )

"""What the bench scripts share: models of random weights in the shapes of published ones, photos, batches of pairs."""

import io
import json
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from mmel_cli.data import open_source
from mmel_cli.data.images import ImageLimits
from mmel_cli.model import BUILTIN, Adapter, Want, load_model
from mmel_cli.model.adapter import BUILTIN_FOLDER
from mmel_cli.model.hf_files import assemble_clip, assemble_siglip
from mmel_cli.model.loading import Checkpoint
from mmel_cli.pipelines.batches import Batch, Loader
from mmel_cli.types import Sample

COLOURS = ("red", "green", "blue", "orange", "white", "grey", "black", "pink")
SHAPES = ("circle", "square", "star", "moon")
_L_14 = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_TEXT_OF_L_14 = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}


def builtin(dtype: torch.dtype = torch.float32, device: str = "cpu") -> Adapter:
    """The builtin model."""
    return load_model(BUILTIN, device, str(dtype).removeprefix("torch."))


def vit_b_16(dtype: torch.dtype = torch.float32, device: str = "cpu") -> Adapter:
    """Random weights, the builtin model's tokenizer; so have all below."""
    return _clip("vit-b-16", CLIPConfig(vision_config={"patch_size": 16}), dtype, device)


def vit_l_14(dtype: torch.dtype = torch.float32, device: str = "cpu") -> Adapter:
    """CLIP's larger one."""
    config = CLIPConfig(text_config=_TEXT_OF_L_14, vision_config=_L_14 | {"patch_size": 14}, projection_dim=768)
    return _clip("vit-l-14", config, dtype, device)


def siglip_b(dtype: torch.dtype = torch.float32, device: str = "cpu") -> Adapter:
    """SigLIP-B/16 of 224 pixels: a probe pools 196 patches, captions are padded to 64 tokens."""
    model, tokenizer = SiglipModel(SiglipConfig()), AutoTokenizer.from_pretrained(BUILTIN_FOLDER)
    return _assembled(assemble_siglip, "siglip-b", (model, tokenizer, SiglipImageProcessorPil()), (dtype, device))


MODELS: dict[str, Callable[..., Adapter]] = {
    BUILTIN: builtin,
    "vit-b-16": vit_b_16,
    "vit-l-14": vit_l_14,
    "siglip-b": siglip_b,
}
"""By name; each takes the dtype and the device."""


def raw_of(model: Adapter) -> Any:
    """The model of transformers behind an adapter, with the same weights."""
    return model._model  # type: ignore[attr-defined]


def save_clip(model: Adapter, folder: Path) -> Path:
    """A CLIP of these as a folder that `--model` takes."""
    for part in (raw_of(model), AutoTokenizer.from_pretrained(BUILTIN_FOLDER), CLIPImageProcessorPil()):
        part.save_pretrained(folder)
    return folder


def photo_like(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with a little noise, RGB."""
    rng = np.random.default_rng(seed)
    blocks = (max(height // 40, 1), max(width // 40, 1), 3)
    coarse = Image.fromarray(rng.integers(0, 256, blocks, dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return Image.fromarray((smooth + rng.integers(-4, 5, smooth.shape)).clip(0, 255).astype(np.uint8))


def captions(count: int) -> list[str]:
    """So many distinct ones, of three or six words."""
    things = [f"a {colour} {shape}" for shape in SHAPES for colour in COLOURS]
    plain = range(0, len(things), 2)
    return [things[n % len(things)] + ("" if n in plain else f" and {n} dots") for n in range(count)]


def write_photos(folder: Path, tars: Path, count: int, size: tuple[int, int]) -> None:
    """So many JPEGs with a caption each, as an imagefolder and as a tar shard of webdataset."""
    folder.mkdir(parents=True)
    tars.mkdir(parents=True)
    rows = []
    with tarfile.open(tars / "000.tar", "w") as shard:
        for number, caption in enumerate(captions(count)):
            encoded = io.BytesIO()
            photo_like(*size, seed=number).save(encoded, "JPEG", quality=90)
            (folder / f"{number:05}.jpg").write_bytes(encoded.getvalue())
            rows.append({"file_name": f"{number:05}.jpg", "text": caption})
            for ending, content in ((".jpg", encoded.getvalue()), (".txt", caption.encode())):
                member = tarfile.TarInfo(f"{number:05}{ending}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def batch_of(model: Adapter, source: Path, pairs: int, *, shared: bool) -> Batch:
    """The first pairs of the source, with all captions of an image or the first."""
    samples = [entry for entry in open_source(source) if isinstance(entry, Sample)]
    chosen = samples if shared else list({sample.image: sample for sample in reversed(samples)}.values())[::-1]
    with ThreadPoolExecutor(2) as pool:
        loader = Loader(pool, ImageLimits(), partial(model.preprocess, geometry="native"))
        return next(iter(loader.batches([chosen[:pairs]], ())))


def _clip(name: str, config: CLIPConfig, dtype: torch.dtype, device: str) -> Adapter:
    tokenizer = AutoTokenizer.from_pretrained(BUILTIN_FOLDER)
    config.text_config.bos_token_id = tokenizer.bos_token_id
    config.text_config.eos_token_id = tokenizer.eos_token_id
    loaded = (CLIPModel(config), tokenizer, CLIPImageProcessorPil())
    return _assembled(partial(assemble_clip, highest=False), name, loaded, (dtype, device))


def _assembled(
    assemble: Callable[..., Adapter], name: str, loaded: tuple[Any, Any, Any], runs_as: tuple[torch.dtype, str]
) -> Adapter:
    model, tokenizer, processor = loaded
    model.eval().requires_grad_(requires_grad=False)
    dtype, device = runs_as
    checkpoint = Checkpoint(name, name, {"model_type": model.config.model_type})
    return assemble(checkpoint, (model, tokenizer, processor), Want(torch.device(device), dtype))

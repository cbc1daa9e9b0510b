"""Shapes are checked in every test run; models are tiny, random and made here."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the hub's client

from jaxtyping import install_import_hook

install_import_hook(["mmel_cli.tensors", "mmel_cli.attribution", "mmel_cli.model"], "beartype.beartype")

import json  # noqa: E402 - the hook must come first
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer  # noqa: E402

WORDS = ["a", "red", "blue", "dog", "cat", "on", "the", "grass", "photo", "of"]


def tiny_tokenizer() -> CLIPTokenizer:
    """Letters, letters at a word's end, and ten whole words; the special tokens last, as in CLIP."""
    letters = [chr(c) for c in range(33, 127)]
    vocabulary = letters + [letter + "</w>" for letter in letters]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts = [parts[0] + parts[1], *parts[2:]]
            vocabulary.append(parts[0])
    vocabulary = [*dict.fromkeys(vocabulary), "<|startoftext|>", "<|endoftext|>"]
    merges = list(dict.fromkeys(merges))
    return CLIPTokenizer({token: i for i, token in enumerate(vocabulary)}, merges, model_max_length=16)


def make_tiny(folder: Path, *, seed: int = 0, side: int = 32, legacy_eos: bool = False) -> Path:
    """Save a random CLIP: 4 vision layers of 4 heads on a 4 x 4 grid, 3 text layers of 2 heads."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    eos = 2 if legacy_eos else tokenizer.eos_token_id
    text = {"vocab_size": len(tokenizer), "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 16, "eos_token_id": eos}
    text |= {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.eos_token_id}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    vision |= {"image_size": side, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=20))
    for name, parameter in model.named_parameters():  # the default start is so even that attention is uniform
        if parameter.ndim >= 1 and "norm" not in name:
            parameter.data.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"height": side, "width": side}
    CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=size).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny") / "clip")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of several sizes with two captions each, as an imagefolder."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(7)
    rows = []
    for i in range(12):
        height, width = (int(n) for n in rng.integers(30, 90, 2))
        blocks = rng.integers(0, 255, (5, 4, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{i:02}.png")
        rows += [{"file_name": f"{i:02}.png", "text": f"a {w} {n}"} for w, n in (("red", "dog"), ("blue", f"cat{i}"))]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def mmel(capfd, monkeypatch):
    """Run the command line in this process: (exit code, stdout, stderr)."""
    import sys

    from mmel_cli.cli import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["mmel", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capfd.readouterr()
        return code, out, err

    return run

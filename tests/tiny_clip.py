"""A random CLIP, small enough to make in a test."""

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

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

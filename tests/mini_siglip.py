"""A model family from outside the package: SigLIP in miniature (arXiv 2303.15343), on plain torch modules.

Its vision tower has no class token and pools with a learned probe; its text tower has no start token, attends in both
directions over a fixed length and pools the last position; its loss is a sigmoid with a temperature and a bias.
"""

import copy
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from torch import nn
from torch.nn.functional import normalize, scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import CLIPImageProcessorPil, PreTrainedTokenizerFast

from mmel_cli.errors import ModelError
from mmel_cli.model import Captions, ModelSpec
from mmel_cli.model.capture import AttentionLayer, activations, record
from mmel_cli.model.gradients import cosine, pull_back, pull_back_batched, read_along
from mmel_cli.model.loading import (
    check_input_size,
    check_tokenizer,
    config_sha256,
    plain_sha256,
    tokenizer_sha256,
    weights_sha256,
)
from mmel_cli.model.preprocess import describe, preprocess
from mmel_cli.model.words import owners_of, token_texts, words_of
from mmel_cli.scoring import Scoring
from mmel_cli.tensors import Capture, ImageSide, Tower

SIDE, PATCH, WIDTH, HEADS, LAYERS, LENGTH = 32, 8, 24, 3, 3, 9
PAD, END, UNKNOWN = 0, 1, 2


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.Linear(WIDTH, WIDTH))

    def forward(self, asks, x, mask=None):
        q, k, v = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in (self.q_proj(asks), self.k_proj(x), self.v_proj(x))
        )
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2, self.self_attn = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), Attention()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x, mask=None):
        normed = self.norm1(x)
        x = x + self.self_attn(normed, normed, mask)
        return x + self.mlp(self.norm2(x))


class MiniSiglip(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.place = nn.Parameter(torch.randn((SIDE // PATCH) ** 2, WIDTH))
        self.vision = nn.ModuleList(Block() for _ in range(LAYERS))
        self.probe, self.pool = nn.Parameter(torch.randn(1, 1, WIDTH)), Attention()
        self.embed = nn.Embedding(vocab_size, WIDTH)
        self.position = nn.Parameter(torch.randn(LENGTH, WIDTH))
        self.text = nn.ModuleList(Block() for _ in range(LAYERS))
        self.scale, self.bias = nn.Parameter(torch.tensor(2.3)), nn.Parameter(torch.tensor(-4.0))

    def image(self, values):
        x = self.patches(values).flatten(2).transpose(1, 2) + self.place
        for block in self.vision:
            x = block(x)
        return self.pool(self.probe.expand(len(x), -1, -1), x)[:, 0]

    def caption(self, ids, mask):
        x = self.embed(ids) + self.position
        for block in self.text:
            x = block(x, mask.bool()[:, None, None])
        return x[:, LENGTH - 1]


class MiniAdapter:
    """Implements model.Adapter."""

    def __init__(self, name, files, model, tokenizer, processor):
        self.model, self.tokenizer, self.processor = model, tokenizer, processor
        weight = model.place
        self.spec = ModelSpec(
            name=name,
            family="mini-siglip",
            files=files,
            gives=frozenset({"hidden", "directed"}),
            image_size=(SIDE, SIDE),
            patch=PATCH,
            grid=(SIDE // PATCH, SIDE // PATCH),
            layers=LAYERS,
            text_layers=LAYERS,
            max_tokens=LENGTH - 1,
            device=str(weight.device),
            dtype=str(weight.dtype).removeprefix("torch."),
            scoring=Scoring(float(model.scale.exp()), float(model.bias), "sigmoid"),
            processor=describe(processor),
        )

    def preprocess(self, image, geometry):
        return preprocess(image, self.processor, self.spec.image_size, geometry)

    def tokenize(self, captions):
        encoded = self.tokenizer(captions, return_offsets_mapping=True)
        whole, spans = encoded["input_ids"], encoded["offset_mapping"]
        counts = [min(len(row), LENGTH - 1) for row in whole]
        rows = [torch.tensor([*row[:n], END] + [PAD] * (LENGTH - 1 - n)) for row, n in zip(whole, counts, strict=True)]
        given = list(zip(captions, spans, whole, counts, strict=True))
        return Captions(
            ids=torch.stack(rows),
            mask=torch.ones(len(rows), LENGTH, dtype=torch.long),  # padding is attended to, as in training
            query=torch.full((len(rows),), LENGTH - 1),
            places=pad_sequence([torch.arange(n) for n in counts], batch_first=True, padding_value=-1),
            tokens=tuple(token_texts(c, own[:n], row[:n], self.tokenizer.decode) for c, own, row, n in given),
            words=tuple(words_of(c, own, n) for c, own, _, n in given),
            owners=pad_sequence(
                [torch.tensor(owners_of(c, words_of(c, own, n), own[:n]), dtype=torch.long) for c, own, _, n in given],
                batch_first=True,
                padding_value=-1,
            ),
            truncated=torch.tensor([len(row) > n for row, n in zip(whole, counts, strict=True)]),
        )

    def capture(self, images, captions, pairs, request, directions=()):
        rows, columns = torch.tensor(pairs, device=self.model.place.device).T
        vision = [AttentionLayer.of(self.model.vision[n - 1]) for n in request.layers]
        text = [AttentionLayer.of(self.model.text[n - 1]) for n in request.text_layers]
        values = torch.stack([image.values for image in images]).to(self.model.place)
        with record(vision, outputs=request.hidden) as seen, record(text) as read:
            image_embeds = self.model.image(values)
            text_embeds = self.model.caption(captions.ids.to(rows), captions.mask.to(rows))
        score, to_image, to_text = cosine(image_embeds[rows], text_embeds[columns])
        w_image = pull_back(image_embeds, seen.o, rows, to_image, keep=bool(request.directed))
        w_text = pull_back_batched(text_embeds, read.o, columns, to_text)
        patches = torch.arange(len(self.model.place), device=rows.device).expand(len(rows), -1)

        def image_tower(w, index):
            return Tower(
                numbers=request.layers,
                heads=HEADS,
                queries=(None,) * len(vision),
                places=patches[:1].expand(len(index), -1),
                visible=torch.ones(len(index), patches.shape[1], dtype=torch.bool, device=rows.device),
                **activations(seen, w, index, [layer.out for layer in vision]),
            )

        def side(w, index, _vectors):
            hidden = tuple(x[index].float() for x in seen.outputs)
            return ImageSide(self.spec.grid, image_tower(w, index), hidden)

        directed = tuple(read_along(image_embeds, seen.o, asked, side) for asked in directions)
        return Capture(
            score=score,
            grid=self.spec.grid,
            image=image_tower(w_image, rows),
            directed=directed,
            owners=captions.owners.to(rows)[columns],
            text=Tower(
                numbers=request.text_layers,
                heads=HEADS,
                queries=(captions.query.to(rows)[columns],) * len(text),
                places=captions.places.to(rows)[columns],
                visible=torch.ones(len(rows), LENGTH, dtype=torch.bool, device=rows.device),
                **activations(read, w_text, columns, [layer.out for layer in text]),
            ),
            image_embeds=normalize(image_embeds[rows].detach().float(), dim=-1),
            hidden=tuple(x[rows].float() for x in seen.outputs),
        )

    def embed_images(self, values, *, graph=False, gradient="plain"):
        if gradient != "plain":
            raise ModelError("mini-siglip knows no rules for gradients; use method.gradient=plain with this model")
        with torch.set_grad_enabled(graph):
            return normalize(self.model.image(values.to(self.model.place)).float(), dim=-1)

    @torch.no_grad()
    def embed_texts(self, captions):
        place = self.model.place.device
        return normalize(self.model.caption(captions.ids.to(place), captions.mask.to(place)).float(), dim=-1)

    def randomised(self, layers, seed):
        model = copy.deepcopy(self.model)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            for module in [model.pool, *reversed(model.vision[-layers:])]:
                for part in module.modules():
                    if isinstance(part, (nn.Linear, nn.LayerNorm)):
                        part.reset_parameters()
        return MiniAdapter(self.spec.name, self.spec.files, model, self.tokenizer, self.processor)


def load_mini(checkpoint, want):
    """The loader that a test puts into FAMILIES."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(checkpoint.source)
    processor = CLIPImageProcessorPil.from_pretrained(checkpoint.source)
    model = MiniSiglip(checkpoint.config["vocab_size"])
    model.load_state_dict(load_file(checkpoint.find("model.safetensors")))
    check_tokenizer(checkpoint, tokenizer, checkpoint.config["vocab_size"])
    check_input_size(checkpoint, processor, (SIDE, SIDE))
    files = {
        "weights": weights_sha256(model),
        "config": config_sha256(checkpoint.config),
        "tokenizer": tokenizer_sha256(tokenizer),
        "processor": plain_sha256(describe(processor)),
    }
    model = model.to(want.device, want.dtype).eval().requires_grad_(requires_grad=False)
    return MiniAdapter(checkpoint.name, files, model, tokenizer, processor)


def make_mini(folder: Path, *, seed: int = 0) -> Path:
    """Save a random one, and its tokenizer of whole words."""
    folder.mkdir()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    words = [*special.values(), "a", "red", "blue", "dog", *(f"cat{n}" for n in range(12))]
    backend = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, special["unk_token"]))
    backend.pre_tokenizer = Split(" ", "removed")
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size).save_pretrained(folder)
    torch.manual_seed(seed)
    model = MiniSiglip(len(words))
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "norm" not in name:
            parameter.data.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
    save_file(model.state_dict(), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "mini-siglip", "vocab_size": len(words)}))
    return folder

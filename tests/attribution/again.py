"""A tiny model's pairs to look at again, and the literal float64 score to compare with."""

from dataclasses import replace

import numpy as np
import torch
from oracles.clip_forward import encode_image, encode_text
from PIL import Image
from transformers import CLIPModel

from mmel_cli.attribution import METHODS
from mmel_cli.model import CoverProbe, load_model
from mmel_cli.pipelines.engine import Engine

CAPTIONS = ["a red dog", "two blue cats"]
PAIRS = [(0, 1), (1, 0), (1, 1)]
SEEDS = (11, 12, 13)


class Again:
    """Two images of noise and two captions of a tiny CLIP, a 4 x 4 grid of 8 pixels."""

    def __init__(self, tiny):
        self.model = load_model(str(tiny), "cpu", "float32")
        noise = np.random.default_rng(1).integers(0, 255, (2, 40, 40, 3), dtype=np.uint8)
        self.pixels = [self.model.preprocess(Image.fromarray(image), "native") for image in noise]
        self.values = torch.stack([p.values for p in self.pixels])
        self.words = self.model.tokenize(CAPTIONS)
        self.raw = CLIPModel.from_pretrained(tiny).double()

    def probe(self, pairs=PAIRS):
        return CoverProbe(self.model, self.values, self.words, *torch.tensor(pairs).T)

    def explain(self, name, pairs=PAIRS, seeds=SEEDS, **params):
        """What the method gives for these pairs."""
        method = METHODS[name]
        engine = Engine.build(self.model, method, method.params(**params))
        capture = self.model.capture(self.pixels, self.words, pairs, engine.request)
        capture = replace(capture, probe=self.probe(pairs), seeds=seeds)
        return method.explain(capture, engine.params, engine.state)

    def text(self, pair):
        """The literal embedding of a pair's caption."""
        row, end = PAIRS[pair][1], int(self.words.query[PAIRS[pair][1]])
        return encode_text(self.raw, self.words.ids[row, : end + 1], end)[0].detach()

    def score(self, pair, values):
        """The literal cosine of pixels and a pair's caption, in the graph of the pixels."""
        return torch.cosine_similarity(encode_image(self.raw, values)[0], self.text(pair), dim=0)

    def gradient(self, pair, values):
        """ds/dx at these pixels by autograd through the literal forward."""
        leaf = values.double().clone().requires_grad_()
        return torch.autograd.grad(self.score(pair, leaf), leaf)[0]

    def image(self, pair):
        """The pixels of a pair's image, float64."""
        return self.values[PAIRS[pair][0]].double()


def patch_sums(values, size=8):
    """Pixel by pixel."""
    total = torch.zeros(values.shape[1] // size, values.shape[2] // size, dtype=torch.float64)
    for y in range(values.shape[1]):
        for x in range(values.shape[2]):
            total[y // size, x // size] += values[:, y, x].sum()
    return total


def close(mine, expected, rtol=1e-3):
    expected = expected.detach()
    scale = float(expected.abs().max())
    assert scale > 0
    torch.testing.assert_close(mine.double(), expected, rtol=rtol, atol=1e-5 * scale)

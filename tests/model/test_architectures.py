"""Every architecture with every kind of tokenizer: scores are transformers' own, identities hold, batches equal singles."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoTokenizer
from zoo import ARCHITECTURES, CAPTIONS, CONTEXT, KINDS, make_model

from mmel_cli.attribution import METHODS, Target, ops
from mmel_cli.model import Adapter, CaptureRequest, CoverProbe, load_model
from mmel_cli.pipelines.engine import Engine

PAIRS = [(n % 3, n) for n in range(len(CAPTIONS))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = {}

    def make(family, kind="bytes"):
        if (family, kind) not in made:
            made[family, kind] = make_model(tmp_path_factory.mktemp(family) / kind, family, kind)
        return made[family, kind]

    return make


def pictures(count=3, seed=4):
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 255, (44 + 7 * n, 61, 3), dtype=np.uint8)) for n in range(count)]


def request(spec, **parts):
    return CaptureRequest(tuple(range(1, spec.layers + 1)), tuple(range(1, spec.text_layers + 1)), **parts)


def pixels_of(model):
    return [model.preprocess(image, "native") for image in pictures()]


def theirs(folder, family, captions):
    """Cosines (images, captions) by transformers' own model, tokenizer and processor."""
    raw = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    padding = {"padding": "max_length", "max_length": CONTEXT} if family == "siglip" else {"padding": True}
    encoded = tokenizer(captions, split_special_tokens=True, truncation=True, return_tensors="pt", **padding)
    encoded = {name: encoded[name] for name in ("input_ids", "attention_mask") if name in encoded}
    if family == "siglip":
        encoded.pop("attention_mask")
    values = torch.cat([processor_of(folder)(image, return_tensors="pt")["pixel_values"] for image in pictures()])
    with torch.no_grad():
        out = raw(pixel_values=values, **encoded)
    return out.image_embeds @ out.text_embeds.T, out.logits_per_image, raw


def processor_of(folder):
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(folder, backend="pil")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_scores_are_those_of_transformers(folder, family, kind):
    """30 captions with accents, emoji, CJK, special tokens as text, 200 words, punctuation alone."""
    place = folder(family, kind)
    model = load_model(str(place), "cpu", "float32")
    assert isinstance(model, Adapter)
    captions = model.tokenize(CAPTIONS)
    capture = model.capture(pixels_of(model), captions, PAIRS, request(model.spec))
    texts = CAPTIONS if kind in ("bytes", "pieces") else [without_special(text) for text in CAPTIONS]
    cosines, logits, _ = theirs(place, family, texts)
    for pair, (image, caption) in enumerate(PAIRS):
        if texts[caption] == CAPTIONS[caption]:
            assert capture.score[pair].item() == pytest.approx(cosines[image, caption].item(), abs=1e-5), caption
            logit = model.spec.scoring.logit(float(capture.score[pair]))
            assert logit == pytest.approx(logits[image, caption].item(), abs=1e-3)


def without_special(text):
    """A vocabulary of whole words may hold a special token as a word: such captions are another test."""
    return "" if any(mark in text for mark in ("<", "[")) else text

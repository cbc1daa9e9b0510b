"""Every architecture with every kind of tokenizer: transformers' own scores, identities, batches equal to singles."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import quick
import torch
from oracles.watched import one_pair, watched
from PIL import Image
from transformers import AutoModel, AutoTokenizer
from zoo import ARCHITECTURES, CAPTIONS, CONTEXT, KINDS, make_model, processor_of

from mmel_cli.attribution import METHODS, gae, ops
from mmel_cli.model import Adapter, CaptureRequest, CoverProbe, LeftOut, load_model
from mmel_cli.model.words import without
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
    """Cosines and logits (images, captions) by transformers' own model, tokenizer and processor."""
    raw = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    padding = {"padding": "max_length", "max_length": CONTEXT} if family == "siglip" else {"padding": True}
    encoded = tokenizer(
        captions, split_special_tokens=True, truncation=True, return_special_tokens_mask=True, return_tensors="pt",
        **padding,
    )  # fmt: skip
    # a vocabulary of words holds its special tokens as words: spelled in a caption they are unknown text
    spelled = torch.isin(encoded["input_ids"], torch.tensor(tokenizer.all_special_ids)) & ~framing(encoded, tokenizer)
    ids = encoded["input_ids"].masked_fill(spelled, tokenizer.unk_token_id)
    given = {} if family == "siglip" else {"attention_mask": encoded["attention_mask"]}
    values = torch.cat([processor_of(folder)(image, return_tensors="pt")["pixel_values"] for image in pictures()])
    with torch.no_grad():
        out = raw(pixel_values=values, input_ids=ids, **given)
    return out.image_embeds @ out.text_embeds.T, out.logits_per_image


def framing(encoded, tokenizer):
    """Start, end and padding, by their places: the first and last token that is attended to, and what is not."""
    attended = encoded["attention_mask"].bool()
    framed = ~attended
    rows = torch.arange(len(attended))
    framed[rows, attended.sum(1) - 1] = True
    if tokenizer("a")["input_ids"][0] in tokenizer.all_special_ids:
        framed[:, 0] = True
    return framed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_scores_are_those_of_transformers(folder, family, kind):
    """30 captions with accents, emoji, CJK, special tokens as text, 200 words, punctuation alone."""
    place = folder(family, kind)
    model = load_model(str(place), "cpu", "float32")
    assert isinstance(model, Adapter)
    captions = model.tokenize(CAPTIONS)
    capture = model.capture(pixels_of(model), captions, PAIRS, request(model.spec))
    cosines, logits = theirs(place, family, CAPTIONS)
    for pair, (image, caption) in enumerate(PAIRS):
        assert capture.score[pair].item() == pytest.approx(cosines[image, caption].item(), abs=1e-5), CAPTIONS[caption]
        logit = model.spec.scoring.logit(float(capture.score[pair]))
        assert logit == pytest.approx(logits[image, caption].item(), abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_the_value_of_a_word_is_what_leaving_it_out_changes(folder, family, kind):
    """The same in a batch and alone, and that of transformers on the edited caption."""
    place = folder(family, kind)
    model = load_model(str(place), "cpu", "float32")
    chosen = [CAPTIONS[n] for n in (3, 5, 8, 11, 12, 24, 25, 28)]
    captions = model.tokenize(chosen)
    images = model.embed_images(torch.stack([pixels.values for pixels in pixels_of(model)]))
    columns = list(range(len(chosen)))
    values = LeftOut(model).values(images[[n % 3 for n in columns]], captions, chosen, columns)
    edited = [without(text, word) for text, words in zip(chosen, captions.words, strict=True) for word in words]
    cosines, _ = theirs(place, family, chosen + edited)
    at = len(chosen)
    for number, (text, words) in enumerate(zip(chosen, captions.words, strict=True)):
        alone = LeftOut(model).values(images[[number % 3]], model.tokenize([text]), [text], [0])[0]
        assert torch.equal(values[number], alone)
        expected = cosines[number % 3, number] - cosines[number % 3, at : at + len(words)]
        torch.testing.assert_close(values[number], expected, rtol=0, atol=1e-5)
        at += len(words)
    assert at > len(chosen) + 15


def test_every_depth_of_a_probe_model_is_another_network(folder):
    model = load_model(str(folder("siglip")), "cpu", "float32")
    values = torch.stack([pixels.values for pixels in pixels_of(model)])
    embeds = [model.embed_images(values)] + [
        model.randomised(depth, 0).embed_images(values) for depth in range(1, model.spec.layers + 1)
    ]
    for one, other in combinations(embeds, 2):
        assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("gradient", ["plain", "balanced", "balanced-norms"])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_evidence_equals_a_float64_oracle_with_autograd(folder, family, gradient):
    """Flow, loosened and gae of both towers from attention matrices and ds/da of transformers' own model."""
    place = folder(family)
    model = load_model(str(place), "cpu", "float32")
    captions = model.tokenize(["a photo of the cat", "a red dog on the grass"])
    pixels = pixels_of(model)
    capture = model.capture(pixels, captions, [(0, 0), (2, 1)], request(model.spec, gradient=gradient))
    for pair, (image, caption) in enumerate([(0, 0), (2, 1)]):
        mask = None if family == "siglip" else captions.mask[caption : caption + 1]
        with watched(place, family, gradient) as (raw, seen):
            given = pixels[image].values[None], captions.ids[caption : caption + 1], mask
            score, vision, text = one_pair(raw, seen, *given, lengths=gradient != "balanced-norms")
        assert capture.score[pair].item() == pytest.approx(score.item(), abs=1e-6)
        for tower, layers in ((capture.image, vision), (capture.text, text)):
            assert len(layers) == len(tower.numbers)
            keys = tower.places[pair][tower.places[pair] >= 0]
            relevance = torch.eye(layers[0]["a"].shape[-1], dtype=torch.float64)
            for number, layer in enumerate(layers):
                query = tower.queries[number]
                asks = range(layer["a"].shape[2]) if query is None else [int(query[pair])]
                a, grad = layer["a"][0].detach(), layer["grad"][0]
                flow = sum((a[h, j] * grad[h, j])[keys] for h in range(len(a)) for j in asks)
                close(ops.flow(tower, number)[pair, : len(keys)], flow)
                weight, evidence = ops.loosened(tower, number)
                expected = [loosened(layer, j, keys) for j in asks]
                close(weight[pair, : len(keys)], sum(w for w, _ in expected) / len(expected), 1e-4)
                close(evidence[pair, : len(keys)], sum(e for _, e in expected), 1e-4)
                step = (model.spec.scoring.scale * grad * a).clamp_min(0).mean(0) @ relevance
                relevance = step if len(step) == 1 else relevance + step
            row = relevance[0 if len(relevance) == 1 else int(tower.queries[-1][pair])]
            close(gae.relevance(tower, model.spec.scoring.scale)[pair, : len(keys)], row[keys], 1e-4)


def loosened(layer, row, keys):
    """Grad-ECLIP's lambda and evidence of one row: heads side by side, cosines and min-max by hand."""
    q, k = (layer[name][0].transpose(0, 1).flatten(1) for name in "qk")
    cosine = torch.stack([torch.cosine_similarity(q[min(row, len(q) - 1)], k[i], dim=0) for i in keys])
    spread = cosine.max() - cosine.min()
    weight = (cosine - cosine.min()) / spread if spread > 0 else torch.ones_like(cosine)
    return weight, weight * layer["grad"][0][:, row, keys].sum(0)


def close(mine, expected, rtol=1e-3):
    torch.testing.assert_close(
        mine.double(), expected.double(), rtol=rtol, atol=float(1e-5 * expected.abs().max() + 1e-12)
    )


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_alignment_is_each_patch_alone_through_what_follows_the_last_layer(folder, family):
    place = folder(family)
    model = load_model(str(place), "cpu", "float32")
    captions, pixels = model.tokenize(["a red dog"]), pixels_of(model)
    capture = model.capture(pixels[:1], captions, [(0, 0)], request(model.spec, hidden=True, alignment=True))
    raw = AutoModel.from_pretrained(place).double().eval()
    text = model.embed_texts(captions)[0].double()
    for number, hidden in enumerate(capture.hidden):
        for patch in (0, 7, 24):
            alone = raw.vision_model.post_layernorm(hidden[0, patch].double()[None, None])
            with torch.no_grad():
                point = raw.vision_model.head(alone) if family == "siglip" else raw.visual_projection(alone)
            expected = torch.cosine_similarity(point.flatten(), text, dim=0)
            assert capture.alignment[0, number, patch].item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "truth" not in method.needs])
def test_every_method_gives_a_batch_the_maps_of_singles(folder, family, name):
    model = load_model(str(folder(family)), "cpu", "float32")
    method = METHODS[name]
    params = method.params(**quick.PARAMS.get(name, {}))
    engine = Engine.build(model, method, params)
    captions, pixels = [CAPTIONS[n] for n in (1, 5, 21, 3, 22)], pixels_of(model)
    pairs = [(0, 0), (1, 1), (2, 2), (0, 3), (1, 4), (0, 1)]
    whole = maps_of(engine, pixels, captions, pairs)
    for pair, (image, caption) in enumerate(pairs):
        alone = maps_of(engine, [pixels[image]], [captions[caption]], [(0, 0)], seeds=[pair])
        quick.assert_alone(whole, pair, alone)
    assert whole["map"].flatten(1).std(1).max() > 0


def maps_of(engine, pixels, captions, pairs, seeds=None):
    tokens = engine.model.tokenize(captions)
    capture = engine.model.capture(pixels, tokens, pairs, engine.request)
    hints = {}
    if "seeds" in engine.method.needs:
        hints["seeds"] = tuple(seeds or range(len(pairs)))
    if "probe" in engine.method.needs:
        images, rows = torch.tensor(pairs).T
        hints["probe"] = CoverProbe(engine.model, torch.stack([p.values for p in pixels]), tokens, images, rows)
    return engine.method.explain(replace(capture, **hints), engine.params, engine.state).fields

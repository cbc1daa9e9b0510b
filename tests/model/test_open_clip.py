"""open_clip checkpoints give the numbers of a literal forward on their own tensors."""

import json
from dataclasses import replace

import numpy as np
import pytest
import quick
import torch
from open_clip_zoo import CAPTIONS, CONTEXT, configure, make_open_clip
from oracles.open_clip_forward import encode_image, encode_text, literal_pixels
from PIL import Image
from transformers import AutoTokenizer

from mmel_cli.attribution import METHODS, ops
from mmel_cli.model import Adapter, CaptureRequest, CoverProbe, load_model
from mmel_cli.pipelines.engine import Engine

SIZES = [(44, 61), (40, 43), (43, 40), (333, 40), (39, 100), (200, 200), (40, 47)]  # margins of 3 and 7 among them


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_open_clip(tmp_path_factory.mktemp("open_clip") / "model", quick=True)


@pytest.fixture(scope="module")
def model(made):
    return load_model(str(made[0]), "cpu", "float32")


def noise(width, height, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))


def ids_of(folder, caption):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer(caption, split_special_tokens=True, truncation=True, max_length=CONTEXT)["input_ids"]


def cosines(made, values, captions):
    """The oracle's, for each image and caption."""
    folder, tensors, config = made
    state = {name: tensor.double() for name, tensor in tensors.items()}
    images = torch.stack([encode_image(state, config, one)[0] for one in values])
    texts = torch.stack([encode_text(state, config, ids_of(folder, caption))[0] for caption in captions])
    return torch.nn.functional.normalize(images, dim=-1) @ torch.nn.functional.normalize(texts, dim=-1).T


def scores(adapter, pixels, captions):
    embeds = adapter.embed_images(torch.stack([one.values for one in pixels]))
    return embeds.double() @ adapter.embed_texts(adapter.tokenize(captions)).double().T


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_a_literal_resize_and_crop(tmp_path, mode, interpolation):
    folder = make_open_clip(tmp_path / "m")[0]
    config = configure(folder, "preprocess_cfg", resize_mode=mode, interpolation=interpolation)
    adapter = load_model(str(folder), "cpu", "float32")
    for size in SIZES:
        image = noise(*size)
        pixels = adapter.preprocess(image, "native")
        torch.testing.assert_close(pixels.values.double(), literal_pixels(image, config), rtol=0, atol=2e-6)


def test_the_box_is_where_the_crop_lies(model):
    """Where 43 pixels are cropped to 40, torchvision cuts 2 before them and 1 behind; floor would cut 1 and 2."""
    assert model.preprocess(noise(43, 40), "native").box == (2.0, 0.0, 42.0, 40.0)
    assert model.preprocess(noise(40, 47), "native").box == (0.0, 4.0, 40.0, 44.0)


@pytest.mark.parametrize(
    ("kind", "prefix", "bias", "quick"),
    [
        ("bytes", "", None, False),
        ("bytes", "text.", None, True),
        ("words", "", -2.5, True),
        ("pieces", "", None, True),
        ("pieces", "text.", None, False),
        ("unigram", "text.", -4.5, False),
    ],
)
def test_scores_are_those_of_the_literal_forward(tmp_path, kind, prefix, bias, quick):
    made = make_open_clip(tmp_path / "m", kind, quick=quick, prefix=prefix, bias=bias)
    adapter = load_model(str(made[0]), "cpu", "float32")
    assert isinstance(adapter, Adapter)
    assert adapter.spec.family == "open_clip"
    assert adapter.spec.max_tokens == CONTEXT - 2
    pictures = [noise(*size, seed=n) for n, size in enumerate(SIZES[:3])]
    captions = [text for text in CAPTIONS if kind != "unigram" or "<end_of_text>" not in text]  # one of its pieces
    expected = cosines(made, [literal_pixels(one, made[2]) for one in pictures], captions)
    mine = scores(adapter, [adapter.preprocess(one, "native") for one in pictures], captions)
    torch.testing.assert_close(mine, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.05
    scoring = adapter.spec.scoring
    assert scoring.scale == pytest.approx(np.exp(2.3))
    assert (scoring.kind, scoring.bias) == (("softmax", 0.0) if bias is None else ("sigmoid", bias))
    assert adapter.randomised(1, 0).spec == adapter.spec


def test_a_context_of_another_length_than_the_tokenizers_is_the_towers(tmp_path):
    """Its files say that it cuts at 7 tokens, or at 77: open_clip cuts at context_length."""
    made = make_open_clip(tmp_path / "m")
    picture = noise(44, 61)
    expected = cosines(made, [literal_pixels(picture, made[2])], CAPTIONS)
    for limit in (7, 77):
        path = made[0] / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": limit}))
        adapter = load_model(str(made[0]), "cpu", "float32")
        mine = scores(adapter, [adapter.preprocess(picture, "native")], CAPTIONS)
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-5)


def request(spec, **parts):
    return CaptureRequest(tuple(range(1, spec.layers + 1)), tuple(range(1, spec.text_layers + 1)), **parts)


def test_evidence_equals_autograd_through_the_literal_forward(made, model):
    """METHOD 2: q, k, v, o, ds/do, attention and its gradient of both towers, flow and its sum."""
    folder, tensors, config = made
    state = {name: tensor.double() for name, tensor in tensors.items()}
    texts = ["a photo of the cat", "\N{DOG FACE} a dog"]
    pixels = [model.preprocess(noise(44, 61, seed=n), "native") for n in range(2)]
    tokens = model.tokenize(texts)
    capture = model.capture(pixels, tokens, [(1, 0), (0, 1)], request(model.spec))
    for pair, (image, caption) in enumerate([(1, 0), (0, 1)]):
        seen = encode_image(state, config, pixels[image].values)
        words = encode_text(state, config, ids_of(folder, texts[caption]))
        score = torch.cosine_similarity(seen[0], words[0], dim=0)
        assert capture.score[pair].item() == pytest.approx(score.item(), abs=1e-6)
        for tower, layers, query in ((capture.image, seen[1], 0), (capture.text, words[1], words[2])):
            keys = tower.places[pair][tower.places[pair] >= 0]
            for number, layer in enumerate(layers):
                length = 26 if query == 0 else query + 1
                to_a = torch.stack(torch.autograd.grad(score, layer["a"], retain_graph=True))
                (to_o,) = torch.autograd.grad(score, layer["o"], retain_graph=True)
                for name in "qkvo":
                    close(getattr(tower, name)[number][pair, :length], layer[name].detach()[:length])
                close(tower.w[number][pair, :length], to_o[:length])
                attention = torch.stack([a.detach() for a in layer["a"]])
                close(
                    ops.attention(tower, number)[pair].reshape(len(attention), -1)[:, :length],
                    attention[:, query, :length],
                )
                close(
                    ops.attention_gradient(tower, number)[pair].reshape(len(attention), -1)[:, :length],
                    to_a[:, query, :length],
                )
                every = (attention * to_a)[:, query].sum(0)
                close(ops.flow(tower, number)[pair, : len(keys)], every[keys])
                assert every.sum().item() == pytest.approx((to_o[query] * layer["o"][query]).sum().item(), abs=1e-9)


def close(mine, expected):
    atol = float(1e-5 * expected.abs().max() + 1e-12)
    torch.testing.assert_close(mine.double(), expected.detach(), rtol=1e-3, atol=atol)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "truth" not in method.needs])
def test_every_method_gives_a_batch_the_maps_of_singles(model, name):
    method = METHODS[name]
    params = method.params(**quick.PARAMS.get(name, {}))
    engine = Engine.build(model, method, params)
    captions = [CAPTIONS[n] for n in (1, 5, 21, 3, 22)]
    pixels = [model.preprocess(noise(*size, seed=n), "native") for n, size in enumerate(SIZES[:3])]
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

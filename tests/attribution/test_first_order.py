"""First-order peers against their papers, written out in float64 on transformers' own model, on every architecture."""

import numpy as np
import pytest
import torch
from open_clip_zoo import make_open_clip
from oracles import first_order as paper
from oracles.watched import watched
from PIL import Image
from zoo import ARCHITECTURES, make_model

from mmel_cli.attribution import METHODS
from mmel_cli.model import load_model
from mmel_cli.pipelines.engine import Engine

CAPTIONS = ["a photo of the cat", "a red dog on the grass", "blue"]
PAIRS = [(0, 1), (1, 0), (1, 2), (0, 0), (2, 1)]
FAMILIES = [*ARCHITECTURES, "open_clip"]
GRADIENTS = ["plain", "balanced", "balanced-norms"]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    made = {}

    def load(family):
        if family not in made:
            folder = tmp_path_factory.mktemp(family) / "model"
            make_open_clip(folder) if family == "open_clip" else make_model(folder, family)
            made[family] = folder, load_model(str(folder), "cpu", "float32")
        return made[family]

    return load


def pixels_of(model):
    rng = np.random.default_rng(9)
    images = [Image.fromarray(rng.integers(0, 255, (50 + 3 * n, 45, 3), dtype=np.uint8)) for n in range(3)]
    return [model.preprocess(image, "native") for image in images]


def maps_of(model, name, **params):
    """Fields of PAIRS in one batch: image 0 and 1 and captions 0 and 1 are in several pairs."""
    engine = Engine.build(model, METHODS[name], METHODS[name].params(**params))
    capture = model.capture(pixels_of(model), model.tokenize(CAPTIONS), PAIRS, engine.request)
    return engine.method.explain(capture, engine.params, engine.state).fields


def each_pair(loaded, family, gradient="plain"):
    """Number, and the pair as a literal model sees it, of two pairs that share an image with others."""
    folder, model = loaded(family)
    kind, raw = ("clip", model._model) if family == "open_clip" else (family, None)
    captions, pixels = model.tokenize(CAPTIONS), pixels_of(model)
    for number in (1, 3):
        image, row = PAIRS[number]
        with watched(folder, kind, gradient, raw) as (literal, seen):
            values = pixels[image].values[None]
            yield number, paper.Pair(literal, seen, kind, values, captions, row, gradient), captions, row


def close(mine, expected, rtol=1e-4):
    expected = expected.detach()
    assert expected.std() > 0
    torch.testing.assert_close(
        mine.flatten().double(), expected, rtol=rtol, atol=float(1e-5 * expected.abs().max() + 1e-12)
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_and_rollout_of_both_towers(loaded, family):
    model = loaded(family)[1]
    raw, rolled = maps_of(model, "attention"), maps_of(model, "rollout")
    for number, pair, captions, row in each_pair(loaded, family):
        keys = captions.places[row][captions.places[row] >= 0]
        query = int(captions.query[row])
        close(raw["map"][number], paper.attention(pair.vision[-1], 0)[pair.patches])
        close(raw["tokens/map"][number, : len(keys)], paper.attention(pair.reading[-1], query)[keys])
        close(rolled["map"][number], paper.rollout(pair.vision, 0)[pair.patches])
        close(rolled["tokens/map"][number, : len(keys)], paper.rollout(pair.reading, query)[keys])
        assert not rolled["tokens/map"][number, len(keys) :].any()


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_legrad_and_grad_cam_by_autograd(loaded, family, gradient):
    model = loaded(family)[1]
    local, channels = (maps_of(model, name, gradient=gradient)["map"] for name in ("legrad", "grad-cam"))
    for number, pair, _, _ in each_pair(loaded, family, gradient):
        close(channels[number], paper.grad_cam(pair), 1e-3)
        close(local[number], paper.legrad(pair), 1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_legrad_of_the_pooling_layer_is_that_of_the_last_encoder_layer(loaded, family):
    model = loaded(family)[1]
    total = sum(maps_of(model, "legrad", layers=(number,))["map"] for number in (1, 2, 3))
    close(maps_of(model, "legrad")["map"], total.double().flatten())
    if family == "siglip":
        close(
            maps_of(model, "legrad", layers="last")["map"],
            maps_of(model, "legrad", layers=(3,))["map"].flatten().double(),
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_eigen_cam_is_the_first_component_whose_farthest_patch_is_positive(loaded, family):
    mine = maps_of(loaded(family)[1], "eigen-cam")["map"]
    for number, pair, _, _ in each_pair(loaded, family):
        close(mine[number], paper.eigen_cam(pair), 1e-3)
    close(mine[0], mine[3].flatten().double())  # the same image with two captions


@pytest.mark.parametrize("family", FAMILIES)
def test_mask_clip_is_each_patch_by_its_own_values(loaded, family):
    model = loaded(family)[1]
    last, second = maps_of(model, "mask-clip")["map"], maps_of(model, "mask-clip", layers=(2,))["map"]
    both = maps_of(model, "mask-clip", layers=2)["map"]
    for number, pair, _, _ in each_pair(loaded, family):
        count = len(pair.x)
        close(last[number], paper.mask_clip(pair, count - 1))
        close(second[number], paper.mask_clip(pair, 1))
        close(both[number], (paper.mask_clip(pair, count - 1) + paper.mask_clip(pair, count - 2)) / 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_clip_surgery_is_a_second_path_less_the_empty_text(loaded, family):
    model = loaded(family)[1]
    whole, last = maps_of(model, "clip-surgery")["map"], maps_of(model, "clip-surgery", layers=2)["map"]
    for number, pair, _, _ in each_pair(loaded, family):
        empty = pair.read(model.tokenize([""]), 0)
        close(whole[number], paper.clip_surgery(pair, 0, empty))
        close(last[number], paper.clip_surgery(pair, len(pair.x) - 2, empty))


@pytest.mark.parametrize(
    "name", ["attention", "rollout", "legrad", "grad-cam", "eigen-cam", "mask-clip", "clip-surgery"]
)
def test_hooks_go_and_only_what_has_a_backward_makes_one(loaded, name, monkeypatch):
    model = loaded("siglip")[1]
    calls, grad = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **more: calls.append(args) or grad(*args, **more))
    maps_of(model, name)
    # the closed form of the cosine is the only gradient that is always made
    assert (len(calls) > 1) == (METHODS[name].params is not None and hasattr(METHODS[name].params(), "gradient"))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model._model.modules())

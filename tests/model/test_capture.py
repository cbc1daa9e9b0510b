"""What a capture holds equals a literal forward and autograd at eager attention; batches equal singles."""

import contextlib

import numpy as np
import pytest
import torch
from oracles.clip_forward import encode_image, encode_text
from PIL import Image
from tiny_clip import make_tiny
from torch import nn
from transformers import CLIPModel

from mmel_cli.attribution import METHODS, Target, ops
from mmel_cli.attribution.base import OF_MODEL
from mmel_cli.errors import ModelError, UsageError
from mmel_cli.model import CaptureRequest, load_model
from mmel_cli.model.capture import AttentionLayer, read_at_first_token, record
from mmel_cli.tensors import Pixels

ALL = CaptureRequest((1, 2, 3, 4), (1, 2, 3), hidden=True, alignment=True)
CAPTIONS = ["a red dog", "blue cat on the grass", "photo"]


def images(count, seed=0):
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)) for _ in range(count)]


@pytest.fixture(scope="module")
def model(tiny):
    return load_model(str(tiny), "cpu", "float32")


@pytest.fixture(scope="module")
def raw(tiny):
    return CLIPModel.from_pretrained(tiny).eval()


def capture(model, pairs, request=ALL, count=3):
    pixels = [model.preprocess(image, "native") for image in images(count)]
    return pixels, model.tokenize(CAPTIONS), model.capture(pixels, model.tokenize(CAPTIONS), pairs, request)


def test_capture_equals_a_literal_forward_with_autograd(model, raw):
    pixels, words, found = capture(model, [(0, 1), (2, 0)])
    for p, (i, c) in enumerate([(0, 1), (2, 0)]):
        image, seen = encode_image(raw, pixels[i].values)
        text, read = encode_text(raw, words.ids[c, : words.query[c] + 1], int(words.query[c]))
        score = torch.cosine_similarity(image, text, dim=0)
        assert found.score[p].item() == pytest.approx(score.item(), abs=1e-6)
        unit = (image / image.norm()).detach()
        torch.testing.assert_close(found.image_embeds[p].double(), unit, rtol=1e-4, atol=1e-6)
        for tower, layers, length in ((found.image, seen, 17), (found.text, read, int(words.query[c]) + 1)):
            wanted = [layer[name] for layer in layers for name in ("o",)]
            gradients = torch.autograd.grad(score, wanted, retain_graph=True)
            for number, (layer, gradient) in enumerate(zip(layers, gradients, strict=True)):
                for name in "qkvo":
                    torch.testing.assert_close(
                        getattr(tower, name)[number][p, :length].double(), layer[name].detach(), rtol=1e-4, atol=1e-5
                    )
                torch.testing.assert_close(tower.w[number][p, :length].double(), gradient, rtol=1e-3, atol=1e-6)
        for number, layer in enumerate(seen):
            torch.testing.assert_close(found.hidden[number][p].double(), layer["x"][1:].detach(), rtol=1e-4, atol=1e-5)


def test_wv_is_the_gradient_at_attention_and_flow_sums_to_wo(model, raw):
    """METHOD 2's identities, for both towers."""
    pixels, words, found = capture(model, [(1, 1)])
    image, seen = encode_image(raw, pixels[1].values)
    text, read = encode_text(raw, words.ids[1, : words.query[1] + 1], int(words.query[1]))
    score = torch.cosine_similarity(image, text, dim=0)
    for tower, layers, query in ((found.image, seen, 0), (found.text, read, int(words.query[1]))):
        for number, layer in enumerate(layers):
            gradient = torch.stack(torch.autograd.grad(score, layer["a"], retain_graph=True))[:, query]
            length = gradient.shape[-1]
            mine = ops.attention_gradient(tower, number)[0, :, 0, :length].double()
            torch.testing.assert_close(mine, gradient, rtol=1e-3, atol=1e-6)
            exact = torch.stack([a[query] for a in layer["a"]]).detach()
            torch.testing.assert_close(
                ops.attention(tower, number)[0, :, 0, :length].double(), exact, rtol=1e-4, atol=1e-6
            )
            total = (ops.rows(tower.w[number], tower, number) * ops.rows(tower.o[number], tower, number)).sum((1, 2))
            every = (ops.attention(tower, number) * ops.attention_gradient(tower, number)).sum((1, 2))
            torch.testing.assert_close(every.sum(-1), total, rtol=1e-4, atol=1e-7)
            assert torch.equal(ops.flow(tower, number), tower.gather(every))


@pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if not method.needs & {"seeds", "truth", "probe"}]
)
def test_a_batch_with_shared_images_and_captions_equals_singles(model, name):
    method = METHODS[name]
    params = method.params()
    state = method.prepare(params, Target("m", "s", (1, 2, 3, 4)))
    pairs = [(0, 0), (0, 1), (1, 1), (2, 1), (0, 2), (2, 1)]
    every = {part: True for part in OF_MODEL if part != "one_head"}  # no part is in the way of another
    request = CaptureRequest((1, 2, 3, 4), (1, 2, 3), **every)
    _, _, together = capture(model, pairs, request)
    batch = method.explain(together, params, state)
    for p, pair in enumerate(pairs):
        single = method.explain(capture(model, [pair], request)[2], params, state)
        keys = together.text.keys[p]
        assert single.map.abs().max() > 0
        for kind, maps in single.fields.items():
            mine, alone = batch.fields[kind][p], maps[0]
            if kind == "tokens/map":
                mine, alone = mine[keys], alone[keys]
            if kind == "words/map":  # as many as the caption with the most words has
                mine = mine[: len(alone)]
            assert (mine - alone).abs().max() <= 1e-5 * maps.abs().max(), kind


def test_each_image_and_caption_is_encoded_once(model, monkeypatch):
    seen = []
    for name in ("get_image_features", "get_text_features"):
        real = getattr(model._model, name)
        monkeypatch.setattr(
            model._model,
            name,
            lambda *a, _real=real, _n=name, **k: (seen.append((_n, len(next(iter(k.values()))))), _real(*a, **k))[1],
        )
    capture(model, [(0, 0), (0, 1), (1, 1), (2, 1), (0, 2)])
    assert sorted(seen) == [("get_image_features", 3), ("get_text_features", 3)]


def test_hooks_are_gone_and_weights_untouched(model):
    before = {name: value.clone() for name, value in model._model.state_dict().items()}
    capture(model, [(0, 0)])
    blocks = model._model.vision_model.encoder.layers
    with pytest.raises(RuntimeError, match="on purpose"), record([AttentionLayer.of(block) for block in blocks]):
        raise RuntimeError("on purpose")
    for module in model._model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for name, value in model._model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None and not p.requires_grad for p in model._model.parameters())


def test_one_head_is_undone_after_a_capture(model):
    plain = capture(model, [(0, 0)])[2].score
    capture(model, [(0, 0)], CaptureRequest((4,), (2, 3), one_head=True))
    assert torch.equal(capture(model, [(0, 0)])[2].score, plain)


def test_the_graph_starts_at_the_first_explained_layer(model):
    with record([AttentionLayer.of(model._model.vision_model.encoder.layers[2])]) as seen:
        model._model.get_image_features(pixel_values=torch.zeros(1, 3, 32, 32))
    assert seen.o[0].is_leaf
    assert seen.o[0].requires_grad


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_maps_agree_with_float32(tiny, dtype):
    method = METHODS["flow"]
    pairs = [(0, 0), (1, 1), (2, 0)]
    maps = []
    for name in ("float32", dtype):
        found = capture(load_model(str(tiny), "cpu", name), pairs, CaptureRequest((1, 2, 3, 4), (1, 2, 3)))[2]
        maps.append(method.explain(found, method.params(), None).map.flatten(1))
    for one, other in zip(*maps, strict=True):
        assert torch.corrcoef(torch.stack([one, other]))[0, 1] > 0.97


def test_legacy_eos_id_pools_the_highest_id(tmp_path):
    model = load_model(str(make_tiny(tmp_path / "m", legacy_eos=True)), "cpu", "float32")
    words = model.tokenize(["a red dog", "cat"])
    assert words.query.tolist() == [4, 2]
    assert words.tokens[0] == ("a", "red", "dog")


def test_a_tokenizer_without_eos_is_refused(tiny, monkeypatch):
    model = load_model(str(tiny), "cpu", "float32")
    monkeypatch.setattr(
        "mmel_cli.model.text.pooled_position", lambda ids, _end: torch.zeros(len(ids), dtype=torch.long)
    )
    with pytest.raises(ModelError, match="no end token"):
        model.tokenize(["a red dog"])


def test_a_long_caption_is_cut_and_says_so(model):
    words = model.tokenize(["a red dog " * 10, "a red dog"])
    assert words.truncated.tolist() == [True, False]
    assert len(words.tokens[0]) == 14 == model.spec.max_tokens


def test_sha256_depends_on_the_weights_alone(tiny, tmp_path):
    same = load_model(str(tiny), "cpu", "bfloat16").spec.sha256
    assert load_model(str(tiny), "cpu", "float32").spec.sha256 == same
    assert load_model(str(make_tiny(tmp_path / "m", seed=1)), "cpu", "float32").spec.sha256 != same


@pytest.mark.parametrize(
    ("name", "device", "dtype", "error", "says"),
    [
        ("no/such-model-anywhere", "cpu", "auto", ModelError, "builtin"),
        ("{tiny}/..", "cpu", "auto", ModelError, "config.json"),
        ("{tiny}", "cuda:99", "auto", UsageError, "--device cpu"),
        ("{tiny}", "tpu", "auto", UsageError, "auto, cpu, cuda"),
        ("{tiny}", "cpu", "float8", UsageError, "bfloat16"),
    ],
)
def test_what_cannot_be_loaded_is_one_line_that_says_what_to_do(tiny, name, device, dtype, error, says):
    with pytest.raises(error, match=says) as caught:
        load_model(name.format(tiny=tiny), device, dtype)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fails", [False, True])
def test_a_module_that_is_read_at_the_first_token_has_all_its_values_and_that_gradient(fails):
    module = nn.Sequential(nn.Linear(6, 11), nn.GELU(), nn.Linear(11, 6))
    x = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(2), requires_grad=True)
    plain = module(x)
    (wanted,) = torch.autograd.grad(plain[:, 0].sin().sum(), x)
    with contextlib.suppress(ZeroDivisionError), read_at_first_token(module):
        read = module(x)
        with torch.no_grad():
            assert torch.equal(module(x), plain)
        if fails:
            raise ZeroDivisionError
    assert "forward" not in vars(module)
    assert torch.equal(read, plain)
    for _ in range(2):  # another backward may follow
        (gradient,) = torch.autograd.grad(read[:, 0].sin().sum(), x, retain_graph=True)
        torch.testing.assert_close(gradient, wanted)
    assert gradient[:, 0].abs().min() > 0
    assert not gradient[:, 1:].any()


def test_pairs_in_order_and_out_of_it_are_captured_alike(model):
    """Nothing is laid out anew where pairs are images and captions as they come."""
    captions = model.tokenize(["a red dog", "the cat on the grass", "a photo"])
    values = torch.randn(3, 3, *model.spec.image_size, generator=torch.Generator().manual_seed(3))
    pixels = [Pixels(one, (0.0, 0.0, 1.0, 1.0)) for one in values]
    layers = tuple(range(1, model.spec.layers + 1))
    request = CaptureRequest(layers, (1, 2, 3), hidden=True, alignment=True, entering=True, gradient="balanced")
    straight = model.capture(pixels, captions, [(0, 0), (1, 1), (2, 2)], request)
    turned = model.capture(pixels, captions, [(2, 2), (0, 0), (1, 1)], request)
    back = [1, 2, 0]
    assert torch.equal(straight.score, turned.score[back])
    torch.testing.assert_close(straight.alignment, turned.alignment[back])
    for side in ("image", "text"):
        for name in ("q", "k", "v", "o", "w"):
            for one, other in zip(*(getattr(getattr(c, side), name) for c in (straight, turned)), strict=True):
                assert one.is_contiguous()
                torch.testing.assert_close(one, other[back], rtol=1e-5, atol=1e-6)
    for one, other in zip(straight.hidden, turned.hidden, strict=True):
        assert torch.equal(one, other[back])
    for one, other in zip(straight.entering, turned.entering, strict=True):
        torch.testing.assert_close(one.gradient, other.gradient[back], rtol=1e-5, atol=1e-6)

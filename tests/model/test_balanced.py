"""Balanced gradients (METHOD 2): the score stays, the tower becomes linear in its values, and no hook is left."""

import copy

import pytest
import torch
from torch import nn
from zoo import ARCHITECTURES, make_model

from mmel_cli.errors import ModelError
from mmel_cli.model import CaptureRequest, load_model
from mmel_cli.model.balanced import balanced
from mmel_cli.model.capture import AttentionLayer

GRADIENTS = ["plain", "balanced", "balanced-norms"]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request, tmp_path_factory):
    return load_model(str(make_model(tmp_path_factory.mktemp(request.param), request.param, "bytes")), "cpu", "float32")


def values_of(model, count=3):
    return torch.randn(count, 3, *model.spec.image_size, generator=torch.Generator().manual_seed(5))


def hooks_of(module):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def test_scores_stay_to_the_bit_and_hooks_go(model):
    captions = model.tokenize(["a red dog", "the cat on the grass"])
    pixels = [model.preprocess(picture, "native") for picture in pictures()]
    every = tuple(range(1, model.spec.layers + 1)), tuple(range(1, model.spec.text_layers + 1))
    pairs = [(0, 0), (1, 1), (0, 1)]
    captures = {
        name: model.capture(pixels, captions, pairs, CaptureRequest(*every, gradient=name)) for name in GRADIENTS
    }
    again = model.capture(pixels, captions, pairs, CaptureRequest(*every))
    for name in GRADIENTS:
        assert torch.equal(captures[name].score, again.score), name
        assert torch.equal(captures[name].image_embeds, again.image_embeds), name
    for side in ("image", "text"):
        first = {name: getattr(captures[name], side).w[0] for name in GRADIENTS}
        assert torch.equal(first["plain"], getattr(again, side).w[0])
        for one, other in (("plain", "balanced"), ("balanced", "balanced-norms")):
            assert (first[one] - first[other]).abs().max() > 1e-4 * first[one].abs().max(), (side, one, other)
    assert hooks_of(model._model) == 0
    assert not any("forward" in vars(part) for part in model._model.modules())


def test_the_gate_of_quick_gelu_is_that_which_its_output_has(tmp_path):
    model = load_model(str(make_model(tmp_path, "clip", "bytes")), "cpu", "float32")._model
    tower = model.vision_model
    act = tower.encoder.layers[0].mlp.activation_fn
    x = torch.arange(-10.0, 11.0, requires_grad=True)  # with 0, where y / x is none
    plain = act(x)
    with balanced("balanced", tower, [AttentionLayer.of(block) for block in tower.encoder.layers]):
        y = act(x)
    assert torch.equal(y, plain)
    (gate,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gate * x, plain.detach())
    assert gate[10] == 0.5


def pictures():
    from PIL import Image

    return [Image.new("RGB", (50, 44), colour) for colour in ("red", "blue")]


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_with_all_rules_input_times_gradient_and_biases_is_the_score(model, gradient):
    """Everything that is added on the way is counted: biases, position embeddings, class token, probe's values."""
    model = randomly_biased(model)
    raw = model._model
    text = model.embed_texts(model.tokenize(["a red dog"]))
    values = values_of(model, 1).requires_grad_()
    added = {name: part for name, part in raw.vision_model.named_parameters() if is_added(name, part)}
    for part in added.values():
        part.requires_grad_()
    try:
        score = (model.embed_images(values, graph=True, gradient=gradient) * text).sum()
        grads = torch.autograd.grad(score, [values, *added.values()], allow_unused=True)
    finally:
        for part in added.values():
            part.requires_grad_(requires_grad=False)
    both = zip((values, *added.values()), grads, strict=True)
    terms = [of_values(part * grad, part.shape, model).sum() for part, grad in both if grad is not None]
    gap = abs(float((sum(terms) - score).detach()))
    assert (gap < 5e-6) == (gradient == "balanced-norms"), gap


def of_values(product, shape, model):
    """Of the packed bias of queries, keys and values in a probe's attention, the part of the values."""
    packed = shape == (3 * model._model.vision_model.config.hidden_size,)
    return product.chunk(3)[2] if packed else product


def randomly_biased(model):
    """A copy whose biases are not 0, as those of a new model are."""
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(3)
    for name, part in model._model.vision_model.named_parameters():
        if name.endswith("bias"):
            part.data.copy_(0.3 * torch.randn(part.shape, generator=generator))
    return model


def is_added(name, part):
    """What is added to activations and does not multiply them; queries and keys are constants with their biases."""
    if name.endswith(("q_proj.bias", "k_proj.bias")):
        return False
    return name.endswith(("bias", "class_embedding", "position_embedding.weight"))


def test_the_graph_of_queries_and_keys_is_not_built(model):
    attention = next(part for name, part in model._model.vision_model.named_modules() if name.endswith("self_attn"))
    seen = []
    for part in (attention.q_proj, attention.k_proj, attention.v_proj):
        part.register_forward_hook(lambda _module, _inputs, output: seen.append(output.requires_grad))
    try:
        model.embed_images(values_of(model).requires_grad_(), graph=True, gradient="balanced")
    finally:
        for part in (attention.q_proj, attention.k_proj, attention.v_proj):
            part._forward_hooks.clear()
    assert seen == [False, False, True]


def test_attention_that_is_recomputed_in_parts_goes_backwards_alike(model, monkeypatch):
    """Parts of one image each, whose matrices do not fit together."""
    captions = model.tokenize(["a red dog", "the cat on the grass"])
    pixels = [model.preprocess(picture, "native") for picture in pictures()]
    request = CaptureRequest((1, 2), (1, 2), gradient="balanced")
    whole = model.capture(pixels, captions, [(0, 0), (1, 1)], request)
    monkeypatch.setattr("mmel_cli.model.balanced._ATTENTION_NUMBERS", 1)
    parts = model.capture(pixels, captions, [(0, 0), (1, 1)], request)
    for side in ("image", "text"):
        for one, other in zip(getattr(whole, side).w, getattr(parts, side).w, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=float(1e-6 * one.abs().max()))


def test_hooks_go_after_an_exception_too(model):
    tower = model._model.vision_model
    layers = [AttentionLayer.of(block) for block in tower.encoder.layers]

    def fail():
        with balanced("balanced-norms", tower, layers):
            assert hooks_of(tower) > 0
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert hooks_of(tower) == 0


def test_a_layer_without_an_activation_that_is_known_is_refused(model):
    block = model._model.vision_model.encoder.layers[0]
    attention = AttentionLayer.of(block)
    bare = AttentionLayer(nn.Linear(2, 2), attention.q, attention.k, attention.v, attention.out)
    refused = pytest.raises(ModelError, match=r"Linear has no activation that is known; use method\.gradient=plain")
    with refused, balanced("balanced", nn.Linear(2, 2), [bare]):
        pass


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["gelu", "quick_gelu", "gelu_pytorch_tanh", "relu", "silu"])
def test_the_gate_of_an_activation_is_its_value_over_its_input(name, dtype):
    from transformers.activations import ACT2FN

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.activation_fn = ACT2FN[name]

    block = Block()
    x = torch.tensor([-3.0, -0.5, 0.0, 1e-6, 2.0, 7.0], dtype=dtype, requires_grad=True)
    layer = AttentionLayer(block, *[nn.Identity() for _ in range(4)])
    with balanced("balanced", block, [layer]):
        y = block.activation_fn(x)
    (gate,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(y.detach(), block.activation_fn(x.detach()))
    assert gate.isfinite().all()
    atol = 1e-6 if dtype is torch.float32 else 1e-2
    torch.testing.assert_close(gate * x, y, rtol=0, atol=atol)
    if name != "relu":
        assert gate[2].item() == pytest.approx(0.5, abs=1e-2)

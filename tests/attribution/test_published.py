"""`heads: single` equals the published Grad-ECLIP, from its formula; `multi` equals it on the model as it runs."""

import numpy as np
import pytest
import torch
from oracles.clip_forward import Literal, encode_image, encode_text
from PIL import Image
from tiny_clip import make_tiny
from transformers import CLIPModel

from mmel_cli.attribution import METHODS, resolve_layers
from mmel_cli.attribution.grad_eclip import Params
from mmel_cli.errors import UsageError
from mmel_cli.model import CaptureRequest, load_model


def published_image_map(raw, pixels, ids, end, *, single):
    """The paper's formula, ReLU(lambda_i sum_c w_c v_ic); q and k go through the output projection if single."""
    last = raw.config.vision_config.num_hidden_layers - 1
    image, layers = encode_image(raw, pixels, one_head=(last,) if single else ())
    text, _ = encode_text(raw, ids, end)
    score = torch.cosine_similarity(image, text, dim=0)
    return eclip(Literal(raw, "vision_model"), layers[last], last, score, 0, slice(1, None), single=single), score


def published_token_map(raw, pixels, ids, end, *, single):
    """The same for EOS, summed over all text layers.

    Published is the context full of tokens (padded with 0, nothing masked), and lambda's min-max over all of them.
    """
    count = raw.config.text_config.num_hidden_layers
    if single:
        ids = torch.nn.functional.pad(ids, (0, raw.config.text_config.max_position_embeddings - len(ids)))
    text, layers = encode_text(raw, ids, end, one_head=range(count) if single else ())
    image, _ = encode_image(raw, pixels)
    score = torch.cosine_similarity(image, text, dim=0)
    tower, keys = Literal(raw, "text_model"), slice(None) if single else slice(1, end)
    parts = [eclip(tower, layers[n], n, score, end, keys, single=single, relu=False) for n in range(count)]
    found = sum(parts).clamp_min(0)
    return found[1:end] if single else found


def eclip(tower, layer, number, score, query, keys, *, single, relu=True):
    gradient = torch.autograd.grad(score, layer["o"], retain_graph=True)[0][query]
    q, k = layer["q"][query], layer["k"][keys]
    if single:
        q, k = (tower.linear(x, f"encoder.layers.{number}.self_attn.out_proj") for x in (q, k))
    cosine = torch.stack([torch.dot(q, row) / (q.norm() * row.norm()) for row in k]).detach()
    loosened = (cosine - cosine.min()) / (cosine.max() - cosine.min())
    found = torch.stack([loosened[i] * torch.dot(gradient, row) for i, row in enumerate(layer["v"][keys])])
    return found.clamp_min(0) if relu else found


CAPTIONS = ["a red dog on the grass", "blue cat", "a photo of a blue cat on the red grass, the dog"]


@pytest.mark.parametrize("heads", ["single", "multi"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_grad_eclip_equals_the_paper(tmp_path, heads, seed):
    """Of each caption by itself and in a batch that pads it."""
    folder = make_tiny(tmp_path / "m", seed=seed, side=48)
    model, raw = load_model(str(folder), "cpu", "float32"), CLIPModel.from_pretrained(folder).eval()
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (48, 48, 3), dtype=np.uint8))
    pixels, batch = model.preprocess(image, "native"), model.tokenize(CAPTIONS)
    single = heads == "single"
    request = CaptureRequest((4,), (1, 2, 3), one_head=single)
    together = model.capture([pixels], batch, [(0, 0), (0, 1), (0, 2)], request)
    for number, caption in enumerate(CAPTIONS):
        alone = model.tokenize([caption])
        end = int(alone.query[0])
        expected, score = published_image_map(raw, pixels.values, alone.ids[0], end, single=single)
        tokens = published_token_map(raw, pixels.values, alone.ids[0], end, single=single)
        captures = ((together, number), (model.capture([pixels], alone, [(0, 0)], request), 0))
        for capture, row in captures:
            found = METHODS["grad-eclip"].explain(capture, Params(heads=heads), None)
            mine = found.map[row].flatten().double()
            assert (mine - expected).abs().max() <= 1e-4 * expected.abs().max()
            read = found.fields["tokens/map"][row]
            assert (read[: end - 1].double() - tokens).abs().max() <= 1e-4 * tokens.abs().max()
            assert not read[end - 1 :].any()
            assert capture.score[row].item() == pytest.approx(score.item(), abs=1e-6)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [("all", (1, 2, 3, 4)), ("last", (4,)), (2, (3, 4)), (9, (1, 2, 3, 4)), ((2, -1), (2, 4)), ((-4,), (1,))],
)
def test_layers_are_resolved(layers, expected):
    assert resolve_layers(layers, 4) == expected


@pytest.mark.parametrize("layers", ["first", 0, -1, (0,), (5,), (-5,), ()])
def test_wrong_layers_are_refused_by_name(layers):
    with pytest.raises(UsageError, match=r"method\.layers"):
        resolve_layers(layers, 4)

"""The peers against loops over their papers' equations: GAE by autograd at eager attention, RISE mask by mask."""

import numpy as np
import pytest
import torch
from oracles.clip_forward import encode_image, encode_text
from PIL import Image
from transformers import CLIPModel

from mmel_cli import explain, load_archive, load_config
from mmel_cli.attribution import METHODS, Target, rise
from mmel_cli.model import CaptureRequest, CoverProbe, load_model

CAPTIONS = ["a red dog", "two blue cats"]


@pytest.fixture(scope="module")
def loaded(tiny):
    model = load_model(str(tiny), "cpu", "float32")
    noise = np.random.default_rng(1).integers(0, 255, (2, 40, 40, 3), dtype=np.uint8)
    return model, [model.preprocess(Image.fromarray(image), "native") for image in noise], model.tokenize(CAPTIONS)


def test_gae_equals_the_published_propagation(tiny, loaded):
    model, pixels, words = loaded
    request = CaptureRequest((1, 2, 3, 4), (1, 2, 3))
    capture = model.capture(pixels, words, [(0, 1), (1, 0)], request)
    method = METHODS["gae"]
    state = method.prepare(method.params(), Target("m", "s", (1, 2, 3, 4), model.spec.scoring))
    found = method.explain(capture, method.params(), state)
    raw = CLIPModel.from_pretrained(tiny, attn_implementation="eager").double()
    end = int(words.query[1])
    image, seen = encode_image(raw, pixels[0].values)
    text, read = encode_text(raw, words.ids[1, : end + 1], end)
    logit = raw.logit_scale.exp() * torch.cosine_similarity(image, text, dim=0)
    for layers, query, mine in (
        (seen, 0, found.map[0].flatten()),
        (read, end, found.fields["tokens/map"][0, : end - 1]),
    ):
        total = torch.eye(len(layers[0]["a"][0]), dtype=torch.float64)
        for layer in layers:
            attention = torch.stack([a.detach() for a in layer["a"]])
            gradient = torch.stack(torch.autograd.grad(logit, layer["a"], retain_graph=True))
            total = total + (gradient * attention).clamp_min(0).mean(0) @ total
        wanted = total[query, 1:] if query == 0 else total[query, 1:end]
        torch.testing.assert_close(mine.double(), wanted.detach(), rtol=1e-3, atol=1e-6)
        assert wanted.std() > 0


def test_rise_equals_a_loop_over_masks_and_batches_do_not_matter(loaded):
    model, pixels, words = loaded
    params = rise.Params(masks=70, cells=3)
    pairs = torch.tensor([0, 1, 1]), torch.tensor([1, 0, 1])
    capture = model.capture(pixels, words, [(0, 1), (1, 0), (1, 1)], CaptureRequest((4,), (3,)))
    probe = CoverProbe(model, torch.stack([p.values for p in pixels]), words, *pairs)
    found = rise.explain(type(capture)(**vars(capture) | {"probe": probe}), params, None)
    texts = model.embed_texts(words)
    height, width = model.spec.image_size
    for pair, (row, column) in enumerate(zip(*(index.tolist() for index in pairs), strict=True)):
        total, kept = torch.zeros(height, width), 0
        for mask in torch.cat(list(rise.random_masks(params, (height, width)))):
            assert 0 <= mask.min() <= mask.max() <= 1 + 1e-6
            score = model.embed_images((pixels[row].values * mask)[None])[0] @ texts[column]
            total += score * mask
            kept += 1
        assert kept == 70
        rows, columns = model.spec.grid
        patches = total.view(rows, height // rows, columns, width // columns).mean((1, 3)) / (70 * 0.5)
        torch.testing.assert_close(found.map[pair], patches, rtol=1e-4, atol=1e-6)


def test_rise_masks_are_reproducible_and_keep_the_asked_part():
    params = rise.Params(masks=400, cells=5, keep=0.3)
    first, again = (torch.cat(list(rise.random_masks(params, (32, 40)))) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (400, 32, 40)
    assert abs(first.mean() - 0.3) < 0.02
    other = torch.cat(list(rise.random_masks(rise.Params(masks=400, cells=5, seed=1), (32, 40))))
    assert not torch.equal(first, other)


def test_tokens_of_rise_follow_the_score(loaded):
    model, pixels, words = loaded
    capture = model.capture(pixels[:1], words, [(0, 1)], CaptureRequest((4,), (3,)))
    probe = CoverProbe(model, pixels[0].values[None], words, torch.tensor([0]), torch.tensor([1]))
    found = rise.explain(type(capture)(**vars(capture) | {"probe": probe}), rise.Params(masks=2000), None)
    count = int(capture.text.keys[0].sum())
    every = torch.cartesian_prod(*[torch.tensor([False, True])] * count)
    scores = probe.covered_tokens(0, every)
    wanted = torch.stack([scores[every[:, token]].mean() for token in range(count)])  # the limit of many masks
    torch.testing.assert_close(found.fields["tokens/map"][0, :count], wanted, rtol=0, atol=0.03)


@pytest.mark.parametrize("method", ["gae", "rise"])
def test_peers_run_end_to_end(photos, tiny, tmp_path, method):
    settings = {"model": str(tiny), "method.name": method, "heatmaps": False, "limit": 4, "device": "cpu"}
    if method == "rise":
        settings["method.masks"] = 40
    for size in (1, 4):
        explain(photos, tmp_path / f"{size}", load_config(None, (), settings | {"batch_size": size}))
    with load_archive(tmp_path / "1") as one, load_archive(tmp_path / "4") as four:
        for a, b in zip(one, four, strict=True):
            np.testing.assert_allclose(a.map, b.map, rtol=1e-4, atol=1e-6)
            assert a.map.std() > 0

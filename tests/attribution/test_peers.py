"""The peers against loops over their papers' equations: GAE by autograd at eager attention, RISE mask by mask."""

import numpy as np
import pytest
import torch
from oracles.clip_forward import encode_image, encode_text
from PIL import Image
from scipy.ndimage import zoom
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


@pytest.mark.parametrize(("cells", "size"), [(7, (32, 40)), (3, (31, 20)), (2, (9, 14)), (1, (8, 8))])
def test_rise_masks_are_enlarged_as_published(cells, size):
    """skimage.transform.resize(order=1, mode="reflect") is scipy.ndimage.zoom with mirrored borders; then a cut."""
    params = rise.Params(masks=70, cells=cells, seed=5)
    generator = torch.Generator().manual_seed(5)
    cell = [-(-side // cells) for side in size]
    wanted = []
    for count in (64, 6):  # as many as are held at once
        coarse = (torch.rand(count, 1, cells, cells, generator=generator) < 0.5).double().numpy()
        down, across = (torch.randint(side, (count,), generator=generator).tolist() for side in cell)
        for small, y, x in zip(coarse[:, 0], down, across, strict=True):
            factors = [(cells + 1) * side / cells for side in cell]
            large = zoom(small, factors, order=1, mode="mirror", grid_mode=True)
            assert large.shape == tuple((cells + 1) * side for side in cell)
            wanted.append(large[y : y + size[0], x : x + size[1]])
    masks = torch.cat(list(rise.random_masks(params, size))).numpy()
    np.testing.assert_allclose(masks, np.stack(wanted), rtol=0, atol=2e-6)
    edge = masks[:, 0]
    if cells > 1:
        assert ((edge > 0) & (edge < 1)).mean() > 0.2  # a border that is clamped is flat


def test_caption_maps_of_rise_do_not_depend_on_the_other_pairs(loaded):
    model, pixels, words = loaded
    params = rise.Params(masks=40)

    def tokens(pairs):
        rows, columns = torch.tensor(pairs).T
        capture = model.capture(pixels, words, pairs, CaptureRequest((4,), (3,)))
        probe = CoverProbe(model, torch.stack([p.values for p in pixels]), words, rows, columns)
        found = rise.explain(type(capture)(**vars(capture) | {"probe": probe}), params, None)
        return dict(zip(pairs, found.fields["tokens/map"], strict=True))

    together = tokens([(0, 0), (1, 1), (0, 1), (1, 0)])
    for pair in ((1, 1), (1, 0)):
        torch.testing.assert_close(tokens([pair])[pair], together[pair], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "given", [{"masks": 0}, {"cells": 0}, {"keep": 0.0}, {"keep": 1.0}, {"keep": float("nan")}, {"seed": -1}]
)
def test_parameters_of_rise_are_checked_where_they_are_declared(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        rise.Params(**given)


@pytest.mark.parametrize(
    "given",
    [
        *({"scales": scales} for scales in ((), (0,), (-1, 2), (4, 2, 1), (1, 2, 2))),
        *({"temperature": value} for value in (0.0, -0.1, float("nan"), float("inf"))),
        {"shifts": 0},
        {"zooms": (3.0,)},
    ],
)
def test_parameters_of_mmel_are_checked_where_they_are_declared(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        METHODS["mmel"].params(**given)


def test_a_wrong_parameter_is_one_line_of_the_command(photos, tiny, tmp_path, mmel):
    for setting in ("scales=[2,1]", "temperature=0"):
        code, _, err = mmel("explain", photos, "--out", tmp_path, "--model", tiny, "--set", f"method.{setting}")
        assert code == 2
        assert setting.split("=")[0] in err


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

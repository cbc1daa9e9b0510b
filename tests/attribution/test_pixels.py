"""Input x gradient, integrated gradients and SmoothGrad against their papers' sums through a literal forward."""

import captum.attr
import numpy as np
import pytest
import torch
from again import CAPTIONS, PAIRS, SEEDS, Again, close, patch_sums
from PIL import Image

from mmel_cli import explain, load_archive, load_config
from mmel_cli.attribution import METHODS
from mmel_cli.attribution.base import GradientParams
from mmel_cli.attribution.pixels import gradients_over
from mmel_cli.attribution.views import look, overlay, views_of
from mmel_cli.fields import MAP
from mmel_cli.tensors import Attribution, Probe

NAMES = ("input-x-gradient", "integrated-gradients", "smoothgrad")


@pytest.fixture(scope="module")
def again(tiny):
    return Again(tiny)


def test_input_x_gradient_equals_autograd_through_a_literal_forward(again):
    maps = again.explain("input-x-gradient").map
    for pair in range(len(PAIRS)):
        values = again.image(pair)
        close(maps[pair], patch_sums(values * again.gradient(pair, values)))


def test_with_all_rules_its_map_and_what_is_added_on_the_way_sum_to_the_score(again):
    """Biases, position embeddings and class token are all that is added; those of q and k only make attention."""
    tower = again.model._model.vision_model
    added = [
        part
        for name, part in tower.named_parameters()
        if (name.endswith(("bias", "class_embedding")) or "position_embedding" in name)
        and not name.endswith(("q_proj.bias", "k_proj.bias"))
    ]
    gaps = {}
    for gradient in ("plain", "balanced", "balanced-norms"):
        found = again.explain("input-x-gradient", PAIRS[:1], gradient=gradient)
        for part in added:
            part.requires_grad_()
        try:
            embeds = again.model.embed_images(again.values[:1], graph=True, gradient=gradient)
            score = (embeds * again.model.embed_texts(again.words)[1]).sum()
            grads = torch.autograd.grad(score, added, allow_unused=True)  # biases of norms are 0 in this model
        finally:
            for part in added:
                part.requires_grad_(requires_grad=False)
        given = sum((part * grad).sum() for part, grad in zip(added, grads, strict=True) if grad is not None)
        gaps[gradient] = abs((found.map.sum() + given - score).item())
    assert gaps["balanced-norms"] < 2e-6
    assert min(gaps["plain"], gaps["balanced"]) > 1e-3


def test_integrated_gradients_equal_a_literal_sum_over_the_path(again):
    steps, baseline = 5, 0.3
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    maps = again.explain("integrated-gradients", steps=steps, baseline=baseline).map
    for pair in range(len(PAIRS)):
        values, total = again.image(pair), 0
        for node, weight in zip(nodes, weights, strict=True):
            point = baseline + (node + 1) / 2 * (values - baseline)
            total = total + weight / 2 * again.gradient(pair, point)
        close(maps[pair], patch_sums((values - baseline) * total))


def test_integrated_gradients_equal_captum(again):
    maps = again.explain("integrated-gradients", steps=6).map
    for pair in range(len(PAIRS)):

        def score(batch, pair=pair):
            return torch.stack([again.score(pair, one) for one in batch])

        integrated = captum.attr.IntegratedGradients(score)
        found = integrated.attribute(again.image(pair)[None], baselines=0.0, n_steps=6, method="gausslegendre")
        close(maps[pair], patch_sums(found[0].detach()))


def test_maps_of_integrated_gradients_sum_to_the_change_of_the_score(again):
    """Completeness: what is left falls with the steps. (A model of random weights is rough near a blank image.)"""
    residuals = []
    for steps in (16, 64, 160):
        sums = again.explain("integrated-gradients", steps=steps).map.sum((1, 2))
        changes = [
            (again.score(pair, again.image(pair)) - again.score(pair, torch.zeros(3, 32, 32))).item()
            for pair in range(len(PAIRS))
        ]
        residuals.append(float((sums.double() - torch.tensor(changes)).abs().max()))
    assert max(abs(change) for change in changes) > 0.05
    assert residuals[0] > 10 * residuals[1] > 100 * residuals[2]
    assert residuals[2] < 3e-4


@pytest.mark.parametrize("variant", ["magnitude", "squares", "signed"])
def test_smoothgrad_equals_a_literal_mean_over_noisy_copies(again, variant):
    samples, sigma, seed = 30, 0.2, 4  # more copies than are held at once
    maps = again.explain("smoothgrad", samples=samples, sigma=sigma, variant=variant, seed=seed).map
    for pair in (0, 2):
        values, total = again.image(pair), 0
        generator = torch.Generator().manual_seed(SEEDS[pair] + seed)
        spread = sigma * (values.max() - values.min())
        for _ in range(samples):
            noise = torch.randn(3, 32, 32, generator=generator).double()
            gradient = again.gradient(pair, values + spread * noise)
            total = total + (gradient**2 if variant == "squares" else gradient)
        mean = total / samples
        close(maps[pair], patch_sums(mean.abs() if variant == "magnitude" else mean))
    assert (maps.min() < 0) == (variant == "signed")


def test_noise_is_that_of_the_record_whatever_its_batch(again):
    together = again.explain("smoothgrad", samples=4).map
    for pair, seed in enumerate(SEEDS):
        alone = again.explain("smoothgrad", PAIRS[pair : pair + 1], (seed,), samples=4).map
        torch.testing.assert_close(alone[0], together[pair], rtol=1e-4, atol=1e-6)
    other = again.explain("smoothgrad", PAIRS[:1], (SEEDS[0] + 1,), samples=4).map
    assert (other[0] - together[0]).abs().max() > 1e-2 * together[0].abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_the_rules_of_the_gradient_count_and_plain_is_the_default(again, name):
    few = {"integrated-gradients": {"steps": 2}, "smoothgrad": {"samples": 2}}.get(name, {})
    plain, balanced, norms = (
        again.explain(name, gradient=gradient, **few).map for gradient in ("plain", "balanced", "balanced-norms")
    )
    assert issubclass(METHODS[name].params, GradientParams)
    assert torch.equal(again.explain(name, **few).map, plain)
    for one, other in ((plain, balanced), (balanced, norms)):
        assert (one - other).abs().max() > 1e-3 * one.abs().max()


def test_copies_are_looked_at_some_at_a_time_and_in_order(again):
    """Of three pairs at most 63 copies are held; what they give does not depend on how they are cut."""
    probe, asked = again.probe(), []
    assert isinstance(probe, Probe)
    values = again.values[probe.images]

    def altered(copies):
        asked.append(copies)
        return torch.stack([values * (1 - number / 50) for number in copies])

    found = list(gradients_over(probe, 50, altered, "plain"))
    assert asked == [range(21), range(21, 42), range(42, 50)] == [copies for copies, _ in found]
    gradients = torch.cat([gradient for _, gradient in found])
    for number, pair in ((0, 0), (20, 2), (21, 1), (49, 2)):
        expected = again.gradient(pair, again.image(pair) * (1 - number / 50))
        close(gradients[number, pair], expected)
    assert not values.requires_grad


def test_every_view_is_looked_at_as_it_is_shown(again, tiny, tmp_path):
    """Two shifts and a zoom: the gradient of a moved image is that at its moved pixels."""
    picture = np.random.default_rng(3).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(picture).resize((41, 37), Image.Resampling.BICUBIC).save(tmp_path / "one.png")
    (tmp_path / "one.txt").write_text(CAPTIONS[1])
    given = {"model": str(tiny), "device": "cpu", "heatmaps": False, "method.name": "input-x-gradient"}
    explain(tmp_path, tmp_path / "run", load_config(None, ["method.shifts=3", "method.zooms=[1.25]", "limit=1"], given))
    values = again.model.preprocess(Image.open(tmp_path / "one.png").convert("RGB"), "native").values[None]
    views, seen_by = views_of(3, (1.25,), 8), []
    for view in views:
        moved = look(values, view)[0].double()
        found = patch_sums(moved * again.gradient(0, moved)).float()
        seen_by.append((view, Attribution({MAP.name: found[None]})))
    with load_archive(tmp_path / "run") as archive:
        (record,) = archive
    close(torch.from_numpy(record.map), overlay(seen_by, (MAP,), (32, 32)).map[0].double())
    one = seen_by[0][1].map
    assert all((one - other.map).abs().max() > 0.1 * one.abs().max() for _, other in seen_by[1:])


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("integrated-gradients", {"steps": 0}),
        ("integrated-gradients", {"baseline": float("nan")}),
        ("smoothgrad", {"samples": 0}),
        ("smoothgrad", {"sigma": 0.0}),
        ("smoothgrad", {"sigma": float("nan")}),
        ("smoothgrad", {"seed": -1}),
        *((name, {"shifts": 0}) for name in NAMES),
    ],
)
def test_parameters_are_checked_where_they_are_declared(name, given):
    with pytest.raises(ValueError, match=next(iter(given))):
        METHODS[name].params(**given)


@pytest.mark.parametrize("name", NAMES)
def test_they_explain_the_image_alone(name):
    assert METHODS[name].modality == "image"

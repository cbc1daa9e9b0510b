"""Numbers that were wrong: enlargement, scale, areas, draws, bands, siblings; each against an independent count."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch.nn.functional import interpolate

from mmel_cli.errors import MmelError
from mmel_cli.evaluation import METRICS, Outcome, compare
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.compare import ComparisonOptions, crossed, difference, estimate, interval, per_image
from mmel_cli.evaluation.faithfulness import unit_size
from mmel_cli.evaluation.protocols import eclip_areas, eclip_images
from mmel_cli.evaluation.ranking import area, enlarge, pixel_ranks
from mmel_cli.evaluation.sanity import SanityOptions
from mmel_cli.evaluation.summary import Columns, Scores, _means
from mmel_cli.geometry import to_pixels
from mmel_cli.idsets import IdIndex, digests
from mmel_cli.types import Explanation, ImageRef, Sample


@pytest.mark.parametrize("shape", [(4, 4), (12, 12), (5, 7), (1, 3)])
@pytest.mark.parametrize("side", [(96, 96), (31, 50), (4, 4), (3, 2)])
def test_enlargement_is_torchs_and_keeps_a_constant_exactly(shape, side):
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(rng.normal(size=(3, *shape)).astype(np.float32))
    expected = interpolate(maps[:, None].double(), side, mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(enlarge(maps, side).double(), expected, rtol=1e-5, atol=1e-6)
    laid, _ = to_pixels(maps[0].numpy(), (0, 0, side[1], side[0]), side)
    np.testing.assert_allclose(laid, expected[0].numpy(), rtol=1e-5, atol=1e-6)
    for value in rng.normal(size=200) * 10.0 ** rng.integers(-30, 30, 200):
        constant = np.full(shape, value, np.float32)
        assert (enlarge(torch.from_numpy(constant)[None], side) == constant[0, 0]).all()
        assert (to_pixels(constant, (-0.3, 0.7, side[1] + 1.1, side[0] - 0.2), side)[0] == constant[0, 0]).all()


def test_a_constant_map_ranks_as_ties_whatever_its_value():
    ranks = [pixel_ranks(torch.full((1, 7, 7), value), (50, 50)) for value in (0.1, 0.3, 1e-7, 3e12)]
    for other in ranks[1:]:
        assert torch.equal(ranks[0], other)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e20])
def test_fading_does_not_depend_on_the_scale_of_a_map(scale):
    values = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 4, 4)))
    torch.testing.assert_close(unit_size((values * scale).float()), unit_size(values.float()), rtol=1e-5, atol=1e-6)
    assert (unit_size(torch.zeros(1, 2, 2)) == 0).all()


def test_areas_stay_within_their_curve():
    for top in (1, 5, 10):
        found = eclip_areas(torch.zeros(2, 11))
        assert found[f"grad-eclip-insertion-top{top}"] == 1.0
        assert found[f"grad-eclip-deletion-top{top}"] == 1.0
    rng = np.random.default_rng(0)
    for _ in range(100):
        curve = torch.from_numpy(np.repeat(rng.random(1), 11).astype(np.float32))
        assert area(curve) == curve[0].double()


@pytest.mark.parametrize("size", [(9, 7), (1, 5), (14, 14), (40, 30)])
def test_grad_eclips_curves_move_on_small_images(size):
    """At least one pixel a step, as in the source: an image of fewer than 200 pixels is not left as it is."""
    image = Image.fromarray(np.random.default_rng(0).integers(1, 255, (*size, 3), dtype=np.uint8))
    values = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    record = Explanation("r", "r.png", "c", False, 0.5, size, (0, 0, size[1], size[0]), {"map": values})
    inserted, _ = eclip_images(image, record)
    counts = [int(np.asarray(step).any(-1).sum()) for step in inserted]
    step = max(1, size[0] * size[1] // 200)
    assert counts == [*(min(10 * k * step, size[0] * size[1]) for k in range(1, 11)), size[0] * size[1]]


def test_error_bands_draw_images_like_the_intervals():
    """Ten captions of each image with one value: as wide as from one caption each."""
    rng = np.random.default_rng(2)
    values, images = rng.normal(size=(30, 4)), np.arange(30)
    once = _means({"c": values}, images)["c"]
    often = _means({"c": np.repeat(values, 10, 0)}, np.repeat(images, 10))["c"]
    np.testing.assert_allclose(often["error"], once["error"], rtol=1e-12)
    np.testing.assert_allclose(once["error"], stats.sem(values, axis=0), rtol=1e-12)
    low, high = interval(*per_image(values[:, 0], images), ComparisonOptions())
    assert (high - low) / 2 == pytest.approx(1.96 * once["error"][0], rel=0.1)


def test_intervals_of_a_random_metric_count_the_draw():
    """Variance components known: images 1, draws 1/4; more records do not take the draws' part away."""
    rng = np.random.default_rng(3)
    images, draws = rng.normal(size=(400, 1)), 0.5 * rng.normal(size=(1, 6))
    values = images + draws
    low, high, error = crossed(values, np.arange(400), ComparisonOptions())
    expected = np.sqrt(images.var() / 400 + draws.var() / 6)
    assert error == pytest.approx(expected, rel=0.1)
    assert low < values.mean() < high
    plain = estimate(values.mean(1), np.arange(400), ComparisonOptions())
    wide = estimate(values.mean(1), np.arange(400), ComparisonOptions(), values)
    assert wide.mean == plain.mean
    assert wide.high - wide.low > 2 * (plain.high - plain.low)
    other = values + 0.2 + 0.01 * rng.normal(size=values.shape)  # the same draws: their part cancels
    paired = difference(other.mean(1), values.mean(1), np.arange(400), ComparisonOptions(), (other, values))
    assert paired.low < 0.2 < paired.high
    assert paired.high - paired.low < 0.01
    assert paired.p < 1e-6


def test_images_drawn_some_at_a_time_are_those_drawn_at_once(monkeypatch):
    """A hundred thousand images would be 800 MB of counts at once."""
    rng = np.random.default_rng(5)
    values, images = rng.normal(size=(500, 3)), np.arange(500) // 2
    at_once = crossed(values, images, ComparisonOptions(resamples=1500))
    monkeypatch.setattr(compare, "_NUMBERS", 7 * 250)
    np.testing.assert_allclose(crossed(values, images, ComparisonOptions(resamples=1500)), at_once, rtol=1e-12)


def test_ragged_curves_are_refused_by_record():
    scores = [Scores("a", "i", {}, curves={"insertion": [1.0, 2.0]}), Scores("b", "i", {}, curves={"insertion": [1.0]})]
    with pytest.raises(MmelError, match="record b: insertion has 1 points, the records before it 2"):
        Columns.collect(scores, IdIndex.of(digests(["a", "b"])))


class Flaky:
    """Maps that are finite in some passes only."""

    layers = 2

    def __init__(self, lost):
        self.lost, self.calls = lost, 0

    def maps(self, samples, images):
        self.calls += 1
        rng = np.random.default_rng(self.calls)
        gone = {"b"} if self.calls in self.lost else set()
        return {s.id: rng.normal(size=(3, 3)) for s in samples if s.id not in gone}

    def randomised(self, layers, seed):
        return self


def subjects(*names):
    record = Explanation("", "", "c", False, 0.5, (3, 3), (0, 0, 3, 3), {"map": np.eye(3, dtype=np.float32)})
    from dataclasses import replace

    from mmel_cli.tensors import Decoded, Pixels

    image = Decoded(Pixels(torch.zeros(3, 4, 4), (0.0, 0.0, 3.0, 3.0)), (3, 3))
    return [Subject(replace(record, id=n, image=n), Sample(n, n, ImageRef(n, lambda: None), "c"), image) for n in names]


@pytest.mark.parametrize("family", ["max-sensitivity", "randomisation"])
@pytest.mark.parametrize("lost", [{1}, {2}, {3}])
def test_a_record_that_is_finite_in_one_pass_only_is_undefined(family, lost):
    bench = Bench({SanityOptions: SanityOptions(samples=2, draws=1)}, explainer=Flaky(lost))
    found = METRICS[family].measure(bench, subjects("a", "b"))
    assert found[0].values[family] is not None
    assert found[1] == Outcome()

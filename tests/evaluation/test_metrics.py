"""Metrics against closed forms and against independent implementations."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import average_precision_score

from mmel_cli.errors import UsageError
from mmel_cli.evaluation import named, select
from mmel_cli.evaluation.compare import ComparisonOptions, difference, estimate, holm
from mmel_cli.evaluation.faithfulness import FaithfulnessOptions, blurred, embed_pixels
from mmel_cli.evaluation.localisation import (
    LocalisationOptions,
    localise,
    pointing_game,
    quadrant_recognition,
)
from mmel_cli.evaluation.protocols import DELETED, INSERTED, eclip_areas
from mmel_cli.evaluation.ranking import area, ranks, shuffled
from mmel_cli.evaluation.sanity import depths, rank_correlation, relative_change, sparseness
from mmel_cli.geometry import to_grid, to_pixels

OPTIONS = LocalisationOptions()


@dataclass
class Linear:
    """A model whose embedding is the sum of the input times fixed weights: every curve is known in closed form."""

    weights: torch.Tensor  # (H, W)

    @property
    def spec(self):
        return SimpleNamespace(processor={"image_mean": [0.5] * 3, "image_std": [0.25] * 3})

    def embed_images(self, values):
        return (values[:, 0] * self.weights).sum((1, 2))[:, None]


@pytest.fixture
def linear():
    return Linear(torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) - 0.3)


def test_insertion_and_deletion_of_a_linear_model_are_partial_sums_of_the_sorted_contributions(linear):
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    gains = (image[0, 0] * linear.weights).flatten()
    options = FaithfulnessOptions(steps=64, baseline="mean")  # the mean colour is 0 after normalisation
    points = embed_pixels(linear, image, gains.view(1, 8, 8), options)
    sums = torch.cat([torch.zeros(1), gains.sort(descending=True).values.cumsum(0)])
    torch.testing.assert_close(points.insertion[0, :, 0], sums)
    torch.testing.assert_close(points.deletion[0, :, 0], sums[-1] - sums)


def test_deletion_equals_quantus_pixel_flipping(linear):
    import quantus

    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    image[:, 1:] = 0
    values = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(3))

    class Net(torch.nn.Module):
        def forward(self, x):
            return torch.stack([linear.embed_images(x)[:, 0], torch.zeros(len(x))], 1)

    metric = quantus.PixelFlipping(
        features_in_step=1, perturb_baseline=0.0, normalise=False, disable_warnings=True, return_aggregate=False
    )
    theirs = metric(
        model=Net().eval(), x_batch=image.numpy(), y_batch=np.array([0]), a_batch=values[:, None].numpy(),
        softmax=False, channel_first=True, device="cpu",
    )  # fmt: skip
    ours = embed_pixels(linear, image, values, FaithfulnessOptions(steps=64, baseline="mean")).deletion[0, :, 0]
    flat = np.asarray(theirs[0], float)
    # theirs takes the three channels of a pixel one by one, and has no point before the first
    np.testing.assert_allclose(flat[-1], ours[-1], atol=1e-5)
    np.testing.assert_allclose(flat[2::3], ours[1:].numpy(), atol=1e-4)


def test_a_random_map_has_no_area_between_the_curves(linear):
    generator = torch.Generator().manual_seed(100)
    image = torch.rand(1000, 3, 8, 8, generator=generator)
    points = embed_pixels(linear, image, torch.rand(1000, 8, 8, generator=generator), FaithfulnessOptions())
    between = (area(points.insertion[..., 0]) - area(points.deletion[..., 0])).double().numpy()
    found = estimate(between, np.arange(1000), ComparisonOptions(resamples=999))
    assert found.low < 0 < found.high
    best = embed_pixels(linear, image, image[:, 0] * linear.weights, FaithfulnessOptions())
    assert (area(best.insertion[..., 0]) - area(best.deletion[..., 0])).min() > found.high


def test_blur_keeps_a_constant_image_and_the_mean():
    constant = torch.full((1, 3, 16, 16), 0.7)
    torch.testing.assert_close(blurred(constant, 2.0), constant)
    image = torch.rand(1, 3, 16, 16)
    assert blurred(image, 3.0).std() < 0.5 * image.std()


def test_ties_never_move_together_and_are_broken_alike():
    tied = ranks(torch.zeros(2, 30))
    assert sorted(tied[0].tolist()) == list(range(30))
    assert torch.equal(tied[0], tied[1])
    assert not torch.equal(tied[0], torch.arange(30))  # not reading order
    assert torch.equal(shuffled(30)[0], (tied[0] == 0).nonzero()[0, 0])
    mixed = ranks(torch.tensor([[0.0, 2.0, float("nan"), 1.0]]))
    assert mixed.tolist() == [[2, 0, 3, 1]]


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(-3, 4, (9, 11)).astype(float) if seed % 2 else rng.normal(size=(9, 11))
    mask = rng.random((9, 11)) < 0.3
    assert localise(values, mask, OPTIONS)["pixel-ap"] == pytest.approx(
        average_precision_score(mask.ravel(), values.ravel())
    )


def test_iou_is_that_of_the_best_threshold_and_of_the_masks_own_area():
    rng = np.random.default_rng(0)
    values, mask = rng.normal(size=(7, 8)), rng.random((7, 8)) < 0.4
    found = localise(values, mask, OPTIONS)
    tried = [((values >= t) & mask).sum() / ((values >= t) | mask).sum() for t in values.ravel()]
    assert found["iou-best"] == pytest.approx(max(tried))
    cut = np.sort(values.ravel())[-mask.sum()]
    assert found["iou-area"] == pytest.approx(((values >= cut) & mask).sum() / ((values >= cut) | mask).sum())


def test_the_mask_itself_is_the_ceiling_of_everything():
    mask = np.zeros((6, 6), bool)
    mask[2:4, 1:4] = True
    assert set(localise(mask.astype(float), mask, OPTIONS).values()) == {1.0}


def test_constant_zero_one_pixel_and_empty_cases_are_defined():
    one = np.zeros((5, 4), bool)
    one[2, 2] = True
    flat = localise(np.zeros((5, 4)), one, OPTIONS)
    assert flat["pointing-game"] == pytest.approx(1 / 20)
    assert flat["energy-inside"] == 0
    assert flat["pixel-ap"] == pytest.approx(1 / 20)
    assert flat["iou-best"] == pytest.approx(1 / 20)
    assert flat["iou-area"] in (0.0, 1.0)
    assert set(localise(np.ones((5, 4)), np.zeros((5, 4), bool), OPTIONS).values()) == {None}
    everywhere = localise(np.arange(20.0).reshape(5, 4), np.ones((5, 4), bool), OPTIONS)
    assert set(everywhere.values()) == {1.0}


def test_the_pointing_game_has_a_tolerance_in_pixels():
    values = np.zeros((9, 9))
    values[0, 0] = 1
    mask = np.zeros((9, 9), bool)
    mask[3, 4] = True  # 5 pixels away
    assert pointing_game(values, mask, 4.9) == 0
    assert pointing_game(values, mask, 5.0) == 1


def test_recognition_of_quadrants():
    values = np.zeros((7, 7))
    values[:3, 4:] = 2.0  # quadrant 1
    values[3] = 100  # the middle row and column belong to none
    values[4:, :3] = -1.0
    assert quadrant_recognition(values, 1) == 1.0
    assert quadrant_recognition(values, 2) == 0.0
    assert quadrant_recognition(values, 0) == pytest.approx(9 / 27)  # only the negative ones elsewhere are right
    assert quadrant_recognition(np.zeros((4, 4)), 0) is None


def test_sparseness_and_sensitivity_equal_quantus_and_captum():
    import quantus
    from captum.metrics import sensitivity_max

    values = np.random.default_rng(1).normal(size=(1, 1, 6, 6)).astype(np.float32)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2))
    theirs = quantus.Sparseness(disable_warnings=True, normalise=False, return_aggregate=False)(
        model=net, x_batch=values, y_batch=np.array([0]), a_batch=values, device="cpu"
    )
    assert sparseness(values) == pytest.approx(theirs[0], abs=1e-4)

    image = torch.rand(1, 5)
    noise = torch.rand(1, 5) * 0.04 - 0.02

    def only(inputs):
        return inputs[0] if isinstance(inputs, tuple) else inputs

    seen = sensitivity_max(
        lambda x: (only(x) ** 3,), image, perturb_func=lambda x: (only(x) + noise,), n_perturb_samples=1
    )
    ours = relative_change((image**3).numpy(), ((image + noise) ** 3).numpy())
    assert ours == pytest.approx(float(seen), abs=1e-5)


def test_sparseness_and_change_of_flat_maps():
    assert sparseness(np.zeros((3, 3))) == 0
    assert sparseness(np.ones((3, 3))) == pytest.approx(0)
    assert sparseness(np.eye(1, 1000)) == pytest.approx(1, abs=1e-2)
    assert relative_change(np.zeros((2, 2)), np.zeros((2, 2))) == 0
    assert relative_change(np.zeros((1, 2)), np.array([[3.0, 4.0]])) == 5
    assert rank_correlation(np.ones((2, 2)), np.arange(4).reshape(2, 2)) == 0


def test_rank_correlation_is_scipys():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 5, (4, 4)), rng.normal(size=(4, 4))
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a.ravel(), b.ravel()).statistic)


def test_depths_spread_over_the_layers():
    assert depths(4, 12) == (1, 2, 3, 4)
    assert depths(24, 4) == (1, 9, 16, 24)


def test_areas_of_grad_eclips_points():
    always = torch.zeros(2, 11, dtype=int)
    assert list(eclip_areas(always).values()) == pytest.approx([1.0] * 6)
    assert set(eclip_areas(always + 10).values()) == {0.0}
    assert (len(INSERTED), len(DELETED), float(DELETED[-1])) == (11, 11, 0.5)
    fifth = eclip_areas(always + 4)
    assert (fifth["grad-eclip-insertion-top1"], fifth["grad-eclip-insertion-top5"]) == pytest.approx((0, 1))


@pytest.mark.parametrize("box", [(0, 0, 12, 8), (-3, 0, 15, 8), (2.5, 1, 9.5, 7)])
def test_maps_are_laid_over_their_box_as_torch_interpolates(box):
    values = np.random.default_rng(3).normal(size=(4, 6)).astype(np.float32)
    if box == (0, 0, 12, 8):
        wanted = torch.nn.functional.interpolate(torch.tensor(values)[None, None], (8, 12), mode="bilinear")
        found, part = to_pixels(values, box, (8, 12))
        np.testing.assert_allclose(found, wanted[0, 0], atol=1e-6)
    found, part = to_pixels(np.ones((4, 6), np.float32), box, (8, 12))
    np.testing.assert_allclose(found, 1)
    assert found.shape == (part[0].stop - part[0].start, part[1].stop - part[1].start)
    inside = to_grid(np.ones((8, 12), bool), box, (4, 6))
    reach = max(0, min(box[2], 12) - max(box[0], 0)) * max(0, min(box[3], 8) - max(box[1], 0))
    assert inside.sum() * (box[2] - box[0]) * (box[3] - box[1]) / 24 == pytest.approx(reach, rel=1e-5)


def test_intervals_and_tests_draw_images_not_records():
    rng = np.random.default_rng(5)
    images = np.repeat(np.arange(60), 10)  # ten captions an image that all say the same
    values = np.repeat(rng.normal(0.1, 1, 60), 10)
    clustered = estimate(values, images, ComparisonOptions())
    plain = estimate(values, np.arange(600), ComparisonOptions())
    assert [clustered.mean, plain.mean] == pytest.approx([values.mean()] * 2)
    assert clustered.high - clustered.low > 2.5 * (plain.high - plain.low)


def test_paired_difference_agrees_with_scipys_t_test():
    rng = np.random.default_rng(6)
    a, b = rng.normal(0, 1, 200), rng.normal(0.15, 1, 200)
    found = difference(b, a, np.arange(200), ComparisonOptions())
    assert found.mean == pytest.approx((b - a).mean())
    assert found.p == pytest.approx(stats.ttest_rel(b, a).pvalue, abs=0.02)
    assert difference(a, a, np.arange(200), ComparisonOptions()).p == 1.0
    undefined = np.where(np.arange(200) < 150, b, np.nan)
    assert difference(undefined, a, np.arange(200), ComparisonOptions()).records == 150


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_metrics_are_chosen_by_name_and_group():
    assert select(["Pixel-AP", "aid"]) == ("aid", "pixel-ap")
    assert select(["all"]) == tuple(named())
    assert not {"aid", "max-sensitivity", "quadrant-recognition"} & set(select(["standard"]))
    with pytest.raises(UsageError, match="no metric or group 'magic'"):
        select(["magic"])

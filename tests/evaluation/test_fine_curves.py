"""The fine ruler: insertion and deletion at chosen fractions, against literal loops, numpy and scipy."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid

from mmel_cli.evaluation import METRICS
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.faithfulness import FaithfulnessOptions, embed_pixels
from mmel_cli.evaluation.ranking import area, log_area, pixel_ranks
from mmel_cli.tensors import Decoded, Pixels
from mmel_cli.types import Explanation, ImageRef, Sample

SIDE = 20  # 400 pixels: 1 % is 4 of them
FRACTIONS = FaithfulnessOptions().fractions
FINE, EVEN = METRICS["fine-curves"], METRICS["pixel-curves"]


@dataclass
class Curved:
    """A model whose one number is a curved function of the sum of the input times fixed weights."""

    weights: torch.Tensor
    spec: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(processor={}, device="cpu"))

    def embed_images(self, values):
        return torch.tanh((values[:, 0] * self.weights).sum((1, 2)))[:, None]

    def tokenize(self, captions):
        return captions

    def embed_texts(self, captions):
        return torch.ones(len(captions), 1)


def subject(values, image):
    record = Explanation("r", "r", "c", False, 0.5, (SIDE, SIDE), (0, 0, SIDE, SIDE), {"map": values})
    pixels = Pixels(image, (0.0, 0.0, float(SIDE), float(SIDE)))
    return Subject(record, Sample("r", "r", ImageRef("r", lambda: None), "c"), Decoded(pixels, (SIDE, SIDE)))


def loops(model, image, values, region):
    """Pixel by pixel: at each fraction, which squares have come; the sums of both curves and the exact fractions."""
    place = pixel_ranks(torch.from_numpy(values)[None], (SIDE, SIDE), region)[0]
    total = len(place.unique())
    at, insertion, deletion = [], [], []
    for fraction in FRACTIONS:
        cut = round(fraction * total)
        cut = 1 if fraction > 0 and cut == 0 else cut
        come = torch.zeros_like(image)
        gone = image.clone()
        for row in range(SIDE):
            for column in range(SIDE):
                if place[row, column] < cut:
                    come[:, row, column] = image[:, row, column]
                    gone[:, row, column] = 0
        at.append(cut / total)
        insertion.append(model.embed_images(come[None]).item())
        deletion.append(model.embed_images(gone[None]).item())
    return at, insertion, deletion


@pytest.mark.parametrize("region", [1, 3, 7])
def test_the_fine_curves_and_their_areas_equal_literal_loops(region):
    rng = np.random.default_rng(region)
    model = Curved(torch.from_numpy(rng.normal(0.02, 0.2, (SIDE, SIDE)).astype(np.float32)))
    image = torch.from_numpy(rng.random((3, SIDE, SIDE), np.float32))
    values = rng.normal(size=(5, 5)).astype(np.float32)
    bench = Bench({FaithfulnessOptions: FaithfulnessOptions(baseline="mean", region=region, batch=7)}, model)
    [found] = FINE.measure(bench, [subject(values, image)])
    at, *curves = loops(model, image, values, region)
    for kind, curve in zip(("insertion", "deletion"), curves, strict=True):
        np.testing.assert_allclose(found.curves[f"{kind}-fine"], curve, atol=2e-6)
        assert found.values[f"{kind}-fine"] == pytest.approx(np.trapezoid(curve, at), abs=1e-6)
        by_log = trapezoid(curve[1:], np.log(at[1:])) / -np.log(at[1])
        assert found.values[f"{kind}-log"] == pytest.approx(by_log, abs=1e-6)
    for end in ("fine", "log"):
        between = found.values[f"insertion-{end}"] - found.values[f"deletion-{end}"]
        assert found.values[f"insertion-deletion-{end}"] == between
    assert set(found.values) == {name.name for name in FINE.names}


def test_areas_over_uneven_points_are_numpys():
    rng = np.random.default_rng(0)
    for _ in range(20):
        inner = np.unique(rng.random(8))
        at = np.concatenate([[0], inner, [1]])
        curve = rng.normal(size=(3, len(at)))
        ours = area(torch.from_numpy(curve), torch.from_numpy(at)).numpy()
        np.testing.assert_allclose(ours, np.trapezoid(curve, at, axis=1), rtol=1e-12)
        logs = log_area(torch.from_numpy(curve), torch.from_numpy(at)).numpy()
        np.testing.assert_allclose(logs, trapezoid(curve[:, 1:], np.log(at[1:]), axis=1) / -np.log(at[1]), rtol=1e-12)
    level = torch.full((11,), 0.25)
    assert log_area(level, torch.tensor(FRACTIONS)) == area(level, torch.tensor(FRACTIONS)) == 0.25


def test_a_map_that_ranks_the_object_first_reaches_its_value_before_the_first_even_step():
    """The object is 24 of 400 pixels, 6 %: all there at 8 %, 20 of 24 at 5 %. At 10 %, the first even step, it is
    there too for a map that ranks 16 other pixels before it: equal steps cannot tell the two apart, the fine ones do.
    """
    weights = torch.zeros(SIDE, SIDE)
    weights[4:8, 6:12] = 0.01
    image = torch.ones(3, SIDE, SIDE)
    straight, late = weights.numpy().copy(), weights.numpy().copy()
    late[15:19, 2:6] = 1
    bench = Bench({FaithfulnessOptions: FaithfulnessOptions(baseline="mean")}, Curved(weights))

    def both(values):
        bench.begin()
        chosen = [subject(values, image)]
        return FINE.measure(bench, chosen)[0], EVEN.measure(bench, chosen)[0]

    (fine, even), (fine_late, even_late) = both(straight), both(late)
    curve = dict(zip(FRACTIONS, fine.curves["insertion-fine"], strict=True))
    assert curve[0.05] == pytest.approx(np.tanh(0.2), abs=1e-6)
    assert curve[0.08] == curve[1.0] == pytest.approx(np.tanh(0.24), abs=1e-6)
    assert fine_late.curves["insertion-fine"][3] == 0  # 3 %: none of the object yet
    assert even.values == even_late.values
    for end in ("fine", "log"):
        assert fine.values[f"insertion-deletion-{end}"] > fine_late.values[f"insertion-deletion-{end}"] + 0.01


def test_equal_steps_are_what_they_were():
    """The cuts of the standard curves, one by one; their areas do not see where the fine points lie."""
    rng = np.random.default_rng(1)
    image = torch.from_numpy(rng.random((1, 3, SIDE, SIDE), np.float32))
    model = Curved(torch.from_numpy(rng.normal(size=(SIDE, SIDE)).astype(np.float32)))
    values = torch.from_numpy(rng.normal(size=(1, 4, 4)).astype(np.float32))
    options = FaithfulnessOptions(steps=7, baseline="mean", fractions=(0, 0.5, 1))
    points = embed_pixels(model, image, values, options)
    place = pixel_ranks(values, (SIDE, SIDE))
    cuts = [round(SIDE * SIDE * step / 7) for step in range(8)]
    kept = torch.cat([torch.where((place < cut)[:, None], image, 0.0) for cut in cuts])
    assert torch.equal(points.insertion[0], model.embed_images(kept))
    assert points.at.tolist() == [cut / SIDE**2 for cut in cuts]
    assert embed_pixels(model, image, values, options, fine=True).at.tolist() == [0, 0.5, 1]


def test_a_map_of_one_region_has_no_area_over_the_logarithm():
    """All comes at once: there is nothing between the least fraction and all."""
    bench = Bench({FaithfulnessOptions: FaithfulnessOptions(baseline="mean", region=SIDE)}, Curved(torch.ones(1, 1)))
    [found] = FINE.measure(bench, [subject(np.ones((4, 4), np.float32), torch.ones(3, SIDE, SIDE))])
    assert set(found.values) == {"insertion-fine", "deletion-fine", "insertion-deletion-fine"}

"""The metrics that look through a model, on models whose answers are known in closed form."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mmel_cli.evaluation.faithfulness import (
    CaptionSet,
    FaithfulnessOptions,
    baseline_images,
    drop_and_increase,
    embed_pixels,
    fade,
    token_curves,
)
from mmel_cli.evaluation.protocols import AidOptions, aid, eclip_images
from mmel_cli.model import Captions, load_model
from mmel_cli.scoring import Scoring
from mmel_cli.types import Explanation, Word

SIDE, PATCHES, TOKENS = 8, 4, 3
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.1)


class Toy:
    """Image embedding (sum of weighted first channel, 1), text embedding (1, sum of the weights of seen tokens).

    Their product is additive in patches and tokens, so every curve is a sum of sorted contributions.
    """

    def __init__(self, pixels: torch.Tensor, words: torch.Tensor) -> None:
        self.pixels, self.words = pixels, words
        processor = {"image_mean": list(MEAN), "image_std": list(STD)}
        self.spec = SimpleNamespace(grid=(PATCHES, PATCHES), scoring=Scoring(10.0), processor=processor)

    def embed_images(self, values: torch.Tensor) -> torch.Tensor:
        found = (values[:, 0] * self.pixels).sum((1, 2))
        return torch.stack([found, torch.ones(len(values))], 1)

    def embed_texts(self, captions: Captions) -> torch.Tensor:
        found = (captions.mask[:, 1 : 1 + TOKENS] * self.words).sum(1)
        return torch.stack([torch.ones(len(found)), found], 1)


def caption() -> Captions:
    return Captions(
        ids=torch.zeros(1, TOKENS + 2, dtype=torch.long),
        mask=torch.ones(1, TOKENS + 2, dtype=torch.long),
        query=torch.tensor([TOKENS + 1]),
        places=torch.arange(1, TOKENS + 1)[None],
        tokens=(("a", "b", "c"),),
        words=((Word("a", 0, 1), Word("b", 2, 3), Word("c", 4, 5)),),
        owners=torch.arange(TOKENS)[None],
        truncated=torch.tensor([False]),
    )


def explained(values, tokens=(0.0, 0.0, 0.0), box=(0, 0, SIDE, SIDE), size=(SIDE, SIDE)) -> Explanation:
    fields = {"map": np.asarray(values, np.float32), "tokens/map": np.asarray(tokens, np.float32)}
    return Explanation("r", "r.png", "a b c", False, 0.5, size, box, fields, tokens=("a", "b", "c"))


@pytest.fixture
def toy():
    generator = torch.Generator().manual_seed(4)
    return Toy(torch.rand(SIDE, SIDE, generator=generator), torch.tensor([0.5, 2.0, 1.0]))


@pytest.mark.parametrize("finer", [1, 2])
def test_aid_of_an_additive_model_is_that_of_its_sorted_contributions(toy, finer):
    """With the true contributions as the map: most and least important first, scaled to 0..1, and their mean gap."""
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    cells = torch.nn.functional.avg_pool2d((image[:, :1] * toy.pixels), 2, divisor_override=1)[0, 0]
    gains = torch.cat([cells.flatten(), toy.words]).double()
    players = len(gains)
    rising = torch.cat([torch.zeros(1, dtype=torch.double), gains.sort(descending=True).values.cumsum(0)])
    falling = torch.cat([torch.zeros(1, dtype=torch.double), gains.sort().values.cumsum(0)])
    expected = float((rising - falling).mean() / gains.sum())
    values = cells.repeat_interleave(finer, 0).repeat_interleave(finer, 1)  # a map of several views is pooled
    record = explained(values, toy.words)
    found = aid(toy, image, caption(), record, AidOptions(points=players + 1), 64)
    assert found == pytest.approx(expected, rel=1e-4)
    assert expected > 0.1
    wrong = explained(-values, -toy.words)
    assert aid(toy, image, caption(), wrong, AidOptions(points=players + 1), 64) == pytest.approx(-expected, rel=1e-4)


def test_aid_is_undefined_where_the_pair_says_nothing(toy):
    nothing = Toy(toy.pixels * 1e-3, toy.words * 0)
    image = torch.rand(1, 3, SIDE, SIDE)
    assert np.isnan(aid(nothing, image, caption(), explained(np.ones((PATCHES, PATCHES))), AidOptions(), 64))


def test_token_curves_of_an_additive_text_tower(toy):
    """Tokens worth 0.5, 2 and 1: highest first leaves 3.5, 1.5, 0.5, 0; lowest first 3.5, 3, 2, 0."""
    image = torch.tensor([[0.0, 1.0]])  # the score is the text's second part
    highest, lowest = token_curves(toy, caption(), image, [toy.words])[0].tolist()
    assert highest == pytest.approx((3.5 / 2 + 1.5 + 0.5) / 3)
    assert lowest == pytest.approx((3.5 / 2 + 3 + 2) / 3)


def test_fading_by_hand(toy):
    """A map of 0, 1/2 and 1 keeps so much of each pixel; a constant one keeps everything."""
    image = torch.rand(1, 3, SIDE, SIDE)
    values = torch.zeros(1, SIDE, SIDE)
    values[0, :2], values[0, 2:4] = 4.0, 2.0
    options = FaithfulnessOptions(baseline="mean")
    strength = torch.zeros(SIDE, SIDE)
    strength[:2], strength[2:4] = 1.0, 0.5
    expected = (image[0, 0] * strength * toy.pixels).sum()
    torch.testing.assert_close(fade(toy, image, values, options)[0, 0, 0], expected)
    whole = fade(toy, image, torch.full((1, SIDE, SIDE), 3.0), options)
    torch.testing.assert_close(whole[0, 0], toy.embed_images(image)[0])


def test_drop_and_increase_by_hand():
    drop, rise = drop_and_increase(torch.tensor([0.8, 0.5, 0.4]), torch.tensor([0.2, 0.5, 0.6]))
    torch.testing.assert_close(drop, torch.tensor([0.75, 0.0, 0.0]))
    assert rise.tolist() == [0, 0, 1]


def test_a_caption_set_by_hand():
    """Own cosine 0.3 against 0.5, 0.1 and 0.2 at temperature 10; the first rival, then all of them, excluded."""
    own = torch.tensor([[0.3, 0.0]] * 3)
    others = torch.tensor([[0.5, 0.0], [0.1, 0.0], [0.2, 0.0]])
    excluded = torch.tensor([[False] * 3, [True, False, False], [True] * 3])
    chosen = CaptionSet(own, others, excluded, Scoring(10.0))
    image = torch.tensor([[[1.0, 0.0]]] * 3)
    assert chosen.place(image)[:2, 0].tolist() == [1, 0]
    p = chosen.probability(image)[:, 0]
    assert p[0].item() == pytest.approx(np.exp(3) / np.exp([3, 5, 1, 2]).sum(), rel=1e-5)
    assert p[1].item() == pytest.approx(np.exp(3) / np.exp([3, 1, 2]).sum(), rel=1e-5)
    assert p[2].isnan()
    assert chosen.alone.tolist() == [False, False, True]


def test_black_and_mean_baselines_are_those_colours_before_normalisation(toy):
    image = torch.rand(1, 3, SIDE, SIDE)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    black = baseline_images(toy, image, FaithfulnessOptions(baseline="black")) * std + mean
    torch.testing.assert_close(black, torch.zeros_like(image), atol=1e-7, rtol=0)
    middle = baseline_images(toy, image, FaithfulnessOptions(baseline="mean")) * std + mean
    torch.testing.assert_close(middle, mean.expand_as(image))


def test_regions_move_as_one(toy):
    """With regions of 4 pixels there are four moves: the curve steps where the sum of a region goes."""
    image = torch.ones(1, 3, SIDE, SIDE)
    values = torch.zeros(1, SIDE, SIDE)
    for place, (row, column) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
        values[0, row : row + 4, column : column + 4] = 4 - place
    points = embed_pixels(toy, image, values, FaithfulnessOptions(steps=4, baseline="mean", region=4))
    sums = [0.0]
    for row, column in [(0, 0), (0, 4), (4, 0), (4, 4)]:
        sums.append(sums[-1] + float(toy.pixels[row : row + 4, column : column + 4].sum()))
    torch.testing.assert_close(points.insertion[0, :, 0], torch.tensor(sums))


def test_grad_eclips_altered_images_by_pixel_count():
    """100 steps of 1/200 of the pixels, looked at every tenth: 5 % of the pixels more each time, highest first."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 255, (40, 60, 3), np.uint8)  # no black pixel
    values = rng.normal(size=(4, 6))
    inserted, deleted = eclip_images(Image.fromarray(pixels), explained(values, box=(0, 0, 60, 40), size=(40, 60)))
    assert len(inserted) == len(deleted) == 11
    shown = [(np.asarray(image) != 0).any(-1) for image in inserted]
    assert [int(s.sum()) for s in shown] == [120 * k for k in range(1, 11)] + [2400]
    assert all((a <= b).all() for a, b in pairwise(shown))
    np.testing.assert_array_equal(np.asarray(deleted[0]), pixels)
    for image, gone in zip(deleted[1:], shown[:10], strict=True):
        np.testing.assert_array_equal(np.asarray(image)[~gone], pixels[~gone])  # the same pixels go that came
        changed = (np.asarray(image)[gone] != pixels[gone]).any(-1)
        assert changed.mean() > 0.99  # to random colours
        assert np.asarray(image)[gone].std() > 60
    top = shown[0]
    assert values[np.unravel_index(np.argmax(values), values.shape)] == values.max()
    row, column = np.unravel_index(np.argmax(values), values.shape)
    assert top[row * 10 + 5, column * 10 + 5]


def test_pixels_that_the_map_does_not_cover_come_last():
    pixels = np.full((40, 80, 3), 200, np.uint8)
    inserted, _ = eclip_images(Image.fromarray(pixels), explained(-np.ones((4, 4)), box=(20, 0, 60, 40), size=(40, 80)))
    half = (np.asarray(inserted[9]) != 0).any(-1)  # 50 % of the pixels: exactly those under the map
    assert half[:, 20:60].all()
    assert not half[:, :20].any()


def test_randomising_from_the_top_changes_exactly_those_blocks(tiny):
    model = load_model(str(tiny), "cpu", "float32")
    total = model.spec.layers
    before = model._model.state_dict()
    for depth in (1, total):
        after = model.randomised(depth, seed=3)._model.state_dict()
        changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
        blocks = {int(n.split("layers.")[1].split(".")[0]) for n in changed if "vision_model.encoder.layers." in n}
        assert blocks == set(range(total - depth, total))
        assert "visual_projection.weight" in changed
        assert not any(name.startswith("text") or "embeddings" in name for name in changed)
    again, other = model.randomised(1, seed=3)._model.state_dict(), model.randomised(1, seed=4)._model.state_dict()
    first = model.randomised(1, seed=3)._model.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["visual_projection.weight"], other["visual_projection.weight"])

"""Logits and probabilities against their formulas."""

import math

import pytest
import torch

from mmel_cli.evaluation.faithfulness import CaptionSet
from mmel_cli.scoring import Scoring


def test_softmax_is_the_own_caption_among_its_rivals():
    own, rivals = torch.tensor([0.3, 0.1, 0.2]), torch.tensor([[0.2, 0.4], [0.1, -torch.inf], [-torch.inf, -torch.inf]])
    scoring = Scoring(20.0)
    first = math.exp(6) / (math.exp(6) + math.exp(4) + math.exp(8))
    chance = scoring.probability(own, rivals).tolist()
    assert chance[:2] == pytest.approx([first, 0.5], rel=1e-5)
    assert math.isnan(chance[2])
    assert scoring.logit(0.3) == pytest.approx(6.0)


def test_sigmoid_looks_at_no_rival():
    scoring = Scoring(10.0, -4.0, "sigmoid")
    own = torch.tensor([0.5, 0.1])
    chance = scoring.probability(own, torch.full((2, 3), -torch.inf))
    assert chance.tolist() == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(3))], rel=1e-5)
    assert torch.equal(chance, scoring.probability(own, torch.rand(2, 3)))


def test_a_caption_set_asks_the_model_how_it_scores():
    generator = torch.Generator().manual_seed(1)
    own, others, images = (torch.nn.functional.normalize(torch.randn(*s, generator=generator), dim=-1)
                           for s in ((3, 8), (5, 8), (3, 4, 8)))  # fmt: skip
    excluded = torch.tensor([[False] * 5, [True, True, False, False, False], [True] * 5])
    cosine = torch.einsum("bpd,bd->bp", images, own)
    sigmoid = CaptionSet(own, others, excluded, Scoring(7.0, -2.0, "sigmoid"))
    torch.testing.assert_close(sigmoid.probability(images), (7 * cosine - 2).sigmoid())
    softmax = CaptionSet(own, others, excluded, Scoring(7.0, -2.0)).probability(images)
    for record, point in ((0, 1), (1, 3)):
        rivals = others[~excluded[record]] @ images[record, point]
        expected = torch.cat([cosine[record, point, None], rivals]).mul(7).softmax(0)[0]  # a bias cancels
        assert softmax[record, point] == pytest.approx(float(expected), rel=1e-5)
    assert softmax[2].isnan().all()


@pytest.mark.parametrize("given", [(0.0,), (-1.0,), (float("nan"),), (1.0, 0.0, "hinge")])
def test_a_scoring_that_there_is_not_is_refused(given):
    with pytest.raises(ValueError, match="scoring"):
        Scoring(*given)

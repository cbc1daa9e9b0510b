"""Maps of phrases against the masks of what they name: exact by hand, and against a count in plain numpy."""

from dataclasses import replace

import numpy as np
import pytest

from mmel_cli.evaluation import METRICS
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.localisation import LocalisationOptions
from mmel_cli.evaluation.phrases import NamedPhrase, choice, is_read, kind_of, map_of
from mmel_cli.types import Explanation, ImageRef, Sample, Word

CAPTION = "a red circle and a cube"
WORDS = tuple(Word(CAPTION[a:b], a, b) for a, b in ((0, 1), (2, 5), (6, 12), (13, 16), (17, 18), (19, 23)))
FIRST, SECOND = (0, 12), (17, 23)


def record(fields, side=4):
    box = (0.0, 0.0, float(side), float(side))
    values = {name: np.asarray(array, np.float32) for name, array in fields.items()}
    return Explanation("r", "i.png", CAPTION, False, 0.5, (side, side), box, values, words=WORDS)


def corner(down, across, side=4):
    mask = np.zeros((side, side), bool)
    mask[2 * down : 2 * down + 2, 2 * across : 2 * across + 2] = True
    return mask


def phrased(own, *masks):
    named = tuple(NamedPhrase(*span, mask) for span, mask in zip((FIRST, SECOND), masks, strict=False))
    return Subject(own, Sample("r", "i.png", ImageRef("i.png", lambda: None), CAPTION), phrases=named)


def measure(*subjects, tolerance=0.0):
    bench = Bench({LocalisationOptions: LocalisationOptions(tolerance=tolerance)})
    return [outcome.values for outcome in METRICS["phrases"].measure(bench, subjects)]


def test_the_map_of_a_phrase_is_its_own_or_the_sum_of_its_words_or_the_one():
    one, words = np.eye(4), np.arange(96.0).reshape(6, 4, 4)
    own = {"map": one, "words/map": words, "phrases/map": words[:2] - 50, "phrases/span": [SECOND, FIRST]}
    own = record(own)
    own.fields["phrases/span"] = np.array([SECOND, FIRST], np.int32)
    np.testing.assert_array_equal(map_of(own, *FIRST), words[1] - 50)
    np.testing.assert_array_equal(map_of(own, *SECOND), words[0] - 50)
    assert map_of(own, 2, 12) is None
    summed = record({"map": one, "words/map": words})
    np.testing.assert_array_equal(map_of(summed, *FIRST), words[:3].sum(0))
    np.testing.assert_array_equal(map_of(summed, 20, 22), words[5])  # a part of a word is the word
    np.testing.assert_array_equal(map_of(record({"map": one}), *FIRST), one)
    assert [kind_of(names, "alone") for names in (own.fields, summed.fields, {"map"})] == [
        "phrases/map (words.phrase: alone)",
        "the sum of words/map over the words of the phrase",
        "the one map of the caption, the same for every phrase",
    ]
    assert is_read(own, *FIRST)
    assert not is_read(own, 12, 13)
    assert is_read(replace(own, words=()), 12, 13)


def test_by_hand():
    """The first phrase finds its corner with 3 of 4 of its energy, the second the other's."""
    maps = np.zeros((2, 4, 4))
    maps[0, 0, 0], maps[0, 3, 3], maps[0, 3, 0] = 3, 1, -9
    maps[1, 0, 1], maps[1, 2, 2] = 2, 1
    own = record({"map": np.eye(4), "phrases/map": maps})
    own.fields["phrases/span"] = np.array([FIRST, SECOND], np.int32)
    (found,) = measure(phrased(own, corner(0, 0), corner(1, 1)))
    assert found == {
        "phrase-pointing": 0.5,
        "phrase-energy": pytest.approx((3 / 4 + 1 / 3) / 2),
        "phrase-choice": 0.5,
    }
    (alone,) = measure(phrased(own, corner(0, 0)))
    assert alone == {"phrase-pointing": 1.0, "phrase-energy": 0.75, "phrase-choice": None}
    (near,) = measure(phrased(own, corner(0, 0), corner(1, 1)), tolerance=1.5)
    assert near["phrase-pointing"] == 0.5  # one pixel and a half do not reach from (0, 1) to (2, 2)
    (nearer,) = measure(phrased(own, corner(0, 0), corner(1, 1)), tolerance=2.3)
    assert nearer["phrase-pointing"] == 1.0


def test_one_map_for_every_phrase_has_no_choice_and_shares_what_it_finds():
    blind = record({"map": np.ones((4, 4))})
    (found,) = measure(phrased(blind, corner(0, 0), corner(1, 1)))
    assert found == {"phrase-pointing": 0.25, "phrase-energy": 0.25, "phrase-choice": 0.5}
    rng = np.random.default_rng(0)
    for _ in range(20):
        (found,) = measure(phrased(record({"map": rng.normal(size=(4, 4))}), corner(0, 0), corner(1, 1)))
        assert found["phrase-choice"] == 0.5  # right for one, wrong for the other


def test_what_is_no_phrase_with_truth_does_not_count():
    own = record({"map": np.eye(4)})
    assert measure(phrased(own), phrased(own, np.zeros((4, 4), bool))) == [{}, {}]
    outside = replace(own, box=(0.0, 0.0, 4.0, 2.0))  # the grid covers the upper half
    (found,) = measure(phrased(outside, corner(0, 0), corner(1, 1)))
    assert found["phrase-choice"] is None


def test_objects_of_the_same_mask_are_one_and_ties_share():
    values = np.zeros((4, 4))
    assert choice(values, corner(0, 0), [corner(0, 0), corner(0, 0)]) is None
    assert choice(values, corner(0, 0), [corner(0, 0), corner(1, 1), corner(1, 1)]) == 0.5
    assert choice(values, corner(0, 0), [corner(0, 0), corner(1, 1), corner(0, 1)]) == pytest.approx(1 / 3)
    values[0, 0] = 1
    assert choice(values, corner(0, 0), [corner(0, 0), corner(1, 1)]) == 1
    assert choice(values, corner(1, 1), [corner(0, 0), corner(1, 1)]) == 0


@pytest.mark.parametrize("seed", range(4))
def test_against_plain_numpy(seed):
    rng = np.random.default_rng(seed)
    side = 7
    maps, masks = rng.normal(size=(6, side, side)), rng.random((2, side, side)) < 0.3
    (found,) = measure(phrased(record({"map": np.eye(side), "words/map": maps}, side), *masks))
    summed = [maps[:3].sum(0).astype(np.float32), maps[4:].sum(0).astype(np.float32)]
    pointing = [mask.ravel()[values.argmax()] for values, mask in zip(summed, masks, strict=True)]
    energy = [
        values[mask & (values > 0)].sum() / values[values > 0].sum() for values, mask in zip(summed, masks, strict=True)
    ]
    right = [np.argmax([values[mask].max() for mask in masks]) == k for k, values in enumerate(summed)]
    assert found["phrase-pointing"] == np.mean(pointing)
    assert found["phrase-energy"] == pytest.approx(np.mean(energy), rel=1e-5)
    ties = any(len({values[mask].max() for mask in masks}) < 2 for values in summed)
    assert ties or found["phrase-choice"] == np.mean(right)

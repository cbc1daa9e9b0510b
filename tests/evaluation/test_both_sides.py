"""Words and patches together, on a model whose score is exactly the sum of interactions: everything in closed form."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmel_cli.evaluation import METRICS
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.both_sides import leaving, left_at, to_patches
from mmel_cli.evaluation.faithfulness import FaithfulnessOptions
from mmel_cli.evaluation.modalities import ModalityOptions, interaction_share, permutations, shapley, share
from mmel_cli.evaluation.phrases import NamedPhrase
from mmel_cli.tensors import Decoded, Pixels
from mmel_cli.types import Explanation, ImageRef, Sample, Word

CAPTION = "a red circle and cubes"
WORDS = tuple(Word(CAPTION[a:b], a, b) for a, b in ((0, 1), (2, 5), (6, 12), (13, 16), (17, 22)))
SPANS = ((0, 12), (17, 22))
GRID = (2, 3)
MEANING = {word.text: k for k, word in enumerate(WORDS)}
OPTIONS = {FaithfulnessOptions: FaithfulnessOptions(baseline="mean", steps=7), ModalityOptions: ModalityOptions()}


class Bilinear:
    """The score of some patches and some words is the sum of their interactions; one pixel of two is a patch of 2 x 2.

    An image embeds as which patches it shows, weighed; a caption as what its words have with each patch.
    """

    def __init__(self, interactions, image=0.0, text=0.0):
        self.interactions = torch.tensor(interactions, dtype=torch.float32)  # (words, patches)
        self.image, self.text = image, text  # what each side has alone
        self.spec = SimpleNamespace(grid=GRID, patch=2, image_size=(4, 6), device="cpu")

    def embed_images(self, values):
        shown = values[:, 0, ::2, ::2].flatten(1)
        there = shown.amax(1, keepdim=True)
        return torch.cat([shown, there * self.image, torch.ones(len(shown), 1)], 1)

    def tokenize(self, texts):
        return texts

    def preprocess(self, *_):
        raise AssertionError

    capture = randomised = preprocess  # a model has them; nothing here calls them

    def embed_texts(self, texts):
        rows = []
        for text in texts:
            kept = [MEANING[word] for word in text.split()]
            rows.append(torch.cat([self.interactions[kept].sum(0), torch.tensor([1.0, self.text * bool(kept)])]))
        return torch.stack(rows)


def subject(fields, phrases=()):
    values = {name: np.asarray(array, np.float32) for name, array in fields.items()}
    box = (0.0, 0.0, 6.0, 4.0)
    own = Explanation("r", "i", CAPTION, False, 0.5, (4, 6), box, values, words=WORDS)
    image = Decoded(Pixels(torch.ones(3, 4, 6), box), (4, 6))
    return Subject(own, Sample("r", "i", ImageRef("i", lambda: None), CAPTION), image, phrases=tuple(phrases))


def measure(family, model, *subjects):
    return METRICS[family].measure(Bench(OPTIONS, model=model), list(subjects))


def test_the_order_by_hand():
    """Two words, four patches: the second patch first, then what is left decides."""
    values = np.array([[1.0, 5.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.5]])
    # turns: patch (1/8), word (1/4), patch (3/8), patch (5/8), word (3/4), patch (7/8)
    # highest: patch 1 (5); the words now have 1 and 3.5, so word 1; patch 0 (1); tie of patches 2 and 3 (0), ...
    assert leaving(values, highest=True)[:3] == [3, 1, 2]
    # lowest: patch 3 (.5); the words have 6 and 3, so word 1; patch 2 (0), patch 0 (1), word 0, patch 1
    assert leaving(values, highest=False) == [5, 1, 4, 2, 0, 3]
    assert sorted(leaving(values, highest=True)) == list(range(6))


def test_a_patch_goes_once_its_word_is_gone():
    """First-order sums would keep patch 0, the largest, to the end; without its word it is worth nothing."""
    values = np.array([[3.0, 0.0, 0.0, 0.0], [0.0, 1.5, 1.6, 1.7]])
    order = leaving(values, highest=False)
    assert order[:3] == [3, 0, 2]  # patch 1, then word 0 (3 against 3.3), then patch 0 although it had the most


def test_equal_values_give_the_same_order_both_ways_and_both_sides_go_at_one_pace():
    for shape in ((1, 5), (5, 1), (3, 8), (4, 4)):
        same = [leaving(np.full(shape, 0.3), highest=highest) for highest in (True, False)]
        assert same[0] == same[1]
        words = [player < shape[0] for player in same[0]]
        parts = np.cumsum(words) / shape[0] - np.cumsum(np.logical_not(words)) / shape[1]
        assert np.abs(parts).max() <= 0.5 / min(shape) + 0.5 / max(shape) + 1e-9
    words, patches = left_at([2, 0, 3, 1], 2, [0, 1, 4])
    np.testing.assert_array_equal(words, [[1, 1], [1, 1], [0, 0]])
    np.testing.assert_array_equal(patches, [[1, 1], [0, 1], [0, 0]])


def test_maps_of_several_views_are_summed_to_patches():
    maps = np.random.default_rng(0).normal(size=(5, 4, 9))
    summed = to_patches(maps, (2, 3))
    assert summed[1, 4] == pytest.approx(maps[1, 2:, 3:6].sum())
    assert summed.shape == (5, 6)
    with pytest.raises(ValueError, match="reshape"):
        to_patches(maps, (3, 3))


@pytest.mark.parametrize("seed", range(3))
def test_second_order_curves_are_sums_of_what_is_left(seed):
    interactions = np.random.default_rng(seed).normal(size=(5, 6))
    (found,) = measure("word-curves", Bilinear(interactions), subject({"words/map": interactions.reshape(5, 2, 3)}))
    for name, highest in (("word-insertion", False), ("word-deletion", True)):
        order = leaving(interactions.astype(np.float32), highest=highest)
        expected = []
        for step in range(8):
            left = set(order[round(11 * step / 7) :])
            kept = [(w, p) for w in range(5) for p in range(6) if w in left and p + 5 in left]
            expected.append(sum(interactions[w, p] for w, p in kept))
        expected = expected[::-1] if name == "word-insertion" else expected
        np.testing.assert_allclose(found.curves[name], expected, atol=1e-5)
        assert found.values[name] == pytest.approx(np.trapezoid(expected) / 7, abs=1e-5)
    between = found.values["word-insertion"] - found.values["word-deletion"]
    assert found.values["word-insertion-deletion"] == pytest.approx(between)


def test_random_words_and_regions_have_no_area_between():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(5, 6))
    model = Bilinear(truth)
    drawn = [subject({"words/map": rng.normal(size=(5, 2, 3))}) for _ in range(400)]
    areas = [outcome.values["word-insertion-deletion"] for outcome in measure("word-curves", model, *drawn)]
    error = np.std(areas) / np.sqrt(len(areas))
    assert abs(np.mean(areas)) < 3 * error
    (right,) = measure("word-curves", model, subject({"words/map": truth.reshape(5, 2, 3)}))
    assert right.values["word-insertion-deletion"] > np.mean(areas) + 2 * np.std(areas)


def test_captions_without_words_are_undefined():
    from dataclasses import replace

    made = subject({"words/map": np.zeros((0, 2, 3)), "words/share": [], "words/rest": []})
    made = replace(made, record=replace(made.record, words=()))
    for family in ("word-curves", "image-share", "interaction-share", "words-residual"):
        assert measure(family, Bilinear(np.ones((5, 6))), made)[0].values == {}


def objects():
    """The left and the right third of the image."""
    masks = np.zeros((2, 4, 6), bool)
    masks[0, :, :2], masks[1, :, 4:] = True, True
    return [NamedPhrase(*span, mask) for span, mask in zip(SPANS, masks, strict=True)]


def test_agreement_of_the_true_interactions_is_one_and_of_others_what_numpy_says():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(2)
    interactions = rng.normal(size=(5, 6))
    model = Bilinear(interactions, image=0.7, text=-0.4)  # what each side has alone cancels
    (found,) = measure("region-agreement", model, subject({"words/map": interactions.reshape(5, 2, 3)}, objects()))
    cells = [[0, 3], [2, 5]]  # of the two objects
    words = [[0, 1, 2], [4]]  # of the two phrases
    effects = [[interactions[np.ix_(w, c)].sum() for c in cells] for w in words]
    own = pytest.approx((effects[0][0] + effects[1][1]) / 2, abs=1e-5)
    assert found.values == {"region-agreement": pytest.approx(1.0), "region-effect": own, "region-mass": own}
    for _ in range(5):
        maps = rng.normal(size=(5, 6))
        masses = [[maps[np.ix_(w, c)].sum() for c in cells] for w in words]
        (found,) = measure("region-agreement", model, subject({"words/map": maps.reshape(5, 2, 3)}, objects()))
        expected = spearmanr(np.ravel(effects), np.ravel(masses)).statistic
        assert found.values["region-agreement"] == pytest.approx(expected)
    (blind,) = measure("region-agreement", model, subject({"map": np.ones(GRID)}, objects()))
    assert blind.values["region-agreement"] == 0  # one flat map says nothing
    (alone,) = measure("region-agreement", model, subject({"map": np.ones(GRID)}, objects()[:1]))
    own = pytest.approx(effects[0][0], abs=1e-5)
    assert alone.values == {"region-agreement": None, "region-effect": own, "region-mass": 2}  # it fills two cells
    assert measure("region-agreement", model, subject({"map": np.ones(GRID)}))[0].values == {}


def test_residuals_by_hand():
    model = Bilinear(np.zeros((5, 6)), image=0.2, text=0.3)  # s = .5 = .2 of no words + .3
    fields = {"words/share": [0.1, 0.0, 0.1, 0.0, 0.1], "words/map": np.zeros((5, 2, 3))}
    sound = subject(fields | {"words/rest": fields["words/share"]})
    wrong = subject(fields | {"words/rest": [0.1, 0.02, 0.1, 0.0, 0.1]})
    short = subject(fields | {"words/share": [0.1, 0.0, 0.1, 0.0, 0.05], "words/rest": [0.1, 0.0, 0.1, 0.0, 0.05]})
    values = [outcome.values["words-residual"] for outcome in measure("words-residual", model, sound, wrong, short)]
    assert values == pytest.approx([0, 0.02, 0.05], abs=1e-6)
    archived = subject({"map": np.ones(GRID), "interaction/residual": -0.25})
    assert measure("interaction-residual", None, archived)[0].values == {"interaction-residual": 0.25}


def test_shapley_values_by_permutations():
    """Of all orders they are exact; of a few they still sum to the whole; values alone are exact with any."""
    from itertools import permutations as every

    rng = np.random.default_rng(3)
    pairs, alone = rng.normal(size=(2, 2)), rng.normal(size=4)

    def worth(image, text):
        return np.einsum("ci,ij,cj->c", image, pairs, text) + np.concatenate([image, text], 1) @ alone

    exact = alone + np.concatenate([pairs.sum(1), pairs.sum(0)]) / 2
    np.testing.assert_allclose(shapley([np.array(order) for order in every(range(4))], 2, worth), exact, atol=1e-12)
    orders = permutations(4, 5, np.random.default_rng(0))
    assert len(orders) == 5
    np.testing.assert_array_equal(orders[1], orders[0][::-1])
    assert shapley(orders, 2, worth).sum() == pytest.approx(exact.sum())
    np.testing.assert_allclose(shapley(orders[:2], 2, worth), exact, atol=1e-12)  # an order and its reverse: order 2
    assert share(np.array([1.0, -2.0]), np.array([1.0])) == 0.75
    assert share(np.zeros(2), np.zeros(1)) is None


def test_image_share_of_a_bilinear_model_is_exact():
    rng = np.random.default_rng(4)
    interactions = rng.normal(size=(5, 6))
    (found,) = measure("image-share", Bilinear(interactions), subject({"map": np.ones(GRID)}))
    patches, words = np.abs(interactions.sum(0) / 2).sum(), np.abs(interactions.sum(1) / 2).sum()
    assert found.values["image-share"] == pytest.approx(patches / (patches + words), rel=1e-5)


def test_interaction_share_by_hand():
    (found,) = measure("interaction-share", Bilinear(np.full((5, 6), 0.01), 0.1, -0.4), subject({"map": np.ones(GRID)}))
    assert found.values["interaction-share"] == pytest.approx(0.3 / (0.3 + 0.1 + 0.4), rel=1e-5)
    assert interaction_share(np.array([[1.0, 1.0], [1.0, 1.0]])) is None
    assert interaction_share(np.array([[0.0, 0.5], [0.25, 0.75]])) == 0
    assert interaction_share(np.array([[0.0, 0.0], [0.0, 0.75]])) == 1

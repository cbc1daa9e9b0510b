"""A difference of two scores: by linearity where a map is linear in the text, by the papers' literal code elsewhere."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import quick
import torch
from oracles import first_order as paper
from oracles.watched import watched
from PIL import Image
from zoo import make_model

from mmel_cli.attribution import METHODS, Target
from mmel_cli.errors import MmelError, ModelError
from mmel_cli.model import CoverProbe, LeftOut, load_model
from mmel_cli.model.word_shares import WordOptions
from mmel_cli.pipelines.batches import Batch
from mmel_cli.pipelines.engine import Engine
from mmel_cli.pipelines.regions import Words
from mmel_cli.tensors import Decoded, Tower
from mmel_cli.types import ImageRef, Sample

CAPTIONS = ["a photo of the cat", "a red dog on the grass", "blue", "red"]
PAIRS = [(0, 1), (1, 0), (1, 2), (0, 0), (2, 1)]  # image, caption
AGAINST = [0, 3, 1, 2, 2]
SEEDS = (1, 2, 3, 4, 5)
FAMILIES = ["clip", "siglip"]
LINEAR = [
    "flow", "mask-clip", "clip-surgery", "rise", "occlusion", "input-x-gradient", "integrated-gradients",
]  # fmt: skip
SEEING = [name for name, method in METHODS.items() if not method.of_one_score]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    made = {}

    def load(family):
        if family not in made:
            folder = make_model(tmp_path_factory.mktemp(family) / "model", family)
            made[family] = folder, load_model(str(folder), "cpu", "float32")
        return made[family]

    return load


def pixels_of(model):
    rng = np.random.default_rng(9)
    images = [Image.fromarray(rng.integers(0, 255, (50 + 3 * n, 45, 3), dtype=np.uint8)) for n in range(3)]
    return [model.preprocess(image, "native") for image in images]


def maps_of(model, name, columns=None, against=None, **params):
    """Fields of the pairs' images with these captions, against others or not."""
    method = METHODS[name]
    engine = Engine.build(model, method, method.params(**quick.PARAMS.get(name, {}) | params))
    pixels, captions = pixels_of(model), model.tokenize(CAPTIONS)
    pairs = PAIRS if columns is None else [(row, column) for (row, _), column in zip(PAIRS, columns, strict=True)]
    capture = model.capture(pixels, captions, pairs, engine.request, against=against)
    others = None if against is None else torch.tensor(against)
    probe = CoverProbe(model, torch.stack([p.values for p in pixels]), captions, *torch.tensor(pairs).T, others)
    return method.explain(replace(capture, probe=probe, seeds=SEEDS), engine.params, engine.state).fields


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_map_that_is_linear_in_the_text_is_the_difference_of_two_maps(loaded, family, name):
    model = loaded(family)[1]
    both, own, other = (maps_of(model, name, *given) for given in ((None, AGAINST), (), (AGAINST,)))
    scale = float(own["map"].abs().max())
    assert (own["map"] - other["map"]).abs().max() > 0.01 * scale
    torch.testing.assert_close(both["map"], own["map"] - other["map"], rtol=0, atol=max(1e-6, 2e-5 * scale))
    for field in set(own) - {"map"}:
        if field.startswith("tokens/"):
            assert torch.equal(both[field], own[field])  # the caption's side is the caption's


@pytest.mark.parametrize("family", FAMILIES)
def test_flow_is_linear_within_a_millionth_at_every_layer(loaded, family):
    model = loaded(family)[1]
    for gradient in ("plain", "balanced", "balanced-norms"):
        both, own, other = (
            maps_of(model, "flow", *given, gradient=gradient) for given in ((None, AGAINST), (), (AGAINST,))
        )
        for field in ("map", "layers/flow"):
            torch.testing.assert_close(both[field], own[field] - other[field], rtol=0, atol=1e-6)


class Difference(paper.Pair):
    """A literal pair whose score is the cosine with its caption less that with another text."""

    def __init__(self, *given, captions, other):
        super().__init__(*given)
        self.other = self.read(captions, other)

    def score(self, image):
        lengths = [image.norm() * text.norm() for text in (self.text, self.other)]
        if self.gradient == "balanced-norms":
            lengths = [length.detach() for length in lengths]
        return image @ self.text / lengths[0] - image @ self.other / lengths[1]


@pytest.mark.parametrize("gradient", ["plain", "balanced", "balanced-norms"])
@pytest.mark.parametrize("family", FAMILIES)
def test_legrad_grad_cam_and_gae_by_autograd_on_the_difference(loaded, family, gradient):
    folder, model = loaded(family)
    local, channels, spread = (
        maps_of(model, name, against=AGAINST, gradient=gradient)["map"] for name in ("legrad", "grad-cam", "gae")
    )
    captions, pixels, spreads = model.tokenize(CAPTIONS), pixels_of(model), []
    for number in (1, 3):
        image, row = PAIRS[number]
        with watched(folder, family, gradient) as (literal, seen):
            given = (literal, seen, family, pixels[image].values[None], captions, row, gradient)
            pair = Difference(*given, captions=captions, other=AGAINST[number])
            wanted = paper.legrad(pair), paper.grad_cam(pair), propagated(pair, model.spec.scoring.scale)
        for mine, expected in zip((local, channels, spread), wanted, strict=True):
            close(mine[number], expected)
        spreads.append([float(expected.detach().std()) for expected in wanted])
    assert np.all(np.max(spreads, 0) > 0)  # ReLU may leave nothing of one map


def propagated(pair, scale):
    """Chefer et al.'s rules on the image tower, of the logit of the difference."""
    total = torch.eye(pair.vision[0]["a"].shape[-1], dtype=torch.float64)
    for layer in pair.vision:
        (slope,) = torch.autograd.grad(scale * pair.score(pair.image), layer["a"], retain_graph=True)
        step = (slope * layer["a"]).detach()[0].clamp_min(0).mean(0) @ total
        if len(step) == 1:
            return step[0]
        total = total + step
    return total[0][pair.patches]


def close(mine, expected, rtol=1e-3):
    expected = expected.detach()
    torch.testing.assert_close(
        mine.flatten().double(), expected, rtol=rtol, atol=float(1e-5 * expected.abs().max() + 1e-12)
    )


@dataclass(frozen=True)
class Two:
    """What two probes say, less each other, where an image is altered; the caption's where that is."""

    own: CoverProbe
    other: CoverProbe

    def __getattr__(self, name):
        if name in ("covered_images", "shown_cells", "gradient_at"):
            return lambda *given: getattr(self.own, name)(*given) - getattr(self.other, name)(*given)
        return getattr(self.own, name)


def less(own: Tower, other: Tower) -> Tower:
    return replace(own, w=tuple(a - b for a, b in zip(own.w, other.w, strict=True)))


@pytest.mark.parametrize("name", SEEING)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_method_explains_what_the_difference_of_two_ordinary_captures_holds(loaded, family, name):
    """Gradients, alignments and altered scores are linear in the text: two captures without `against` give them all."""
    model, method = loaded(family)[1], METHODS[name]
    mine = maps_of(model, name, against=AGAINST)
    params = method.params(**quick.PARAMS.get(name, {}))
    engine = Engine.build(model, method, params)
    pixels, captions = pixels_of(model), model.tokenize(CAPTIONS)
    values = torch.stack([p.values for p in pixels])
    sides, probes = [], []
    for columns in ([column for _, column in PAIRS], AGAINST):
        pairs = [(row, column) for (row, _), column in zip(PAIRS, columns, strict=True)]
        sides.append(model.capture(pixels, captions, pairs, engine.request))
        probes.append(CoverProbe(model, values, captions, *torch.tensor(pairs).T))
    own, other = sides
    parts = {
        "image": less(own.image, other.image),
        "own": own.own and less(own.own, other.own),
        "entering": tuple(
            replace(a, gradient=a.gradient - b.gradient) for a, b in zip(own.entering, other.entering, strict=True)
        ),
        "alignment": None if own.alignment is None else own.alignment - other.alignment,
        "alone": None if own.alone is None else own.alone - other.alone,
        "surgery": own.surgery and replace(own.surgery, empty=torch.zeros_like(own.surgery.empty)),
    }
    if own.surgery:
        parts["surgery"] = replace(parts["surgery"], text=own.surgery.text - other.surgery.text)
    whole = replace(own, **parts, seeds=SEEDS)
    object.__setattr__(whole, "probe", Two(*probes))
    expected = method.explain(
        whole, params, method.prepare(params, Target("m", "s", engine.request.layers, model.spec.scoring))
    )
    for field, values_of in expected.fields.items():
        scale = float(values_of.abs().max())
        torch.testing.assert_close(mine[field], values_of, rtol=1e-3, atol=1e-4 * scale + 1e-9)
    plain = maps_of(model, name)
    assert (mine["map"] - plain["map"]).abs().max() > 1e-3 * plain["map"].abs().max()


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_of_itself_whether_its_map_is_the_same_for_any_caption(tiny, name):
    model, method = load_model(str(tiny), "cpu", "float32"), METHODS[name]
    engine = Engine.build(model, method, method.params(**quick.PARAMS.get(name, {})))
    pixels = pixels_of(model)[:2]
    captions = model.tokenize(["a red dog", "two blue cats"])
    pairs = [(0, 0), (0, 1), (1, 1)]
    probe = CoverProbe(model, torch.stack([p.values for p in pixels]), captions, *torch.tensor(pairs).T)
    truth = {"truth": torch.rand(1, *model.spec.grid).expand(3, -1, -1)} if "truth" in method.needs else {}
    capture = model.capture(pixels, captions, pairs, engine.request)
    capture = replace(capture, probe=probe, seeds=(7, 7, 8), **truth)  # as if they were one record
    first, second, _ = method.explain(capture, engine.params, engine.state).fields["map"]
    assert torch.allclose(first, second, rtol=1e-5, atol=1e-7) == method.caption_blind


def test_one_head_explains_the_difference_of_the_modified_tower(tiny):
    model = load_model(str(tiny), "cpu", "float32")
    both, own, other = (
        maps_of(model, "grad-eclip", *given, heads="single") for given in ((None, AGAINST), (), (AGAINST,))
    )
    difference = own["layers/loosened"] - other["layers/loosened"]  # linear before the ReLU
    torch.testing.assert_close(both["layers/loosened"], difference, rtol=0, atol=1e-6)
    torch.testing.assert_close(both["map"], difference.sum(1).relu(), rtol=0, atol=1e-6)


def batch_of(model, against):
    """One image with two captions, the second padded to the length of what it is against."""
    pixels = pixels_of(model)[0]
    samples = [
        Sample(f"{text}#0", "a.png", ImageRef("a.png", partial(open, "a.png")), text, against=other)
        for text, other in zip(("a red dog", "blue"), against, strict=True)
    ]
    return Batch(samples, {"a.png": Decoded(pixels, (50, 45))})


def test_the_engine_gives_both_scores_and_leaves_the_caption_side_alone(tiny):
    model = load_model(str(tiny), "cpu", "float32")
    words = Words.of(model, WordOptions(regions=True))
    engine = Engine.build(model, METHODS["flow"], METHODS["flow"].params(), left_out=LeftOut(model), words=words)
    against = ["two blue cats", "a red dog"]
    explained, failures = engine.explain(batch_of(model, against))
    plain, _ = engine.explain(batch_of(model, [None, None]))
    assert not failures
    image = model.embed_images(pixels_of(model)[0].values[None])[0]
    for record, like, other in zip(explained, plain, against, strict=True):
        assert (record.against, like.against) == (other, None)
        assert record.against_score == pytest.approx(
            float(image @ model.embed_texts(model.tokenize([other]))[0]), abs=1e-6
        )
        assert record.score == pytest.approx(like.score, abs=1e-6)
        assert np.allclose(record.token_map, like.token_map, atol=1e-6)
        assert np.array_equal(record.word_values, like.word_values)
        assert np.allclose(record.fields["words/share"], like.fields["words/share"], atol=1e-6)  # of the caption's own
        assert np.allclose(record.fields["words/map"], like.fields["words/map"], atol=1e-6)
        assert not np.allclose(record.map, like.map, atol=1e-4)
        assert like.against_score is None


def test_texts_that_the_model_reads_alike_are_a_failure_and_no_map_of_rounding(tiny):
    """Longer than the context, they differ behind what is read."""
    model = load_model(str(tiny), "cpu", "float32")
    engine = Engine.build(model, METHODS["flow"], METHODS["flow"].params())
    batch = batch_of(model, ["two blue cats", "a red dog"])
    long = "a red dog " * 40
    batch.samples[0] = replace(batch.samples[0], caption=f"{long}cat", against=f"{long}dog")
    explained, (failure,) = engine.explain(batch)
    assert [record.against for record in explained] == ["a red dog"]
    assert (failure.id, failure.stage) == (batch.samples[0].id, "caption")
    assert "same tokens" in failure.error


def test_what_cannot_be_explained_is_refused_by_name(tiny):
    model = load_model(str(tiny), "cpu", "float32")
    blind = Engine.build(model, METHODS["rollout"], METHODS["rollout"].params())
    with pytest.raises(MmelError, match="method rollout makes the same map for any caption"):
        blind.explain(batch_of(model, ["x", "y"]))
    engine = Engine.build(model, METHODS["flow"], METHODS["flow"].params())
    with pytest.raises(MmelError, match="explain them apart"):
        engine.explain(batch_of(model, ["x", None]))
    model.spec = replace(model.spec, gives=model.spec.gives - {"against"})
    with pytest.raises(ModelError, match="does not take --against"):
        engine.explain(batch_of(model, ["x", "y"]))

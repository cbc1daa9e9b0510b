"""METHOD 4's objectives against plain numpy, and the store and the loop on problems with a known answer."""

import math

import numpy as np
import pytest
import torch

from mmel_cli.attribution import hsrm
from mmel_cli.attribution.weights import PARAMETERS, untrained
from mmel_cli.errors import MmelError
from mmel_cli.fields import Sizes
from mmel_cli.training import Examples, ExampleStore, Objective, Trainer, TrainOptions, split_of
from mmel_cli.training.objectives import distance, energy_inside, mask_cosine, peak_inside, soft_scores
from mmel_cli.types import Explanation

LAYERS, GRID, SCALES = 3, (4, 4), (1, 2)


def record(rng, number, image="i"):
    """A record whose layer 2 finds the truth and whose other layers are noise."""
    truth = np.zeros(GRID, np.float32)
    row, column = divmod(int(rng.integers(16)), 4)
    truth[row, column] = 1
    sizes = Sizes(LAYERS, GRID, 0, 0)
    fields = {f.name: rng.normal(size=f.shape(sizes)).astype(np.float32) for f in hsrm.declared(SCALES)}
    fields["layers/flow"][1] = 2 * truth + 0.1 * fields["layers/flow"][1]
    for kind in ("lambda", "attention"):
        fields[f"layers/{kind}"] = np.abs(fields[f"layers/{kind}"]) / 4
    fields["map"] = np.zeros(GRID, np.float32)
    made = Explanation(f"{image}{number}", image, "c", False, 0.1, (8, 8), (0, 0, 8, 8), fields)
    return made, {"truth": truth}


def filled(folder, count, seed=0):
    store, rng = ExampleStore(folder, SCALES), np.random.default_rng(seed)
    for number in range(count):
        store.add(*record(rng, number))
    return store


def test_energy_and_cosine_by_hand():
    maps = torch.tensor([[[3.0, -1.0], [1.0, 0.0]], [[-1.0, -2.0], [-3.0, 0.0]]])
    truth = torch.tensor([[[1.0, 0.0], [0.5, 0.0]]] * 2)
    np.testing.assert_allclose(energy_inside(maps, truth).numpy(), [3.5 / 4, 0.0], rtol=1e-6)
    first = maps[0].numpy().ravel() @ truth[0].numpy().ravel()
    first /= np.linalg.norm(maps[0].numpy()) * np.linalg.norm(truth[0].numpy())
    assert mask_cosine(maps, truth)[0].item() == pytest.approx(first, rel=1e-6)


def test_soft_scores_reach_hard_insertion_and_deletion_as_the_threshold_sharpens():
    """A linear model on the picture's first channel: scores are sums over the kept pixels."""
    rng = np.random.default_rng(0)
    weights = torch.from_numpy(rng.normal(size=(8, 8)).astype(np.float32))
    images = torch.from_numpy(rng.normal(size=(2, 3, 8, 8)).astype(np.float32))
    maps = torch.from_numpy(rng.normal(size=(2, 8, 8)).astype(np.float32))  # a cell a pixel: nothing to enlarge

    def embed(values):
        return (values[:, 0] * weights).sum((1, 2))[:, None]

    objective = Objective(0, 1, 0, fractions=(0.25, 0.5), softness=1e-5, embed=embed)
    kept, removed = soft_scores(maps, (images, torch.zeros_like(images)), torch.ones(2, 1), objective)
    for number in range(2):
        high = np.sort(maps[number].numpy().ravel())[::-1]
        pixels = (images[number, 0] * weights).numpy()
        sums = [pixels[maps[number].numpy() >= high[count - 1]].sum() for count in (16, 32)]
        assert kept[number].item() == pytest.approx(np.mean(sums), rel=1e-4)
        assert removed[number].item() == pytest.approx(pixels.sum() - np.mean(sums), rel=1e-4)


def test_objectives_are_differentiable_in_the_map():
    maps = torch.randn(1, 3, 3, dtype=torch.float64, requires_grad=True)
    truth = torch.rand(1, 3, 3, dtype=torch.float64)
    images = torch.rand(1, 3, 6, 6, dtype=torch.float64)
    weights = torch.rand(6, 6, dtype=torch.float64)
    objective = Objective(
        1.0, 1.0, 0.0, fractions=(0.3,), softness=1.0, fill=torch.zeros_like,
        embed=lambda values: (values[:, 0] * weights).sum((1, 2))[:, None],
    )  # fmt: skip
    examples = Examples(None, truth, images, torch.ones(1, 1, dtype=torch.float64))
    kept = objective.measure(maps, examples)["kept"].sum()
    assert torch.autograd.grad(kept, maps)[0].abs().sum() > 0
    assert torch.autograd.gradcheck(
        lambda m: energy_inside(m, truth).clamp_min(1e-6).log() + mask_cosine(m, truth), (maps,)
    )


def test_the_store_gives_back_what_it_took_in_any_order(tmp_path):
    rng = np.random.default_rng(3)
    records = [record(rng, number) for number in range(5)]
    with ExampleStore(tmp_path, SCALES) as store:
        for made, extra in records:
            store.add(made, extra)
        assert list(tmp_path.iterdir()) == []  # unnamed: a kill leaves nothing behind
        found = store.read([3, 0], torch.device("cpu"))
        for place, number in enumerate((3, 0)):
            made, extra = records[number]
            np.testing.assert_array_equal(found.evidence.flow[place], made.fields["layers/flow"])
            np.testing.assert_array_equal(found.evidence.looseness[place], made.fields["layers/lambda"])
            np.testing.assert_array_equal(found.evidence.shared[2][place], made.fields["layers/shared_2"])
            np.testing.assert_array_equal(found.truth[place], extra["truth"])
        with pytest.raises(ValueError, match="other shapes"):
            store.add(records[0][0], {})


def trained(folder, epochs=12, **options):
    settings = TrainOptions(epochs=epochs, batch=8, learning_rate=0.2, regularisation=0.0, **options)
    trainer = Trainer(untrained(LAYERS, SCALES), Objective(1, 0, settings.regularisation), settings)
    stores = filled(folder, 48), filled(folder, 16, seed=1)
    while not trainer.finished:
        list(trainer.epoch(*stores, torch.device("cpu")))
    return trainer


def test_training_finds_the_layer_that_knows(tmp_path):
    trainer = trained(tmp_path)
    first, best = trainer.history[0], [step for step in trainer.history if step.best][-1]
    assert best.parts["energy"] > first.parts["energy"] + 0.2
    assert int(trainer.best.layer.argmax()) == 1
    assert best.validation == min(step.validation for step in trainer.history)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path):
    first, again, other = (trained(tmp_path, epochs=3, seed=seed).weights for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first.tensors(), again.tensors(), strict=True))
    assert not torch.equal(first.layer, other.layer)


def test_a_restored_training_goes_on_bit_for_bit(tmp_path):
    whole = trained(tmp_path, epochs=6)
    settings = whole.options
    stores = filled(tmp_path, 48), filled(tmp_path, 16, seed=1)
    part = Trainer(untrained(LAYERS, SCALES), whole.objective, settings)
    for _ in range(4):
        list(part.epoch(*stores, torch.device("cpu")))
    again = Trainer(untrained(LAYERS, SCALES), whole.objective, settings)
    again.restore(part.state(), part.history)
    while not again.finished:
        list(again.epoch(*stores, torch.device("cpu")))
    for mine, theirs in ((whole.best, again.best), (whole.weights, again.weights)):
        assert all(torch.equal(a, b) for a, b in zip(mine.tensors(), theirs.tensors(), strict=True))


def test_only_what_is_to_be_learned_moves(tmp_path):
    weights, start = trained(tmp_path, epochs=2, learn=("layer", "mix")).weights, untrained(LAYERS, SCALES)
    moved = {name for name in PARAMETERS if not torch.equal(getattr(weights, name), getattr(start, name))}
    assert moved == {"layer", "mix"}


def test_patience_ends_a_training_that_gains_nothing(tmp_path):
    trainer = trained(tmp_path, epochs=50, patience=2, learn=("relation",))
    last = max(step.epoch for step in trainer.history if step.best)
    assert trainer.history[-1].epoch == min(50, last + 2)


def test_regularisation_holds_the_defaults(tmp_path):
    settings = TrainOptions(epochs=6, batch=8, learning_rate=0.2)
    gaps = []
    for strength in (0.0, 100.0):
        trainer = Trainer(untrained(LAYERS, SCALES), Objective(1, 0, strength), settings)
        stores = filled(tmp_path, 32), filled(tmp_path, 8, seed=1)
        while not trainer.finished:
            list(trainer.epoch(*stores, torch.device("cpu")))
        gaps.append(float(distance(trainer.best)))
    assert gaps[1] < 0.1 * gaps[0]


def test_the_split_is_by_image_and_keeps_its_share():
    sides = [split_of(f"image{n}", TrainOptions(validation=0.25)) for n in range(2000)]
    assert sides == [split_of(f"image{n}", TrainOptions(validation=0.25)) for n in range(2000)]
    assert sides.count("validation") / 2000 == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 2000))
    assert sides != [split_of(f"image{n}", TrainOptions(validation=0.25, seed=1)) for n in range(2000)]


@pytest.mark.parametrize(
    ("setting", "says"),
    [({"learn": ("magic",)}, "magic"), ({"validation": 1.0}, "validation"), ({"fractions": (2.0,)}, "fractions")],
)
def test_options_are_checked(setting, says):
    with pytest.raises(ValueError, match=says):
        TrainOptions(**setting)


def test_the_peak_is_a_soft_pointing_game():
    truth = torch.zeros(1, 4, 4)
    truth[0, 1, 2] = 1
    inside, outside = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    inside[0, 1, 2], outside[0, 3, 3] = 5.0, 5.0
    weights = np.exp([8.0, *[0.0] * 15])
    assert peak_inside(inside, truth).item() == pytest.approx(weights[0] / weights.sum(), rel=1e-5)
    assert peak_inside(outside, truth).item() == pytest.approx(weights[1] / weights.sum(), rel=1e-5)
    torch.testing.assert_close(peak_inside(3 * inside, truth), peak_inside(inside, truth))


def test_maps_are_compared_with_the_finer_truth_as_metrics_read_them():
    """The store's truth has twice the cells: the loss is that of the bilinearly enlarged map."""
    maps, truth = torch.rand(2, *GRID), torch.rand(2, 8, 8)
    parts = Objective(1, 0, 0).measure(maps, Examples(None, truth))
    large = torch.nn.functional.interpolate(maps[:, None], (8, 8), mode="bilinear")[:, 0]
    torch.testing.assert_close(parts["energy"], energy_inside(large, truth))
    expected = 2 * (1 - parts["energy"]) + (1 - parts["cosine"]) + (1 - parts["peak"])
    torch.testing.assert_close(parts["localization"], expected)


def test_the_soft_threshold_goes_by_rank():
    """Half its way where `softness` of the pixels lie: a strongly skewed map is cut as softly as its own ranks."""
    ranks_only = torch.linspace(0, 1, 64).view(1, 8, 8)
    kept = {}
    for name, maps in (("ranks", ranks_only), ("skewed", (8 * ranks_only).exp())):
        objective = Objective(0, 1, 0, fractions=(0.5,), softness=0.1, embed=lambda v: v[:, 0].mean((1, 2))[:, None])
        images = torch.ones(1, 3, 8, 8)
        kept[name] = soft_scores(maps, (images, torch.zeros_like(images)), torch.ones(1, 1), objective)[0].item()
    assert kept["ranks"] == pytest.approx(0.5, abs=0.02)
    assert kept["skewed"] == pytest.approx(kept["ranks"], abs=0.08)  # 0.62 and more with a width in standard deviations


def test_microbatches_give_the_gradient_of_the_whole_batch(tmp_path):
    store = filled(tmp_path, 12)
    moved = []
    for size in (12, 5):
        settings = TrainOptions(batch=12, microbatch=size, epochs=1)
        trainer = Trainer(untrained(LAYERS, SCALES), Objective(1, 0, 0.001), settings)
        for _ in range(2):
            list(trainer.epoch(store, store, torch.device("cpu")))
        moved.append(trainer.weights)
    for one, other in zip(moved[0].tensors(), moved[1].tensors(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_memory_that_runs_out_halves_a_step_without_changing_it(tmp_path, monkeypatch):
    store, moved, sizes, real = filled(tmp_path, 12), [], [], Objective.measure

    def small_memory(objective, maps, examples):
        sizes.append(len(examples))
        if len(examples) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(objective, maps, examples)

    for measure in (real, small_memory):
        monkeypatch.setattr(Objective, "measure", measure)
        trainer = Trainer(untrained(LAYERS, SCALES), Objective(1, 0, 0.001), TrainOptions(batch=12, epochs=1))
        for _ in range(2):
            list(trainer.epoch(store, store, torch.device("cpu")))
        moved.append(trainer)
    assert max(sizes) == 12
    for one, other in zip(moved[0].weights.tensors(), moved[1].weights.tensors(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
    assert moved[1].history[-1].parts == pytest.approx(moved[0].history[-1].parts, rel=1e-5)


def test_a_record_that_exhausts_the_memory_alone_is_one_line(tmp_path, monkeypatch):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Objective, "measure", no_memory)
    store, trainer = filled(tmp_path, 3), Trainer(untrained(LAYERS, SCALES), Objective(1, 0, 0), TrainOptions())
    with pytest.raises(MmelError, match="a single record exhausts the device's memory; train with fewer"):
        list(trainer.epoch(store, store, torch.device("cpu")))

"""Scores depend on nothing but the maps: neither on batch sizes nor on the order of the input."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch

from mmel_cli.evaluation import METRICS, Metric, Name, Outcome, named
from mmel_cli.evaluation.bench import Bench
from mmel_cli.model import load_model

SETTINGS = ["faithfulness.steps=3", "comparison.resamples=99", "sanity.samples=2", "sanity.depths=2", "aid.points=5"]
QUICK = [part for setting in [*SETTINGS, "sanity.draws=2", "rivals=4"] for part in ("--set", setting)]


def table(folder):
    with (folder / "per_record.csv").open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def scored(tmp_path_factory, tiny):
    """The same scenes twice, in two orders, with ids that say the same; and their maps."""
    from mmel_cli.config import load_config
    from mmel_cli.data.scenes.folder import write_scenes
    from mmel_cli.pipelines.explain import explain

    root = tmp_path_factory.mktemp("orders")
    write_scenes(root / "straight", 6, 3, side=64)
    shutil.copytree(root / "straight", root / "shuffled")
    rows = [json.loads(line) for line in (root / "straight/metadata.jsonl").read_text().splitlines()]
    rows = [row | {"id": f"record {number}"} for number, row in enumerate(rows)]
    order = np.random.default_rng(0).permutation(len(rows))
    for name, kept in (("straight", rows), ("shuffled", [rows[k] for k in order])):
        (root / name / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
        settings = {"model": str(tiny), "heatmaps": False, "device": "cpu", "batch_size": 5}
        settings |= {"words.regions": True, "words.texts": 8}
        explain(root / name, root / f"run-{name}", load_config(None, (), settings))
    return root


@pytest.mark.slow
def test_batch_sizes_and_order_do_not_matter(scored, tmp_path, mmel):
    tables = []
    for run, size in (("straight", 1), ("straight", 16), ("shuffled", 5)):
        out = tmp_path / f"{run}-{size}"
        code, _, err = mmel(
            "eval", scored / f"run-{run}", "--metrics", "all", "--out", out, "--batch-size", size, *QUICK
        )
        assert code == 0, err
        tables.append(table(out))
    first, *others = tables
    undefined = {name for name in named() if not any(row[name] for row in first.values())}
    unread = {"phrase-choice", "region-agreement", "recognition-3", "recognition-4"}  # 16 tokens end before their names
    assert undefined - {"aid"} == {"interaction-residual"} | unread  # and no method here archives a residual
    for other in others:
        assert other.keys() == first.keys()
        for record, row in first.items():
            for name in named():
                one, two = row[name], other[record][name]
                assert bool(one) == bool(two), (record, name)
                if one:
                    assert float(two) == pytest.approx(float(one), rel=2e-3, abs=2e-4), (record, name)


def test_siblings_are_found_wherever_they_stand(scored, tmp_path, mmel):
    tables = []
    for run, size in (("straight", 16), ("shuffled", 1)):
        out = tmp_path / run
        names = "caption-change,caption-contrast"
        assert mmel("eval", scored / f"run-{run}", "--metrics", names, "--out", out, "--batch-size", size)[0] == 0
        tables.append(table(out))
    assert sum(bool(row["caption-change"]) for row in tables[0].values()) == len(tables[0])
    for record, row in tables[0].items():
        for name in ("caption-change", "caption-contrast"):
            assert bool(row[name]) == bool(tables[1][record][name])
            if row[name]:
                assert float(tables[1][record][name]) == pytest.approx(float(row[name]), abs=1e-4)


class Mass(Metric):
    """A metric that the package does not know: the sum of a map's magnitudes, and the score that came with it."""

    names = (
        Name("mass", "up", (0, float("inf")), "sum of magnitudes"),
        Name("cosine", "up", (-1, 1), "the cosine as it is now"),
    )
    group = "outside"
    source = "a test"
    needs = frozenset({"images", "model"})

    def measure(self, bench, subjects):
        cosines = (bench.images(subjects) * bench.texts(subjects)).sum(-1).tolist()
        masses = [float(np.abs(s.record.map).sum()) for s in subjects]
        return [Outcome({"mass": m, "cosine": c}) for m, c in zip(masses, cosines, strict=True)]


def test_a_metric_from_outside_needs_nothing_but_the_registry(scored, tmp_path, mmel, monkeypatch):
    monkeypatch.setitem(METRICS, "mass", Mass())
    out = tmp_path / "out"
    code, shown, err = mmel("eval", scored / "run-straight", "--metrics", "Mass,outside", "--out", out, *QUICK)
    assert code == 0, err
    assert "mass (up is better)" in shown
    report = json.loads((out / "metrics.json").read_text())
    assert list(report["metrics"]) == ["mass", "cosine"]
    from mmel_cli import load_archive

    with load_archive(scored / "run-straight") as archive:
        for row in table(out).values():
            record = archive[row["id"]]
            assert float(row["mass"]) == pytest.approx(float(np.abs(record.map).sum()), rel=1e-6)
            assert float(row["cosine"]) == pytest.approx(record.score, abs=1e-4)


def test_memory_that_runs_out_halves_a_metric_and_names_the_record_that_is_too_large(
    scored, tmp_path, mmel, monkeypatch
):
    sizes = []

    class Hungry(Mass):
        def measure(self, bench, subjects):
            sizes.append(len(subjects))
            if len(subjects) > 2 or subjects[0].record.id == "record 3":
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().measure(bench, subjects)

    monkeypatch.setitem(METRICS, "mass", Hungry())
    out = tmp_path / "out"
    code, _, err = mmel("eval", scored / "run-straight", "--metrics", "mass", "--out", out, "--batch-size", 5, *QUICK)
    assert code == 3, err
    assert max(sizes) >= 5
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [failure["id"] for failure in failures] == ["record 3"]
    assert "exhausts the device's memory" in failures[0]["error"]
    assert "record 3" not in table(out)


def test_memory_that_runs_out_before_any_metric_costs_the_record_alone(scored, tmp_path, mmel, monkeypatch):
    """The images are embedded to see whether they are those that were explained."""
    real = Bench.images

    def images(bench, subjects):
        if len(subjects) > 2 or subjects[0].record.id == "record 3":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(bench, subjects)

    monkeypatch.setattr(Bench, "images", images)
    out = tmp_path / "out"
    code, _, err = mmel(
        "eval", scored / "run-straight", "--metrics", "insertion", "--out", out, "--batch-size", 5, *QUICK
    )
    assert code == 3, err
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [failure["id"] for failure in failures] == ["record 3"]
    assert len(table(out)) == len(table_of_ids(scored)) - 1


def table_of_ids(scored):
    from mmel_cli import load_archive

    with load_archive(scored / "run-straight") as archive:
        return archive.ids


def test_randomised_layers_stay_as_the_cascade_goes_down(tiny):
    """For one draw, what depth 1 re-initialised has the same values at depth 3; another draw has others."""
    model = load_model(str(tiny), "cpu", "float32")
    first, deep, other = model.randomised(1, seed=0), model.randomised(3, seed=0), model.randomised(1, seed=1)
    weights = [m._model.vision_model.encoder.layers[-1].self_attn.q_proj.weight for m in (first, deep, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    below = [m._model.vision_model.encoder.layers[-2].mlp.fc1.weight for m in (model, first, deep)]
    assert torch.equal(below[0], below[1])
    assert not torch.equal(below[0], below[2])

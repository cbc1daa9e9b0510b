"""Which parts of the HSRM carry the gain: trained part by part on training scenes, scored on test scenes.

    python scripts/ablate_weights.py --train runs/weights/train-run --test runs/table/mmel-untrained
        --reference runs/table/grad-eclip-last                                        (about 20 minutes on two cores)

The runs are those of scripts/train_shipped.py and scripts/table_scenes.py (mmel with all channels). Every row is
trained by `localization` alone, with 3 seeds (of the split and of the order); cells are the mean over seeds, and behind
it the spread (largest minus smallest). The plain start is flow at the patch scale, no gate, equal layers. The control
learns from the masks of other images. --weights adds files of `mmel train-weights` as they are. Prints Markdown, then
the difference from --reference on held-out shape-colour pairs and on scenes of 4 objects, with 95 % intervals.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from mmel_cli.archive import Archive, load_archive
from mmel_cli.attribution import Target
from mmel_cli.attribution.hsrm import Evidence, declared, fuse
from mmel_cli.attribution.weights import HsrmWeights, load_weights, untrained
from mmel_cli.data import reopen
from mmel_cli.data.images import decode
from mmel_cli.data.truth import read_truth
from mmel_cli.evaluation import localisation
from mmel_cli.evaluation.compare import ComparisonOptions, difference
from mmel_cli.evaluation.faithfulness import FaithfulnessOptions, embed_pixels
from mmel_cli.evaluation.ranking import area
from mmel_cli.geometry import to_grid, to_pixels
from mmel_cli.model import load_model
from mmel_cli.pipelines.fuse import check_fusable
from mmel_cli.pipelines.origin import read_notes
from mmel_cli.training import ExampleStore, Objective, Trainer, TrainOptions, split_of
from mmel_cli.training.objectives import FINER
from mmel_cli.types import Sample

SEEDS = (0, 1, 2)
METRICS = ("pointing-game", "energy-inside", "pixel-ap", "insertion-deletion")
STEPS = {  # parameters that are learned, added one by one
    "layer weights": ("layer",),
    "+ mix": ("layer", "mix", "negative"),
    "+ multi-scale": ("layer", "mix", "negative", "scale"),
    "+ relation": ("layer", "mix", "negative", "scale", "relation"),
    "+ gate": ("layer", "mix", "negative", "scale", "relation", "gate"),
    "+ consensus (all)": ("layer", "mix", "negative", "scale", "relation", "gate", "consensus"),
}
ALL = STEPS["+ consensus (all)"]
WITHOUT = {
    "all but mix": ("mix", "negative"),
    "all but multi-scale": ("scale",),
    "all but relation in the hierarchy": ("relation",),
    "all but consensus": ("consensus",),
    "all but gate and consensus": ("gate", "consensus"),
}


def neutral(layers: int, scales: tuple[int, ...], *, learnable: bool) -> HsrmWeights:
    """Every module off: flow at the patch scale, signs alike, no relation, a gate that is the same everywhere.

    `learnable`: all but off (b = 0.96, m = 0.95, g = 0.05), as from a saturated sigmoid nothing is ever learned.
    """
    start, far, finest_far = untrained(layers, scales), 3.0 if learnable else 6.0, 2.0 if learnable else 6.0
    finest = torch.full_like(start.scale, -finest_far)
    finest[:, 0] = finest_far
    return replace(
        start,
        mix=torch.full_like(start.mix, far),
        negative=torch.full_like(start.negative, 3.0),
        scale=finest,
        relation=torch.full_like(start.relation, -far),
        gate=torch.zeros_like(start.gate),
        consensus=torch.zeros_like(start.consensus),
    )


class Split:
    """The records of a run with their truth."""

    def __init__(self, run: Path, limit: int | None = None) -> None:
        source = reopen(read_notes(run)["input"])
        samples = {entry.id: entry for entry in source if isinstance(entry, Sample)}
        with load_archive(run) as archive:
            self.info, self.records = archive.info, list(islice(archive, limit))
            self.scales: tuple[int, ...] = tuple(check_fusable(archive, run).plain()["scales"])
        self.truth = [read_truth(samples[r.id], r.image_size) for r in self.records]
        lines = map(json.loads, (source.request.path / "metadata.jsonl").read_text().splitlines())
        said = {(row["file_name"], row["text"]): row for row in lines}
        self.rows = [said[r.image, r.caption] for r in self.records]
        self.refs = [samples[r.id].ref for r in self.records]
        self.images = np.unique([r.image for r in self.records], return_inverse=True)[1]

    @property
    def evidence(self) -> Evidence:
        """Of all records at once."""
        names = [field.name for field in declared(self.scales)]
        fields = {name: torch.from_numpy(np.stack([record.fields[name] for record in self.records])) for name in names}
        return Evidence.of(fields, self.scales)


def _store(place: str, split: Split) -> ExampleStore:
    return ExampleStore(Path(place), split.scales)


def train(
    split: Split, start: HsrmWeights, learn: tuple[str, ...], seed: int, *, shuffled: bool = False
) -> HsrmWeights:
    """The best weights of one training by localization."""
    options = TrainOptions(learn=learn, seed=seed, regularisation=0.0)
    grid = (split.info.grid[0] * FINER, split.info.grid[1] * FINER)
    order = np.random.default_rng(seed).permutation(len(split.records)) if shuffled else range(len(split.records))
    with tempfile.TemporaryDirectory() as place, _store(place, split) as one, _store(place, split) as other:
        for number, record in zip(order, split.records, strict=True):
            cells = to_grid(split.truth[number], record.box, grid)
            if cells.any():
                side = one if split_of(record.image, options) == "train" else other
                side.add(record, {"truth": cells})
        trainer = Trainer(start, Objective(1.0, 0.0, 0.0), options)
        while not trainer.finished:
            for _ in trainer.epoch(one, other, torch.device("cpu")):
                pass
    return trainer.best


class Scorer:
    """Metrics of maps of the test split."""

    def __init__(self, split: Split, model: str, faithful: int) -> None:
        self.split, self.model = split, load_model(model, "cpu", "float32")
        faithful_records = split.records[:faithful]
        decoded = [decode(ref) for ref in split.refs[: len(faithful_records)]]
        values = [self.model.preprocess(image, split.info.geometry).values for image in decoded]
        self.pixels = torch.stack(values) if values else torch.empty(0)
        if values:
            self.texts = self.model.embed_texts(self.model.tokenize([r.caption for r in faithful_records]))

    def __call__(self, maps: np.ndarray) -> dict[str, np.ndarray]:
        """(records,) of each metric; NaN where undefined or, for insertion-deletion, not measured."""
        options = localisation.LocalisationOptions()
        values_by_metric = {name: np.full(len(maps), np.nan) for name in METRICS}
        for number, (record, truth, values) in enumerate(zip(self.split.records, self.split.truth, maps, strict=True)):
            pixels, part = to_pixels(values, record.box, record.image_size)
            scores = localisation.localise(pixels, truth[part], options)
            for name in METRICS[:3]:
                values_by_metric[name][number] = np.nan if scores[name] is None else scores[name]
        count = len(self.pixels)
        if count:
            top = torch.from_numpy(np.ascontiguousarray(maps[:count]))
            embeds = embed_pixels(self.model, self.pixels, top, FaithfulnessOptions())
            curves = [torch.einsum("bpd,bd->bp", getattr(embeds, k), self.texts) for k in ("insertion", "deletion")]
            values_by_metric["insertion-deletion"][:count] = (area(curves[0]) - area(curves[1])).numpy()
        return values_by_metric


def line(name: str, scored: list[dict[str, np.ndarray]]) -> str:
    """A row of the table: mean over seeds, and the spread behind it."""
    cells = []
    for metric in METRICS:
        means = [float(np.nanmean(values[metric])) for values in scored]
        cells.append(f"{np.mean(means):.3f}" + (f" ({max(means) - min(means):.3f})" if len(means) > 1 else ""))
    return f"| {name} | " + " | ".join(cells) + " |"


def gains(name: str, mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray], split: Split) -> list[str]:
    """Paired differences on the parts of the test split that are unlike the training scenes."""
    parts = {
        "all": np.ones(len(split.rows), bool),
        "held-out pairs": np.array([bool(row.get("held_out")) for row in split.rows]),
        "4 objects": np.array([row.get("objects") == 4 for row in split.rows]),
    }
    lines = []
    for part, chosen in parts.items():
        cells = []
        for metric in METRICS:
            gap = difference(mine[metric][chosen], theirs[metric][chosen], split.images[chosen], ComparisonOptions())
            cells.append("-" if gap.mean is None else f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]")
        lines.append(f"| {name} | {part} ({chosen.sum()}) | " + " | ".join(cells) + " |")
    return lines


def maps_of(run: Path, split: Split) -> np.ndarray:
    """The maps of another run on the same records."""
    with load_archive(run) as archive:
        return np.stack([_same(archive, record.id) for record in split.records])


def _same(archive: Archive, name: str) -> np.ndarray:
    return archive[name].map


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--weights", type=Path, nargs="*", default=[])
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--faithful", type=int, default=100, help="records that insertion-deletion is measured on")
    parser.add_argument("--records", type=int, default=1000, help="to learn from")
    parser.add_argument("--rows", choices=("all", "steps", "without"), default="all")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    args = parser.parse_args()
    learned, tested = Split(args.train, args.records), Split(args.test)
    scorer, evidence = Scorer(tested, args.model, args.faithful), tested.evidence
    scales = tested.scales
    layers = len(tested.info.layers)
    target = Target(tested.info.model, tested.info.model_sha256, tested.info.layers)
    seeds = range(args.seeds)

    def scored(weights: HsrmWeights) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return scorer(fuse(evidence, weights).numpy())

    def show(name: str, start: HsrmWeights, learn: tuple[str, ...], *, shuffled: bool = False) -> None:
        of_seeds = [scored(train(learned, start, learn, seed, shuffled=shuffled)) for seed in seeds]
        print(line(name, of_seeds), flush=True)

    plain, off = (neutral(layers, scales, learnable=learnable) for learnable in (True, False))
    default = untrained(layers, scales)
    print(f"{len(tested.records)} test records, {len(learned.records)} to learn from")
    print(f"insertion-deletion is measured on {len(scorer.pixels)}\n")
    print("| weights | " + " | ".join(METRICS) + " |\n|" + " --- |" * (len(METRICS) + 1))
    reference = scorer(maps_of(args.reference, tested))
    print(line(args.reference.name, [reference]))
    print(line("plain start, untrained", [scored(plain)]), flush=True)
    for name, learn in STEPS.items() if args.rows in ("all", "steps") else ():
        show(name, plain, learn)
    print(line("defaults, untrained", [scored(default)]))
    if args.rows != "steps":
        show("defaults, all learned", default, ALL)
    for name, parts in WITHOUT.items() if args.rows in ("all", "without") else ():
        start = replace(default, **{part: getattr(off, part) for part in parts})
        show(name, start, tuple(part for part in ALL if part not in parts))
    if args.rows != "steps":
        show("control: masks of other images", default, ALL, shuffled=True)
    files = {path.stem: scored(load_weights(path, target, scales)) for path in args.weights}
    for name, values in files.items():
        print(line(name, [values]))
    print("\n| weights | records | " + " | ".join(METRICS) + " |\n|" + " --- |" * (len(METRICS) + 2))
    for name, values in {"untrained": scored(default), **files}.items():
        print("\n".join(gains(name, values, reference, tested)))


if __name__ == "__main__":
    main()

"""One training: epochs from a checkpoint on, the best weights kept, and what is written about them."""

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from mmel_cli import __version__
from mmel_cli.archive import Archive
from mmel_cli.attribution import Target
from mmel_cli.attribution.base import METHOD_VERSION
from mmel_cli.attribution.weights import METHOD_VERSION as HSRM_VERSION
from mmel_cli.attribution.weights import HsrmWeights, save_weights, untrained
from mmel_cli.config import TrainConfig, method_of, settings_of
from mmel_cli.errors import UsageError
from mmel_cli.evaluation.faithfulness import FaithfulnessOptions, baseline_images
from mmel_cli.model import Adapter, load_model
from mmel_cli.pipelines.examples import Collector, Sides
from mmel_cli.pipelines.origin import find_model
from mmel_cli.pipelines.provenance import changed, made_with
from mmel_cli.render.training import plot_training, plot_weights
from mmel_cli.runs import Events, RunFolder, differences, fingerprint, run_identity
from mmel_cli.runs.folder import CHECKPOINT, CURVE, PICTURE, TRAINING_LOG
from mmel_cli.training import Objective, Progress, Trainer, TrainOptions
from mmel_cli.types import RunInfo


@dataclass(frozen=True)
class Training:
    """What a training gave."""

    weights: str
    folder: str  # log, checkpoint and pictures
    epochs: int
    before: dict[str, float]  # parts of the objective on the validation images, untrained
    after: dict[str, float]  # the same with the best weights
    records: dict[str, int]  # of each side of the split
    images: dict[str, int]
    unusable: int  # without a mask or boxes, where those are needed
    failed: int  # named in failures.jsonl of the folder, or of the explained run in it
    complete: bool
    signal: int | None = None

    def plain(self) -> dict[str, Any]:
        """As a JSON object."""
        return {name: value for name, value in asdict(self).items() if name != "signal"}


def nothing_yet(out: Path, work: Path, stopped: int | None) -> Training:
    """Interrupted before the first epoch."""
    return Training(str(out), str(work), 0, {}, {}, {}, {}, 0, 0, complete=False, signal=stopped)


@dataclass(frozen=True)
class Learning:
    """One training on one archive, in its folder."""

    run: Path
    archive: Archive
    scales: tuple[int, ...]
    config: TrainConfig
    out: Path
    folder: RunFolder
    events: Events

    @property
    def options(self) -> TrainOptions:
        """The settings of the group `training`."""
        return self.config.training

    @property
    def info(self) -> RunInfo:
        """Of the run that is trained on."""
        return self.archive.info

    def train(self, stack: ExitStack, failed: int) -> Training:
        """Collect examples, run the epochs, write everything; `failed` pairs could not even be explained."""
        model = self._model() if self.options.objective != "localization" else None
        device = torch.device(model.spec.device if model else "cpu")
        collector = Collector(self.run, self.archive, self.scales, self.config, self.folder, model, self.events)
        sides = collector.collect(stack, failed)
        if self.folder.stop.asked():
            return nothing_yet(self.out, self.folder.path, self.folder.stop.signal)
        start = untrained(len(self.info.layers), self.scales).to(device)
        torch.manual_seed(self.options.seed)
        trainer = Trainer(start, _objective(self.options, model), self.options)
        identity = self._identity(sides, model)
        self._restore(trainer, identity)
        while not trainer.finished and not self.folder.stop.asked():
            for progress in trainer.epoch(sides.train, sides.validation, device):
                if progress is not None:
                    self._keep(trainer, progress, sides, identity)
                elif self.folder.stop.asked():
                    break
        return self._finish(trainer, sides)

    def _model(self) -> Adapter:
        if self.config.dtype == "float16":
            raise UsageError("--dtype float16: gradients underflow in it; train in float32 or bfloat16")
        name = find_model(self.run, self.info, self.config.model.name)
        self.events.message(f"Model: {name}")
        model = load_model(name, self.config.device, self.config.dtype, self.info.image_size)
        other = changed(model.spec, self.info)
        if other:
            raise UsageError(f"{self.run}: was explained with another model ({other}); give --model")
        return model

    def _identity(self, sides: Sides, model: Adapter | None) -> dict[str, str]:
        """Everything that decides what is learned."""
        examples = {"training examples (SHA-256)": sides.train, "validation examples (SHA-256)": sides.validation}
        versions = {"version of METHOD": METHOD_VERSION, "version of METHOD 3": HSRM_VERSION}
        made_from = {name: store.sha256() for name, store in examples.items()} | versions
        settings = {"training": self.config.plain()["training"]}
        return run_identity(settings, made_from | (made_with(model.spec) if model else {}))

    def _restore(self, trainer: Trainer, identity: dict[str, str]) -> None:
        """Go on from the checkpoint, if there is one of this training.

        Raises:
            UsageError: if it is of another; what differs is named with both values.
        """
        notes, path = self.folder.notes(), self.folder.path
        if "identity_sha256" not in notes:
            return
        if notes["identity_sha256"] != fingerprint(identity):
            was = "; ".join(differences(notes.get("identity") or {}, identity))
            raise UsageError(f"{path}: holds another training: {was}; give another --out, or --overwrite")
        lines = (path / TRAINING_LOG).read_text("utf-8").splitlines()
        tensors = load_file(path / CHECKPOINT)
        done = int(tensors.pop("epoch"))
        history = [Progress(**json.loads(line)) for line in lines][: done + 1]
        trainer.restore(tensors, [_from_json(step) for step in history])
        self.events.message(f"Going on after epoch {done}")

    def _keep(self, trainer: Trainer, progress: Progress, sides: Sides, identity: dict[str, str]) -> None:
        """Checkpoint, log and best weights after an epoch, each whole or not at all."""
        state = trainer.state() | {"epoch": torch.tensor(progress.epoch)}
        temporary = self.folder.path / f"{CHECKPOINT}.tmp"
        save_file(state, temporary)
        self.folder.write_text(TRAINING_LOG, "".join(_to_json(step) + "\n" for step in trainer.history))
        temporary.rename(self.folder.path / CHECKPOINT)
        noted = {"identity_sha256": fingerprint(identity), "identity": identity}
        self.folder.note(noted | {"run": str(self.run), "config": self.config.plain()})
        if progress.best:
            self._save(trainer, sides)
        parts = ", ".join(f"{name} {value:.4f}" for name, value in progress.parts.items())
        mark = " *" if progress.best else ""
        self.events.message(f"epoch {progress.epoch}: validation {progress.validation:.4f} ({parts}){mark}")

    def _save(self, trainer: Trainer, sides: Sides) -> None:
        info, best = self.info, _best(trainer.history)
        explained = method_of(settings_of(info)).plain()
        notes = {
            "mmel": __version__,
            "objective": self.options.objective,
            "temperature": explained["temperature"],
            "gradient": explained["gradient"],
            "data": {"records": sides.counts(), "images": sides.images},
            "before": trainer.history[0].parts,
            "after": best.parts,
            "training": self.config.plain()["training"],
        }
        temporary = self.out.with_name(self.out.name + ".tmp")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        save_weights(temporary, trainer.best, Target(info.model, info.model_sha256, info.layers), notes)
        temporary.rename(self.out)

    def _finish(self, trainer: Trainer, sides: Sides) -> Training:
        if not trainer.history:
            return nothing_yet(self.out, self.folder.path, self.folder.stop.signal)
        self._save(trainer, sides)  # an earlier call may have ended before it did, or the file may be gone
        plot_training([asdict(step) for step in trainer.history], self.folder.path / CURVE)
        best = trainer.best
        plot_weights(best.layer_weights().tolist(), self.info.layers, _shared(best), self.folder.path / PICTURE)
        return Training(
            weights=str(self.out),
            folder=str(self.folder.path),
            epochs=trainer.history[-1].epoch,
            before=trainer.history[0].parts,
            after=_best(trainer.history).parts,
            records=sides.counts(),
            images=sides.images,
            unusable=sides.unusable,
            failed=sides.failed,
            complete=trainer.finished,
            signal=self.folder.stop.signal,
        )


def _objective(options: TrainOptions, model: Adapter | None) -> Objective:
    chosen = options.objective
    both = Objective(
        localization=float(chosen != "faithfulness"),
        faithfulness={"localization": 0.0, "faithfulness": 1.0, "both": options.faithfulness_weight}[chosen],
        regularisation=options.regularisation,
        fractions=options.fractions,
        softness=options.softness,
    )
    if model is None:
        return both
    fill = FaithfulnessOptions(baseline=options.baseline, blur=options.blur)
    return Objective(
        **{name: getattr(both, name) for name in ("localization", "faithfulness", "regularisation")},
        fractions=options.fractions,
        softness=options.softness,
        embed=partial(model.embed_images, graph=True),
        fill=lambda images: baseline_images(model, images, fill),
    )


def _shared(weights: HsrmWeights) -> dict[str, float]:
    """The parameters that all layers share, by what METHOD 3 calls them."""
    scales = [f"r = {scale}" for scale in weights.scales]
    groups: dict[str, tuple[Sequence[str], torch.Tensor]] = {
        "mix m": (["flow"], weights.mix.sigmoid()[None]),
        "mix n": (["evidence against"], weights.negative.sigmoid()[None]),
        "scale b": (scales, weights.scale_blend()),
        "relation g": (scales, weights.relation.sigmoid()),
        "gate c": (["1", "alignment", "lambda", "attention", "support"], weights.gate),
        "gate d": ([f"consensus, {scale}" for scale in scales], weights.consensus),
    }
    return {
        f"{title}: {name}": value
        for title, (names, values) in groups.items()
        for name, value in zip(names, values.tolist(), strict=True)
    }


def _best(history: list[Progress]) -> Progress:
    return [step for step in history if step.best][-1]


def _to_json(step: Progress) -> str:
    return json.dumps({name: None if value != value else value for name, value in asdict(step).items()})  # noqa: PLR0124 - NaN


def _from_json(step: Progress) -> Progress:
    return Progress(**asdict(step) | {"train": math.nan if step.train is None else step.train})

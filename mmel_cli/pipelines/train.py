"""`mmel train-weights`: from a dataset or an archive to a weights file, its log and its pictures."""

import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file

from mmel_cli import __version__
from mmel_cli.archive import Archive, fingerprint, load_archive, lock
from mmel_cli.attribution import Target
from mmel_cli.attribution.weights import HsrmWeights, save_weights, untrained
from mmel_cli.config import RunConfig, TrainConfig, method_of
from mmel_cli.errors import UsageError
from mmel_cli.evaluation.faithfulness import FaithfulnessOptions, baseline_images
from mmel_cli.geometry import to_grid
from mmel_cli.model import Adapter, load_model
from mmel_cli.pipelines import folder
from mmel_cli.pipelines.batches import Loader
from mmel_cli.pipelines.control import Events, Stop
from mmel_cli.pipelines.explain import explain
from mmel_cli.pipelines.fuse import check_fusable
from mmel_cli.pipelines.origin import Input, find_input, find_model
from mmel_cli.pipelines.subjects import Stream, Subject
from mmel_cli.render.training import plot_training, plot_weights
from mmel_cli.training import ExampleStore, Objective, Progress, Trainer, TrainOptions, split_of
from mmel_cli.training.objectives import FINER
from mmel_cli.types import Failure, RunInfo

LOG, STATE, STATE_NOTES, EXPLAINED = "training.jsonl", "checkpoint.safetensors", "training.yaml", "run"
CURVE, PICTURE = "curve", "weights"
TRAINED = folder.Layout(
    "training", STATE_NOTES, (LOG, STATE, STATE_NOTES, folder.FAILURES, f"{CURVE}.*", f"{PICTURE}.*"), (EXPLAINED,)
)


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


def train_weights(
    source: Path, out: Path, config: TrainConfig, *, overwrite: bool = False, events: Events | None = None
) -> Training:
    """Learn the weights of `mmel` on a dataset folder, or on the archive of a run that `mmel` explained.

    A dataset is explained first, into the folder `<out without suffix>.training/run`, which is kept: the next training
    on it starts there. The same command goes on where it stopped.

    Args:
        source: a dataset folder, a run folder, a shard or a merged file.
        out: the weights file to write (.safetensors).
        config: see TrainConfig.
        overwrite: start the training anew (an explained run stays).
        events: what to tell meanwhile.

    Raises:
        UsageError: wrong settings, or an input without what the objective needs.
        ArchiveError, ModelError: see errors.py.
    """
    events, stop = events or Events(), Stop()
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: give the name of a weights file that ends in .safetensors")
    work = out.with_suffix(".training")
    with ExitStack() as stack:
        folder.prepare(work, TRAINED, overwrite=False)
        stack.enter_context(lock(work))
        folder.prepare(work, TRAINED, overwrite=overwrite)
        run, failed = source, 0
        if not _is_archive(source):
            run = work / EXPLAINED
            failed, stopped = _explain(source, run, config, events)
            if stopped is not None:
                return _nothing_yet(out, work, stopped)
        stack.enter_context(stop.watch())
        archive = stack.enter_context(load_archive(run))
        scales = check_fusable(archive, run).plain()["scales"]
        return _Job(run, archive, tuple(scales), config, out, work, events, stop).train(stack, failed)


@dataclass(frozen=True)
class _Sides:
    """The examples of a training, by side of the split."""

    train: ExampleStore
    validation: ExampleStore
    images: dict[str, int]
    unusable: int
    failed: int

    def counts(self) -> dict[str, int]:
        """Records a side."""
        return {"train": len(self.train), "validation": len(self.validation)}


@dataclass(frozen=True)
class _Job:
    """One training of one archive."""

    run: Path
    archive: Archive
    scales: tuple[int, ...]
    config: TrainConfig
    out: Path
    work: Path
    events: Events
    stop: Stop

    @property
    def options(self) -> TrainOptions:
        """The settings of the group `training`."""
        return self.config.training

    @property
    def info(self) -> RunInfo:
        """Of the run that is trained on."""
        return self.archive.info

    @property
    def uses_model(self) -> bool:
        """Whether the objective looks at images through the model."""
        return self.options.objective != "localization"

    @property
    def uses_truth(self) -> bool:
        """Whether the objective needs masks or boxes."""
        return self.options.objective != "faithfulness"

    def train(self, stack: ExitStack, failed: int) -> Training:
        """Collect examples, run the epochs, write everything; `failed` pairs could not even be explained."""
        model = self._model() if self.uses_model else None
        device = torch.device(model.spec.device if model else "cpu")
        sides = self._collect(stack, model, failed)
        if self.stop.asked():
            return _nothing_yet(self.out, self.work, self.stop.signal)
        start = untrained(len(self.info.layers), self.scales).to(device)
        torch.manual_seed(self.options.seed)
        trainer = Trainer(start, _objective(self.options, model), self.options)
        self._restore(trainer, sides)
        while not trainer.finished and not self.stop.asked():
            for progress in trainer.epoch(sides.train, sides.validation, device):
                if progress is not None:
                    self._keep(trainer, progress, sides)
                elif self.stop.asked():
                    break
        return self._finish(trainer, sides)

    def _model(self) -> Adapter:
        if self.config.dtype == "float16":
            raise UsageError("--dtype float16: gradients underflow in it; train in float32 or bfloat16")
        name = find_model(self.run, self.info, self.config.model)
        self.events.message(f"Model: {name}")
        model = load_model(name, self.config.device, self.config.dtype)
        if model.spec.sha256 != self.info.model_sha256:
            was, now = self.info.model_sha256[:12], model.spec.sha256[:12]
            raise UsageError(f"{self.run}: was explained with other weights (SHA-256 {was}, now {now}); give --model")
        return model

    def _collect(self, stack: ExitStack, model: Adapter | None, failed: int) -> _Sides:
        """Every usable record, on its side of the split."""
        source = find_input(self.run, self.info, self.config.data)
        if source.gone:
            raise UsageError(f"{self.run}: {source.gone}")
        self.events.message(f"Input: {source.shown}")
        train, validation = (stack.enter_context(ExampleStore(self.work, self.scales)) for _ in range(2))
        images: dict[str, set[int]] = {"train": set(), "validation": set()}
        unusable = 0
        log = stack.enter_context(folder.FailureLog(self.work))
        self.events.total(min(len(self.archive), self.config.limit or len(self.archive)))
        for subjects, failures in self._subjects(stack, source, model):
            log.add(failures)
            texts = _texts(subjects, model)
            for number, subject in enumerate(subjects):
                extra = self._extra(subject, texts[number] if texts is not None else None)
                if extra is None:
                    unusable += 1
                    continue
                side = split_of(subject.record.image, self.options)
                (train if side == "train" else validation).add(subject.record, extra)
                images[side].add(hash(subject.record.image))
            self.events.progress(len(subjects), len(failures))
            if self.stop.asked():
                break
        sides = _Sides(
            train, validation, {side: len(held) for side, held in images.items()}, unusable, failed + log.stages.total()
        )
        if not (len(train) and len(validation)) and not self.stop.asked():
            need = "with a mask or boxes" if self.uses_truth else "that can be read"
            found = f"{len(train)} records {need} to train on and {len(validation)} to validate"
            raise UsageError(f"{self.run}: {found}; give more images, or another training.validation or training.seed")
        note = f"{unusable} without truth, {sides.failed} failed"
        self.events.message(f"{len(train)} records to train on, {len(validation)} to validate, {note}")
        return sides

    def _subjects(
        self, stack: ExitStack, source: Input, model: Adapter | None
    ) -> Iterator[tuple[list[Subject], list[Failure]]]:
        pool = stack.enter_context(ThreadPoolExecutor(self.config.workers))
        limits = self.config.image.limits
        loader = Loader(pool, limits, partial(model.preprocess, geometry=self.info.geometry)) if model else None
        ids = self.archive.ids if self.config.limit is None else self.archive.ids[: self.config.limit]
        stream = Stream(
            self.archive, source, frozenset(ids), self.config.batch_size, loader, self.uses_truth, limits, pool
        )
        return stream.batches(())

    def _extra(self, subject: Subject, text: np.ndarray | None) -> dict[str, np.ndarray] | None:
        """What the objective needs besides the evidence; None where the record has it not."""
        extra: dict[str, np.ndarray] = {}
        if self.uses_truth:
            if subject.truth is None:
                return None
            finer = (self.info.grid[0] * FINER, self.info.grid[1] * FINER)
            extra["truth"] = to_grid(subject.truth, subject.record.box, finer)
            if not extra["truth"].any():
                return None
        if text is not None:
            assert subject.image is not None  # noqa: S101 - the stream was asked for images
            extra |= {"images": subject.image.pixels.values.numpy(), "texts": text}
        return extra

    def _identity(self, sides: _Sides) -> str:
        held = {"train": sides.train.sha256(), "validation": sides.validation.sha256(), "mmel": __version__}
        return fingerprint(held | {"training": self.config.plain()["training"]})

    def _restore(self, trainer: Trainer, sides: _Sides) -> None:
        """Go on from the checkpoint, if there is one of this training."""
        notes = self.work / STATE_NOTES
        if notes.exists():
            if yaml.safe_load(notes.read_text("utf-8")).get("identity_sha256") != self._identity(sides):
                raise UsageError(
                    f"{self.work}: holds a training of other records or settings; give another --out, or --overwrite"
                )
            lines = (self.work / LOG).read_text("utf-8").splitlines()
            tensors = load_file(self.work / STATE)
            done = int(tensors.pop("epoch"))
            history = [Progress(**json.loads(line)) for line in lines][: done + 1]
            trainer.restore(tensors, [_from_json(step) for step in history])
            self.events.message(f"Going on after epoch {done}")

    def _keep(self, trainer: Trainer, progress: Progress, sides: _Sides) -> None:
        """Checkpoint, log and best weights after an epoch, each whole or not at all."""
        state = trainer.state() | {"epoch": torch.tensor(progress.epoch)}
        temporary = self.work / f"{STATE}.tmp"
        save_file(state, temporary)
        folder.write_text(self.work / LOG, "".join(_to_json(step) + "\n" for step in trainer.history))
        temporary.rename(self.work / STATE)
        content = {"identity_sha256": self._identity(sides), "run": str(self.run), "config": self.config.plain()}
        folder.write_text(self.work / STATE_NOTES, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        if progress.best:
            self._save(trainer, sides)
        parts = ", ".join(f"{name} {value:.4f}" for name, value in progress.parts.items())
        mark = " *" if progress.best else ""
        self.events.message(f"epoch {progress.epoch}: validation {progress.validation:.4f} ({parts}){mark}")

    def _save(self, trainer: Trainer, sides: _Sides) -> None:
        info, best = self.info, _best(trainer.history)
        notes = {
            "mmel": __version__,
            "objective": self.options.objective,
            "temperature": method_of(info.config).plain()["temperature"],
            "data": {"records": sides.counts(), "images": sides.images},
            "before": trainer.history[0].parts,
            "after": best.parts,
            "training": self.config.plain()["training"],
        }
        temporary = self.out.with_name(self.out.name + ".tmp")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        save_weights(temporary, trainer.best, Target(info.model, info.model_sha256, info.layers), notes)
        temporary.rename(self.out)

    def _finish(self, trainer: Trainer, sides: _Sides) -> Training:
        if not trainer.history:
            return _nothing_yet(self.out, self.work, self.stop.signal)
        self._save(trainer, sides)  # an earlier call may have ended before it did, or the file may be gone
        plot_training([asdict(step) for step in trainer.history], self.work / CURVE)
        plot_weights(_tables(trainer.best), self.info.layers, self.work / PICTURE)
        return Training(
            weights=str(self.out),
            folder=str(self.work),
            epochs=trainer.history[-1].epoch,
            before=trainer.history[0].parts,
            after=_best(trainer.history).parts,
            records=sides.counts(),
            images=sides.images,
            unusable=sides.unusable,
            failed=sides.failed,
            complete=trainer.finished,
            signal=self.stop.signal,
        )


def _is_archive(path: Path) -> bool:
    return path.is_file() or (path / folder.ARCHIVE).is_dir() or any(path.glob("part-*.h5"))


def _explain(source: Path, out: Path, config: TrainConfig, events: Events) -> tuple[int, int | None]:
    """Explain a dataset with the untrained defaults, for its channels: how many failed, and the signal if one came."""
    events.message(f"Explaining {source} into {out}")
    summary, stopped = explain(source, out, RunConfig.model_validate(config.run_settings()), events=events)
    return summary.failed, stopped


def _nothing_yet(out: Path, work: Path, stopped: int | None) -> Training:
    """Interrupted before the first epoch."""
    return Training(str(out), str(work), 0, {}, {}, {}, {}, 0, 0, complete=False, signal=stopped)


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


def _texts(subjects: list[Subject], model: Adapter | None) -> np.ndarray | None:
    """Unit embeddings of the captions."""
    if model is None or not subjects:
        return None
    return model.embed_texts(model.tokenize([s.record.caption for s in subjects])).cpu().numpy()


def _tables(weights: HsrmWeights) -> dict[str, tuple[np.ndarray, Sequence[str]]]:
    """What the picture of the weights shows, in the terms of METHOD 3."""
    scales = [f"r = {scale}" for scale in weights.scales]
    layer = weights.layer.softmax(0) * len(weights.layer)
    groups: dict[str, tuple[torch.Tensor, Sequence[str]]] = {
        "layer": (layer[:, None], ["omega"]),
        "mix": (torch.stack([weights.mix.sigmoid(), weights.negative.sigmoid()], 1), ["m flow", "n against"]),
        "scale": (weights.scale_blend(), scales),
        "relation": (weights.relation.sigmoid(), scales),
        "gate": (weights.gate, ["1", "alignment", "lambda", "attention"]),
        "consensus": (weights.consensus, scales),
    }
    return {title: (values.cpu().numpy(), names) for title, (values, names) in groups.items()}


def _best(history: list[Progress]) -> Progress:
    return [step for step in history if step.best][-1]


def _to_json(step: Progress) -> str:
    return json.dumps({name: None if value != value else value for name, value in asdict(step).items()})  # noqa: PLR0124 - NaN


def _from_json(step: Progress) -> Progress:
    return Progress(**asdict(step) | {"train": math.nan if step.train is None else step.train})

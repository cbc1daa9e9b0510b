"""The training loop: Adam over the unconstrained parameters, early stopping, the best weights kept, checkpoints."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from mmel_cli.attribution.hsrm import fuse
from mmel_cli.attribution.weights import PARAMETERS, HsrmWeights
from mmel_cli.data.paths import record_seed
from mmel_cli.errors import MmelError
from mmel_cli.model.exhaustion import in_halves
from mmel_cli.training.objectives import Examples, Objective
from mmel_cli.training.options import TrainOptions
from mmel_cli.training.store import ExampleStore


@dataclass(frozen=True)
class Progress:
    """What one epoch gave: losses (lower is better) and the mean of each part of the objective on validation."""

    epoch: int  # 0 is before the first step
    train: float
    validation: float
    parts: dict[str, float]
    best: bool


@dataclass
class Trainer:
    """The state of a training, and how it moves on; the same seed gives the same numbers on a CPU.

    Args:
        weights: where to start.
        objective: see Objective.
        options: see TrainOptions.
    """

    weights: HsrmWeights
    objective: Objective
    options: TrainOptions
    best: HsrmWeights = field(init=False)
    history: list[Progress] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.best = self.weights
        self._optimiser = self._adam(self.weights)

    @property
    def finished(self) -> bool:
        """Whether the epochs are over, or `patience` of them went without gain."""
        if not self.history:
            return False
        last = max(step.epoch for step in self.history if step.best)
        now = self.history[-1].epoch
        return now >= self.options.epochs or now - last >= self.options.patience

    def epoch(self, train: ExampleStore, validation: ExampleStore, device: torch.device) -> Iterator[Progress | None]:
        """Run one epoch; yields None after every step, so that the caller may stop, and its Progress at the end.

        The first call only measures the start (epoch 0).
        """
        number = len(self.history)
        losses: list[float] = []
        if number:
            for step in _batches(len(train), self.options.batch, record_seed(f"{self.options.seed}/{number}")):
                losses.append(self._step(train.read(step, device)))
                yield None
        frozen = _frozen(self.weights)
        parts = self.evaluate(frozen, validation, device)
        value = float(self.objective.loss({name: torch.tensor([mean]) for name, mean in parts.items()}, frozen))
        least = min((step.validation for step in self.history), default=math.inf)
        if value < least:
            self.best = frozen
        train_loss = sum(losses) / len(losses) if losses else math.nan
        self.history.append(Progress(number, train_loss, value, parts, best=value < least))
        yield self.history[-1]

    @torch.no_grad()
    def evaluate(self, weights: HsrmWeights, store: ExampleStore, device: torch.device) -> dict[str, float]:
        """The mean of each part of the objective."""
        totals: dict[str, float] = {}
        for numbers in _batches(len(store), self.options.batch, None):
            examples = store.read(numbers, device)

            def measure(part: Sequence[int], examples: Examples = examples) -> dict[str, Tensor]:
                chosen = examples.rows(part[0], part[-1] + 1)
                return self.objective.measure(fuse(chosen.evidence, weights), chosen)

            for rows in self._microbatches(len(examples)):
                for parts in in_halves(measure, rows, _too_large):
                    for name, values in parts.items():
                        totals[name] = totals.get(name, 0.0) + float(values.double().sum())
        return {name: total / len(store) for name, total in totals.items()}

    def state(self) -> dict[str, Tensor]:
        """All tensors of a checkpoint: parameters, the best, and Adam's moments."""
        kinds = (("now", self.weights), ("best", self.best))
        tensors = {f"{kind}.{name}": getattr(weights, name).detach() for kind, weights in kinds for name in PARAMETERS}
        for name in self.options.learn:
            for key, value in self._optimiser.state.get(getattr(self.weights, name), {}).items():
                tensors[f"adam.{name}.{key}"] = value
        return {name: value.contiguous().clone() for name, value in tensors.items()}

    def restore(self, tensors: dict[str, Tensor], history: list[Progress]) -> None:
        """Go on from a checkpoint."""
        device = self.weights.layer.device
        for kind in ("now", "best"):
            values = [tensors[f"{kind}.{name}"].to(device) for name in PARAMETERS]
            setattr(self, "weights" if kind == "now" else "best", HsrmWeights(self.weights.scales, *values))
        self._optimiser = self._adam(self.weights)
        for name in self.options.learn:
            keys = [key for key in tensors if key.startswith(f"adam.{name}.")]
            if keys:
                moments = {key.rsplit(".", 1)[1]: tensors[key].clone() for key in keys}
                moments |= {key: moments[key].to(device) for key in moments if key != "step"}  # Adam counts on the CPU
                self._optimiser.state[getattr(self.weights, name)] = moments
        self.history = list(history)

    def _step(self, examples: Examples) -> float:
        """One step of the optimiser; gradients add up over parts, so the graph of one is in memory at a time."""
        learned = [getattr(self.weights, name) for name in self.options.learn]
        self._optimiser.zero_grad()

        def learn(part: Sequence[int]) -> float:
            chosen = examples.rows(part[0], part[-1] + 1)
            parts = self.objective.measure(fuse(chosen.evidence, self.weights), chosen)
            loss = self.objective.loss(parts, self.weights) * (len(chosen) / len(examples))
            gradients = torch.autograd.grad(loss, learned, allow_unused=True)
            for parameter, gradient in zip(learned, gradients, strict=True):  # only now that all of them fitted
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
            return float(loss.detach())

        total = sum(sum(in_halves(learn, rows, _too_large)) for rows in self._microbatches(len(examples)))
        self._optimiser.step()
        return total

    def _microbatches(self, count: int) -> list[range]:
        """The rows of a batch, some at a time."""
        size = self.options.microbatch
        return [range(start, min(start + size, count)) for start in range(0, count, size)]

    def _adam(self, weights: HsrmWeights) -> torch.optim.Adam:
        learned = {name: getattr(weights, name).detach().clone().requires_grad_() for name in self.options.learn}
        self.weights = replace(weights, **learned)
        return torch.optim.Adam(learned.values(), lr=self.options.learning_rate)


def _too_large(_row: int, error: Exception) -> Any:
    raise MmelError(
        "a single record exhausts the device's memory; train with fewer training.fractions, --dtype bfloat16 or "
        "another --device"
    ) from error


def split_of(image: str, options: TrainOptions) -> Literal["train", "validation"]:
    """Which side of the split an image is on, with all its captions; only its name and the seed decide."""
    place = record_seed(f"{options.seed}/split/{image}") / 2**62
    return "validation" if place < options.validation else "train"


def _batches(count: int, size: int, seed: int | None) -> Iterator[list[int]]:
    """Numbers 0 to count - 1 in batches, shuffled by a seed or in order."""
    order = torch.arange(count) if seed is None else torch.randperm(count, generator=_generator(seed))
    for part in order.split(size):
        yield part.tolist()


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed % 2**63)


def _frozen(weights: HsrmWeights) -> HsrmWeights:
    return HsrmWeights(weights.scales, *(tensor.detach().clone() for tensor in weights.tensors()))

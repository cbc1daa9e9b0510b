"""What a metric is: one or several numbers a record that are computed together."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from PIL.Image import Image

if TYPE_CHECKING:
    from mmel_cli.evaluation.bench import Bench, Subject

Need = Literal[
    "truth", "phrases", "images", "model", "captions", "method", "score", "tokens", "regions", "shares", "residual"
]  # fmt: skip
"""truth: masks or boxes; phrases: those of parts of the caption; images: the input's images; model: forwards of the
same weights; captions: a set of captions to tell the right one from; method: new maps from the run's own method; score:
maps of the caption's own score, not of its difference from that of another text. Of what the run archived: tokens: its
evidence of the caption's tokens; regions: the map of each word; shares: also its share and what is of no region;
residual: by how much all interactions miss what they should sum to."""

NO_NEEDS: frozenset[Need] = frozenset()
MODEL: frozenset[Need] = frozenset({"images", "model"})
CHOICE: frozenset[Need] = MODEL | {"captions", "score"}
AGAIN: frozenset[Need] = MODEL | {"method"}
TOKENS: frozenset[Need] = MODEL | {"tokens"}
TRUTH: frozenset[Need] = frozenset({"truth"})
PHRASES: frozenset[Need] = frozenset({"phrases"})
REGIONS: frozenset[Need] = MODEL | {"regions", "score"}

Copy = Callable[[Image], Image]
"""Makes of the upright RGB original the reduced copy that a metric needs."""


@dataclass(frozen=True)
class Name:
    """One number a record: what it is called, which direction is better, its range, and what it measures."""

    name: str
    better: Literal["up", "down", "neither"]
    span: tuple[float, float]  # smallest and largest possible value
    definition: str
    source: str = ""  # where it is not that of the metric


@dataclass
class Outcome:
    """What a metric found on one record; a name that is missing or None is undefined there."""

    values: dict[str, float | None] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)  # by name: the points of its curve
    layers: dict[str, list[float]] = field(default_factory=dict)  # by "field/name": one value a layer
    draws: dict[str, list[float]] = field(default_factory=dict)  # by name: its value for each random draw
    size: str | None = None  # small, medium, large: of the mask


class Metric(ABC):
    """A metric family. To add one: a file with a subclass, and a line in METRICS.

    `settings` names the groups of EvalConfig that decide its numbers; `needs` what it cannot be measured without.
    """

    names: ClassVar[tuple[Name, ...]]
    group: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = NO_NEEDS
    settings: ClassVar[tuple[str, ...]] = ()
    by_phrase: ClassVar[bool] = False  # takes the map of each phrase, which in some runs is the caption's one map

    @abstractmethod
    def measure(self, bench: "Bench", subjects: Sequence["Subject"]) -> Sequence[Outcome]:
        """Score records: one Outcome each, in their order.

        It must not matter which records come together, nor in which order: memory that runs out halves them.

        Args:
            bench: the model, the settings and everything that several metrics share.
            subjects: records with finite maps, and all that `needs` promises.
        """

    def copies(self, bench: "Bench") -> Mapping[str, Copy]:
        """Reduced copies of each original that `measure` finds in `subject.image.kept`, by name."""
        del bench
        return {}


def line(metric: Metric, name: Name) -> str:
    """For --help and the table of metrics."""
    low, high = name.span
    about = f"{name.name} ({low:g} to {high:g}, {name.better} is better)"
    return f"{about}: {name.definition} [{name.source or metric.source}]"

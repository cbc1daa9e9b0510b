"""The settings of a training."""

import math
from dataclasses import dataclass
from typing import Literal

from mmel_cli.attribution.weights import PARAMETERS


@dataclass(frozen=True)
class TrainOptions:
    """How the weights are learned.

    `objective`: localization (masks or boxes), faithfulness (no labels, through the model) or both, then with
    `faithfulness_weight`. `learn` names the parameters that move. `regularisation` pulls towards the untrained
    defaults. `validation` is the share of images that decide when to stop, after `patience` epochs without gain.
    `fractions` of the input, `softness`, `baseline` and `blur` belong to faithfulness (METHOD 4). `microbatch` records
    are in memory with their graph at a time; it changes rounding only.
    """

    objective: Literal["localization", "faithfulness", "both"] = "localization"
    faithfulness_weight: float = 4.0
    learn: tuple[str, ...] = PARAMETERS
    epochs: int = 40
    learning_rate: float = 0.02
    batch: int = 64
    microbatch: int = 16
    seed: int = 0
    patience: int = 6
    regularisation: float = 0.001
    validation: float = 0.2
    fractions: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7)
    softness: float = 0.05
    baseline: Literal["blur", "mean", "black"] = "blur"
    blur: float = 0.1

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.learn) - set(PARAMETERS)):
            raise ValueError(f"training.learn: no parameter {unknown[0]!r}; there are {', '.join(PARAMETERS)}")
        if not self.learn or min(self.epochs, self.batch, self.microbatch, self.patience) < 1:
            raise ValueError("training.learn, epochs, batch, microbatch and patience must not be empty or below 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError("training.seed must lie in 0..2^63 - 1")
        positive = (self.learning_rate, self.softness, self.faithfulness_weight)
        if not all(0 < value < math.inf for value in positive) or not 0 <= self.regularisation < math.inf:
            raise ValueError(
                "training.learning_rate, softness and faithfulness_weight must be above 0, regularisation not below 0, "
                "all of them finite"
            )
        if not 0 < self.validation < 1 or not 0 < self.blur <= 1:
            raise ValueError("training.validation and training.blur must lie in 0..1")
        if not self.fractions or not all(0 < part < 1 for part in self.fractions):
            raise ValueError("training.fractions must be parts of the image, between 0 and 1")

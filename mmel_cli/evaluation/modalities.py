"""How much of a score is the image's, the caption's, and both together's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

Members = Bool[np.ndarray, "coalitions players"]


@dataclass(frozen=True)
class ModalityOptions:
    """How image-share is estimated: the image in `regions` x `regions` parts, so many `permutations` of all players.

    Every second permutation is the one before it backwards. `seed` of what is drawn, with the record's id.
    """

    regions: int = 3
    permutations: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        if self.regions < 1 or self.permutations < 1:
            raise ValueError("modalities.regions and modalities.permutations must be at least 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError("modalities.seed must lie in 0..2^63 - 1")


def permutations(players: int, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Orders of the players; every second is the one before it backwards."""
    orders: list[np.ndarray] = []
    while len(orders) < count:
        drawn = rng.permutation(players)
        orders += [drawn, drawn[::-1]]
    return orders[:count]


def shapley(
    orders: Sequence[np.ndarray], first: int, worth: Callable[[Members, Members], Float[np.ndarray, "coalitions"]]
) -> Float[np.ndarray, "players"]:
    """What each player adds to those that came before it, on average over the orders.

    The values of players sum to the worth of all less that of none, whatever the orders are.

    Args:
        orders: of all players of both sides.
        first: how many of them are of the first side; those come first in number.
        worth: of coalitions, given as the members of the first and of the second side.
    """
    players = len(orders[0])
    joined = [np.concatenate([np.zeros((1, players), bool), _cumulative(order)]) for order in orders]
    members = np.concatenate(joined)
    worths = worth(members[:, :first], members[:, first:]).reshape(len(orders), players + 1)
    values = np.zeros(players)
    for order, along in zip(orders, worths, strict=True):
        values[order] += np.diff(along)
    return values / len(orders)


def share(first: np.ndarray, second: np.ndarray) -> float | None:
    """The first side's part of the magnitudes of all values; None where all are 0."""
    one, other = np.abs(first).sum(), np.abs(second).sum()
    return float(one / (one + other)) if one + other > 0 else None


def interaction_share(scores: Float[np.ndarray, "2 2"]) -> float | None:
    """InterSHAP of two modalities: |interaction| over that and the magnitudes of what each adds alone; None if all 0.

    Args:
        scores: [image there or not][text there or not], nothing first.
    """
    none, text, image, both = scores[0, 0], scores[0, 1], scores[1, 0], scores[1, 1]
    parts = abs(both - image - text + none), abs(image - none), abs(text - none)
    return float(parts[0] / sum(parts)) if sum(parts) > 0 else None


def _cumulative(order: np.ndarray) -> Members:
    """Who is there after each arrival."""
    place = np.argsort(order)
    return place[None] <= np.arange(len(order))[:, None]

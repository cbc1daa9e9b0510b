"""Shapley values of few players, exact or by regression, as one linear map of the worths of coalitions (METHOD 9)."""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Design:
    """Which coalitions of some players are looked at, and how their worths make Shapley values.

    The first coalition is empty, the last is whole. Values are `weights @ worths`, and sum to the worth of all players
    less that of none whatever the worths are. `gains` are what the last coalitions before the whole one add to the
    values: those that were drawn, in pairs of complements. An exact design has none.
    """

    members: Bool[np.ndarray, "coalitions players"]
    weights: Float[np.ndarray, "players coalitions"]
    gains: Float[np.ndarray, "players pairs two"]

    @property
    def exact(self) -> bool:
        """Whether all coalitions are looked at."""
        return len(self.members) == 1 << self.members.shape[1]

    def errors(self, worths: Float[np.ndarray, "coalitions"]) -> Float[np.ndarray, "players"]:
        """The standard error of each value; 0 where they are exact.

        The root of the sum, over drawn pairs, of the square of what the regression leaves over there, times its gain.
        """
        drawn = self.gains.shape[1] * self.gains.shape[2]
        rows = slice(len(self.members) - 1 - drawn, len(self.members) - 1)
        left = worths[rows] - worths[0] - self.members[rows] @ (self.weights @ worths)
        moved = (self.gains * left.reshape(self.gains.shape[1:])).sum(2)
        return np.sqrt(np.square(moved).sum(1))


@lru_cache(maxsize=128)
def design(players: int, most: int, seed: int = 0) -> Design:
    """All coalitions if they are at most `most`, else as many as that, but no fewer than 4 players + 2.

    Sampled: coalitions of 1 and players - 1, of 2 and players - 2 and so on as long as all of a size fit and a pair for
    each player is left to draw, without which no error could be told; the rest are drawn by the kernel's weight in
    pairs of complements, and weigh by how often they were drawn. Values are those of Kernel SHAP (Lundberg and Lee
    2017; paired: Covert and Lee 2021).
    """
    if players == 0:
        return Design(np.zeros((1, 0), bool), np.zeros((0, 1)), np.zeros((0, 0, 2)))
    if 1 << players <= max(most, 4 * players + 2):
        return _exact(players)
    whole, drawn = _sampled(players, max(most, 4 * players + 2), np.random.default_rng([seed, players]))
    return _regression(players, whole, drawn)


def _exact(players: int) -> Design:
    numbers = np.arange(1 << players)
    members = (numbers[:, None] >> np.arange(players) & 1).astype(bool)
    sizes = members.sum(1)
    weight = np.array([1 / (players * math.comb(players - 1, size)) for size in range(players)])
    gains, losses = weight[np.maximum(sizes - 1, 0)][:, None], weight[np.minimum(sizes, players - 1)][:, None]
    return Design(members, np.where(members, gains, -losses).T, np.zeros((players, 0, 2)))


def _sampled(
    players: int, most: int, rng: np.random.Generator
) -> tuple[dict[int, float], list[tuple[int, int, float]]]:
    """Coalitions, as bits, with their weights: those of whole sizes, and the drawn ones in pairs with a weight each."""
    sizes = range(1, players)
    mass = {size: (players - 1) / (size * (players - size)) for size in sizes}  # of all coalitions of a size
    whole: dict[int, float] = {}
    left, open_sizes = most - 2, list(sizes)
    for size in range(1, players // 2 + 1):
        pair = {size, players - size}
        if sum(math.comb(players, number) for number in pair) > left - 2 * players:
            break
        for number in pair:
            those = [sum(1 << player for player in chosen) for chosen in combinations(range(players), number)]
            whole |= dict.fromkeys(those, mass[number] / len(those))
            left -= len(those)
            open_sizes.remove(number)
    counts: dict[int, int] = {}  # of drawn pairs, by the lower of the two
    everyone = (1 << players) - 1
    total = sum(mass[size] for size in open_sizes)
    chances = np.array([mass[size] for size in open_sizes]) / total if open_sizes else np.zeros(0)
    while 2 * len(counts) + 2 <= left:
        size = int(rng.choice(open_sizes, p=chances))
        drawn = [int(player) for player in rng.choice(players, size, replace=False)]
        bits = sum(1 << player for player in drawn)
        first = min(bits, everyone - bits)
        counts[first] = counts.get(first, 0) + 1
    draws = sum(counts.values())
    return whole, [(bits, everyone - bits, total * n / (2 * draws)) for bits, n in counts.items()]


def _regression(players: int, whole: dict[int, float], drawn: list[tuple[int, int, float]]) -> Design:
    """The weighted least squares of Kernel SHAP, the sum of values fixed, as a linear map."""
    everyone = (1 << players) - 1
    bits = [0, *whole, *(number for pair in drawn for number in pair[:2]), everyone]
    weight = np.array([*whole.values(), *(pair[2] for pair in drawn for _ in range(2))])
    members = np.array([[number >> player & 1 for player in range(players)] for number in bits], bool)
    z = members[1:-1].astype(float)
    a, last = z[:, :-1] - z[:, -1:], z[:, -1]
    gain = np.linalg.solve(a.T @ (a * weight[:, None]), a.T * weight)  # of all players but the last
    gain = np.concatenate([gain, -gain.sum(0, keepdims=True)])
    weights = np.concatenate([-(gain * (1 - last)).sum(1)[:, None], gain, -(gain * last).sum(1)[:, None]], 1)
    weights[-1, 0] -= 1
    weights[-1, -1] += 1
    return Design(members, weights, gain[:, len(whole) :].reshape(players, -1, 2))

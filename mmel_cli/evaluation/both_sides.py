"""Second-order orders: words and patches leave together, by what each still has in common with the other side."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mmel_cli.evaluation.ranking import shuffled

Interactions = Float[np.ndarray, "words patches"]


def leaving(values: Interactions, *, highest: bool) -> list[int]:
    """The order in which players leave: word w is player w, patch p player words + p.

    Both sides leave at one pace: the k-th of n players of a side (from 0) at (k + 1/2) / n of the way. Whose turn it is
    on that side: the one whose sum of interactions with the players that are left on the other side is highest (or
    lowest); once nobody is left there, with all of them. Equal sums by one fixed shuffled order, so that values that
    are all equal give the same order highest and lowest first.
    """
    words, patches = values.shape
    sums = [values.sum(1, dtype=np.float64), values.sum(0, dtype=np.float64)]
    whole = [side.copy() for side in sums]
    ties = [np.argsort(shuffled(count).numpy()) for count in values.shape]
    left = [np.ones(count, bool) for count in values.shape]
    order = []
    for side in _turns(words, patches):
        own = sums[side] if left[1 - side].any() else whole[side]
        remaining = np.flatnonzero(left[side])
        keys = -own[remaining] if highest else own[remaining]
        gone = int(remaining[np.lexsort((ties[side][remaining], keys))[0]])
        left[side][gone] = False
        sums[1 - side] -= values[gone] if side == 0 else values[:, gone]
        order.append(gone + side * words)
    return order


def left_at(order: Sequence[int], words: int, gone: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Which words (points, words) and patches (points, patches) are left when so many players of an order are gone."""
    left = np.ones((len(gone), len(order)), bool)
    for row, count in enumerate(gone):
        left[row, list(order[:count])] = False
    return left[:, :words], left[:, words:]


def to_patches(maps: Float[np.ndarray, "words rows columns"], grid: tuple[int, int]) -> Interactions:
    """What each word has with each patch of the model's grid; finer maps (of several views) are summed.

    Raises:
        ValueError: if a map's sides are no multiples of the grid's.
    """
    words, rows, columns = maps.shape
    blocks = maps.reshape(words, grid[0], rows // grid[0], grid[1], columns // grid[1])
    return blocks.sum((2, 4)).reshape(words, -1)


def _turns(words: int, patches: int) -> list[int]:
    """0 where a word leaves, 1 where a patch does; a patch first where both are due."""
    due = [((k + 0.5) / words, 1, 0) for k in range(words)] + [((k + 0.5) / patches, 0, 1) for k in range(patches)]
    return [side for _, _, side in sorted(due)]

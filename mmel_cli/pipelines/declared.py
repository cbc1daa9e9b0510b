"""Arrays held to the fields that declare them, before anything is drawn or archived."""

from collections.abc import Iterable, Mapping

import numpy as np

from mmel_cli.errors import MmelError
from mmel_cli.fields import Field, Sizes
from mmel_cli.tensors import Attribution
from mmel_cli.types import Explanation, Failure


def check_given(method: str, declared: Iterable[Field], attribution: Attribution, pairs: int, sizes: Sizes) -> None:
    """Hold a method to its declaration.

    Args:
        method: its name.
        declared: what it says that it gives.
        attribution: what it gave.
        pairs: how many.
        sizes: of the batch; ragged dimensions are those of the caption with the most.

    Raises:
        MmelError: naming the method and the field.
    """
    says = {field.name: (pairs, *field.shape(sizes)) for field in declared}
    gives = {name: tuple(values.shape) for name, values in attribution.fields.items()}
    for name in sorted({*says, *gives}):
        if says.get(name) != gives.get(name):
            said, given = says.get(name, "nothing"), gives.get(name, "nothing")
            raise MmelError(f"method {method}: declares {said} as field {name}, and gives {given}")


def of_one(fields: Iterable[Field], arrays: Mapping[str, np.ndarray], own: Sizes) -> dict[str, np.ndarray]:
    """One pair's arrays in the shapes of their fields, cut to the tokens and words that its own caption has."""
    ends = {"tokens": slice(own.tokens), "words": slice(own.words)}
    cut = {}
    for field in fields:
        values = arrays[field.name]
        if field.ragged:  # padded to the caption with the most
            values = values[tuple(ends.get(dim, slice(None)) for dim in field.dims)]
        cut[field.name] = values.reshape(field.shape(own))
    return cut


def not_finite(explanation: Explanation) -> Failure | None:
    """A failure of the pair if anything computed of it is not finite."""
    scores = [score for score in (explanation.score, explanation.against_score) if score is not None]
    if np.isfinite(scores).all() and all(np.isfinite(array).all() for array in explanation.fields.values()):
        return None
    return Failure(explanation.id, "model", "what was computed is not finite; try --dtype float32")

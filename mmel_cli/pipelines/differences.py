"""Which texts the captions of a batch are explained against (METHOD 2, a difference of two scores)."""

from collections.abc import Sequence

import torch

from mmel_cli.attribution import Method
from mmel_cli.errors import MmelError, ModelError
from mmel_cli.model import Adapter, Captions
from mmel_cli.types import Sample


def against_numbers(
    samples: Sequence[Sample], texts: dict[str, int], method: Method, model: Adapter
) -> list[int] | None:
    """The number of the text that each caption is against, taken into `texts`; None where none is against any.

    Raises:
        MmelError: if only some of them are, or the method has no map of a difference.
        ModelError: if the model has none.
    """
    rivals = [sample.against for sample in samples if sample.against is not None]
    if not rivals:
        return None
    if len(rivals) < len(samples):
        raise MmelError("some pairs of a batch are against a text, and others are not; explain them apart")
    if method.of_one_score:
        raise MmelError(f"method {method.name} {method.of_one_score}")
    if "against" not in model.spec.gives:
        raise ModelError(f"the {model.spec.family} model {model.spec.name} does not take --against")
    return [texts.setdefault(rival, len(texts)) for rival in rivals]


def read_alike(captions: Captions, one: int, other: int) -> bool:
    """Whether the model reads two texts as the same tokens: their difference is nothing but rounding.

    They may differ in what the tokenizer drops, or behind the tokens that the model reads.
    """
    same = torch.equal(captions.ids[one], captions.ids[other])
    return same and torch.equal(captions.mask[one], captions.mask[other])

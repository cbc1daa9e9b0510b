"""What the methods of words x regions share: evidence of pairs of a token and a patch, summed over a word's tokens."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmel_cli.tensors import Capture


def by_word(
    values: Float[Tensor, "pairs keys patches"], owners: Int[Tensor, "pairs keys"], grid: tuple[int, int]
) -> Float[Tensor, "pairs words rows columns"]:
    """The sum over the tokens of each word, laid on the grid; as many words as the caption with the most has.

    Args:
        values: of each token of a caption at each patch of its image.
        owners: the word that each token is of, -1: none (Capture.owners).
        grid: patches: rows, columns.
    """
    words = int(owners.max()) + 1 if owners.numel() else 0
    member = owners[..., None] == torch.arange(words, device=owners.device)
    return torch.einsum("pkw,pki->pwi", member.to(values), values).unflatten(2, grid)


def owners_of(capture: Capture) -> Int[Tensor, "pairs keys"]:
    """The word that each token is of, which every model gives."""
    assert capture.owners is not None  # noqa: S101 - as above
    return capture.owners

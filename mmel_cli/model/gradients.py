"""The score of image-caption pairs and its gradients, pulled back through each tower from its own embedding."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from mmel_cli.tensors import Directions, ImageSide

# float16 gradients of a cosine underflow; a power of two is exact to multiply and to divide out
_SCALES = {"float16": 2.0**10}


def scale_of(dtype: str) -> float:
    """What the seed of a backward in a model of this dtype is multiplied by, and its result divided by."""
    return _SCALES.get(dtype, 1.0)


def cosine(image: Tensor, text: Tensor, *, constant: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Cosine of P pairs of embeddings (P, D), and its gradients at both, in float32.

    With `constant` the lengths of the embeddings are constants in the gradients (METHOD 2, balanced-norms).
    """
    image, text = (embeds.detach().float().requires_grad_() for embeds in (image, text))
    score = cosine_similarity(image, text)
    if constant:
        lengths = image.norm(dim=-1, keepdim=True) * text.norm(dim=-1, keepdim=True)
        return score.detach(), (text / lengths).detach(), (image / lengths).detach()
    to_image, to_text = torch.autograd.grad(score.sum(), (image, text))
    return score.detach(), to_image, to_text


def along(image: Tensor, vectors: Tensor, *, constant: bool = False) -> Tensor:
    """The gradient of <f, vector> at M embeddings of images (M, D), f their unit vectors, in float32.

    `constant`: the length of the embedding is a constant in it, as in `cosine`.
    """
    raw = image.detach().float()
    length = raw.norm(dim=-1, keepdim=True)
    if constant:
        return vectors / length
    unit = raw / length
    return (vectors - unit * (unit * vectors).sum(-1, keepdim=True)) / length


def turns_of(index: Tensor) -> list[Tensor]:
    """The places in `index`, in turns in which no value occurs twice: one backward serves a turn."""
    turn = _occurrence(index)
    return [(turn == number).nonzero()[:, 0] for number in range(int(turn.max()) + 1)]


def read_along(
    embeds: Tensor,
    outputs: list[Tensor],
    asked: Directions,
    side_of: Callable[[list[Tensor], Tensor, Tensor], ImageSide],
    *,
    constant: bool = False,
    scale: float = 1.0,
) -> Tensor:
    """What `asked.read` makes of each direction; those of one turn are in memory at a time.

    Args:
        embeds: of the distinct images (rows, D), in a graph that is kept.
        outputs: what to differentiate at, each (rows, tokens, width).
        asked: see Directions; at least one.
        side_of: what is known of some directions, from their gradients at `outputs`, the rows they are of, and the
            directions.
        constant: see `along`.
        scale: see `scale_of`.
    """
    turns, parts = turns_of(asked.images), list[Tensor]()
    for members in turns:
        rows, vectors = asked.images[members], asked.vectors[members]
        to = along(embeds[rows], vectors, constant=constant) * scale
        pulled = pull_back(embeds, outputs, rows, to, keep=True)
        parts.append(asked.read(side_of([gradient.float() / scale for gradient in pulled], rows, vectors)))
    kept = torch.cat(parts)
    return torch.empty_like(kept).index_copy(0, torch.cat(turns), kept)


def pull_back(
    embeds: Tensor,
    outputs: list[Tensor],
    index: Tensor,
    gradient: Tensor,
    *,
    keep: bool = False,
    in_order: bool = False,
) -> list[Tensor]:
    """ds/do of P pairs, one backward for each further pair of the same row.

    Args:
        embeds: (rows, D), in the graph.
        outputs: what to differentiate at, each (rows, tokens, width).
        index: (P,) the row of each pair.
        gradient: (P, D) ds/d embeds[index].
        keep: the graph, which another backward needs too.
        in_order: `index` is known to be all rows in their order, so that nothing has to be laid out anew.

    Returns:
        For each output, (P, tokens, width).
    """
    if in_order:
        grads = torch.autograd.grad(embeds, outputs, gradient.to(embeds.dtype), retain_graph=keep)
        return [grad.contiguous() for grad in grads]
    turns = turns_of(index)
    gradients = [output.new_zeros(len(index), *output.shape[1:]) for output in outputs]
    for number, members in enumerate(turns, 1):
        seed = torch.zeros_like(embeds).index_copy(0, index[members], gradient[members].to(embeds.dtype))
        retained = keep or number < len(turns)
        for store, grad in zip(
            gradients, torch.autograd.grad(embeds, outputs, seed, retain_graph=retained), strict=True
        ):
            store[members] = grad[index[members]]
    return gradients


def pull_back_batched(embeds: Tensor, outputs: list[Tensor], index: Tensor, gradient: Tensor) -> list[Tensor]:
    """The same as `pull_back` in one vectorised backward, for many pairs that share a row (a caption on all images)."""
    turn = _occurrence(index)
    seeds = embeds.new_zeros(int(turn.max()) + 1, *embeds.shape)
    seeds[turn, index] = gradient.to(embeds.dtype)
    grads = torch.autograd.grad(embeds, outputs, seeds, is_grads_batched=True)
    return [grad[turn, index] for grad in grads]


def _occurrence(index: Tensor) -> Tensor:
    """How many times each entry's value has occurred before it."""
    same = index[:, None] == index
    return same.tril(-1).sum(1)

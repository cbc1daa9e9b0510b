"""exCLIP (Moeller et al., TMLR 2025, arXiv 2408.14153): integrated Jacobians of both towers, multiplied.

The published code pulls each dimension of the joint space back through both towers. A row of its result needs less: the
text tower's integrated Jacobian along one token is a vector of the joint space, and the image tower is pulled back from
that vector alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from mmel_cli.attribution.base import LastLayerParams, Method
from mmel_cli.attribution.second_order import by_word, owners_of
from mmel_cli.errors import UsageError
from mmel_cli.fields import MAP, RESIDUAL, TOKEN_MAP, WORD_MAP
from mmel_cli.tensors import Attribution, Capture, Tail, Tails

_NUMBERS = 1 << 22  # of outputs of the block, or of gradients there, that are held at once
_SCALE = 2.0**10  # float16 gradients underflow; a power of two is exact to multiply and to divide out


@dataclass(frozen=True)
class Params(LastLayerParams):
    """The numbers of the layers whose outputs are taken, from 1 or negative from the end, and `steps` a side.

    The last layer has no output that tokens and patches still meet in. `layers` have no meaning here, one is the
    cheapest.
    """

    block: int = -2
    text_block: int = -2
    steps: int = 20

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("method.steps must be at least 1")


def explain(capture: Capture, params: Params, _state: None) -> Attribution:
    """A[j, i] = <u_j, J_img (x_i - r_i)>, u_j = J_txt (y_j - r_j); words x regions sums it over the tokens of a word.

    x and y are the blocks' outputs, r those of the references, J the mean Jacobian of the unit embedding over `steps`
    midpoints of the way from r. tokens/map and map sum A over patches and over the caption's tokens. The residual is
    the sum of A over every token and position less s(x, y) - s(x, r) - s(r, y) + s(r, r).

    Raises:
        UsageError: for a block that there is not.
    """
    assert capture.tails is not None  # noqa: S101 - the engine gives what `needs` names
    tails = capture.tails
    block = _number(params.block, tails.layers, "block")
    text_block = _number(params.text_block, tails.text_layers, "text_block")
    captions = {row: tails.of_text(row, text_block) for row in dict.fromkeys(tails.rows.tolist())}
    vectors = {}
    for pair, row in enumerate(tails.rows.tolist()):
        if row not in vectors:
            places = capture.text.places[pair]
            vectors[row] = pushed(captions[row], _by_token(captions[row], places[places >= 0]), params.steps)
    interactions, residuals = _interactions(tails, block, params.steps, captions, vectors)
    keys = capture.text.keys
    laid = capture.score.new_zeros(*keys.shape, interactions[0].shape[1])
    for pair, values in enumerate(interactions):
        laid[pair, keys[pair]] = values[:-1]
    both = capture.image.gather(laid)
    fields = {
        MAP.name: both.sum(1).unflatten(1, capture.grid),
        TOKEN_MAP.name: both.sum(2),
        WORD_MAP.name: by_word(both, owners_of(capture), capture.grid),
        RESIDUAL.name: residuals,
    }
    return Attribution(fields)


def _interactions(
    tails: Tails, block: int, steps: int, captions: dict[int, Tail], vectors: dict[int, Tensor]
) -> tuple[list[Float[Tensor, "some positions"]], Float[Tensor, "pairs"]]:
    """A of each pair, its last row that of all tokens together, and what it lacks; an image's captions together."""
    rows, images = tails.rows.tolist(), tails.images.tolist()
    apart = {row: _apart(tail) for row, tail in captions.items()}
    made: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    for image in dict.fromkeys(images):
        tail = tails.of_image(image, block)
        own = list(dict.fromkeys(row for row, other in zip(rows, images, strict=True) if other == image))
        pulled_back = pulled(tail, torch.cat([vectors[row] for row in own]), steps)
        parts = (pulled_back * (tail.output - tail.reference).float()).sum(-1).split([len(vectors[row]) for row in own])
        away = _apart(tail)
        for row, values in zip(own, parts, strict=True):
            change = away @ apart[row]  # s(x, y) - s(x, r) - s(r, y) + s(r, r)
            made[image, row] = values, (values[-1].double().sum() - change).float()
    pairs = list(zip(images, rows, strict=True))
    return [made[pair][0] for pair in pairs], torch.stack([made[pair][1] for pair in pairs])


def pushed(tail: Tail, along: Float[Tensor, "some tokens width"], steps: int) -> Float[Tensor, "some embedding"]:
    """The derivative of the embedding along each of these, the mean over midpoints of the way from the reference."""
    total = torch.zeros((), device=along.device)
    for points in _midpoints(tail, steps, len(along)):
        count = len(points)
        with torch.no_grad(), forward_ad.dual_level():
            dual = forward_ad.make_dual(points.repeat_interleave(len(along), 0), along.repeat(count, 1, 1))
            tangent = forward_ad.unpack_dual(tail.embed(dual)).tangent
        total = total + tangent.unflatten(0, (count, len(along))).sum(0)
    return total / steps


def pulled(tail: Tail, vectors: Float[Tensor, "some embedding"], steps: int) -> Float[Tensor, "some tokens width"]:
    """The gradient of <embedding, vector> of each of these, the mean over midpoints of the way from the reference."""
    total = torch.zeros((), device=vectors.device)
    for points in _midpoints(tail, steps, len(vectors)):
        leaf = points.requires_grad_()
        with torch.enable_grad():
            embeds = tail.embed(leaf)
        seeds = (vectors * _SCALE)[:, None].expand(-1, len(leaf), -1)
        (gradients,) = torch.autograd.grad(embeds, leaf, seeds, is_grads_batched=True)
        total = total + gradients.float().sum(1)
    return total / (steps * _SCALE)


def _midpoints(tail: Tail, steps: int, copies: int) -> Iterator[Float[Tensor, "points tokens width"]]:
    """Points of the straight way from the reference to the output, some at a time, where each is held so many times."""
    way = tail.output - tail.reference
    for places in ((torch.arange(steps, device=way.device) + 0.5) / steps).split(
        max(1, _NUMBERS // (copies * way.numel()))
    ):
        yield tail.reference + places.to(way.dtype)[:, None, None] * way


def _by_token(tail: Tail, places: Tensor) -> Float[Tensor, "some tokens width"]:
    """The way from the reference at each of these tokens alone, and last at all tokens."""
    way = tail.output - tail.reference
    alone = torch.zeros(len(places) + 1, len(way), dtype=way.dtype, device=way.device)
    alone[torch.arange(len(places), device=places.device), places] = 1
    alone[-1] = 1
    return alone[..., None] * way


def _apart(tail: Tail) -> Float[Tensor, "embedding"]:
    """The embedding less that of the reference."""
    with torch.no_grad():
        own, reference = tail.embed(torch.stack([tail.output, tail.reference])).double()
    return own - reference


def _number(block: int, total: int, name: str) -> int:
    """The number of a layer that another follows."""
    number = block if block > 0 else total + 1 + block
    if 1 <= number < total:
        return number
    which = f"layers 1 to {total - 1} (or -2 to -{total})" if total > 1 else "none, for it has one layer"
    raise UsageError(f"method.{name}: {block} is no layer of the tower that another follows; these are {which}")


METHOD = Method(
    name="exclip",
    summary="words x regions by the Jacobians of both towers behind a block, integrated from blank inputs, signed",
    source="exCLIP (Moeller et al., TMLR 2025, arXiv 2408.14153), a row of its result at a time",
    cost="3 forwards; and behind the block, at method.steps points for a caption of T tokens: of the text tower T + 1 "
    "forwards in forward mode, of the image tower 1 forward and T + 1 backwards",
    on_probe="the same: what follows the block is the layers behind it and the probe's attention",
    params=Params,
    explain=explain,
    fields=lambda _params, _target: (MAP, TOKEN_MAP, WORD_MAP, RESIDUAL),
    needs=frozenset({"tails"}),
)

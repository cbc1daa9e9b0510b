"""FIxLIP (Baniecki et al., NeurIPS 2025, arXiv 2508.05430): weighted Banzhaf interactions of tokens and patches.

They are the coefficients of the score's regression on masks of patches and tokens, of first and second order. The score
is a product of two embeddings; where every image mask meets every caption mask, the coefficients of token and patch are
the product of two regressions, one of each side's embedding on its own masks. So masks of an image serve all its
captions, and the budget is a sum where the published code has a product.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmel_cli.attribution.base import LastLayerParams, Method
from mmel_cli.attribution.pixels import probe_of
from mmel_cli.attribution.second_order import by_word, owners_of
from mmel_cli.errors import UsageError
from mmel_cli.fields import MAP, TOKEN_MAP, WORD_MAP
from mmel_cli.tensors import Attribution, Capture, Probe

_DETERMINED = 1e-9  # of the least to the largest pivot of a regression; what is not determined has rounding there


@dataclass(frozen=True)
class Params(LastLayerParams):
    """`masks` an image and `text_masks` a caption, in which each patch or token stays with probability `keep`.

    Where all subsets are no more, these are taken, each weighted by its probability; else masks are drawn, from `seed`
    and their number of patches or tokens alone. Captions have at least 2 masks a token and 2 more. Layers have no
    meaning here, one is the cheapest.
    """

    masks: int = 2000
    text_masks: int = 512
    keep: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.masks < 2 or self.text_masks < 2:
            raise ValueError("method.masks and method.text_masks must be at least 2")
        if not 0.01 <= self.keep <= 0.99:
            raise ValueError("method.keep must lie in 0.01..0.99")
        if not 0 <= self.seed < 2**63:
            raise ValueError("method.seed must lie in 0..2^63 - 1")


@dataclass(frozen=True)
class Masks:
    """Masks of some players, and the linear map from what they leave to the players' coefficients.

    `weights` are None where the masks do not determine them.
    """

    kept: Bool[np.ndarray, "masks players"]
    weights: Float[np.ndarray, "players masks"] | None


def explain(capture: Capture, params: Params, _state: None) -> Attribution:
    """Words x regions = B_img B_txt^T summed over the tokens of a word; map = B_img t, tokens = B_txt f.

    B are a side's coefficients, a vector of the joint space for each patch and token; f and t the embeddings of image
    and caption as they are. A patch that is out is 0 after normalisation; a token that is out is not attended to.

    Raises:
        UsageError: if the masks do not determine the regression.
    """
    probe = probe_of(capture)
    images = [patch_values(probe, image, capture.grid, params) for image in range(len(probe.values))]
    patches = torch.stack([images[number] for number in probe.images.tolist()])
    captions: dict[int, tuple[Tensor, Tensor]] = {}
    for pair, row in enumerate(probe.rows.tolist()):
        if row not in captions:
            captions[row] = token_values(probe, row, capture.text.keys[pair], params)
    tokens, texts = (torch.stack(parts) for parts in zip(*(captions[row] for row in probe.rows.tolist()), strict=True))
    both = torch.einsum("pkd,pid->pki", tokens, patches)
    fields = {
        MAP.name: torch.einsum("pid,pd->pi", patches, texts).unflatten(1, capture.grid),
        TOKEN_MAP.name: torch.einsum("pkd,pd->pk", tokens, capture.image_embeds.double()),
        WORD_MAP.name: by_word(both, owners_of(capture), capture.grid),
    }
    return Attribution({name: values.float() for name, values in fields.items()})


@lru_cache(maxsize=128)
def masks_of(players: int, most: int, keep: float, seed: int) -> Masks:
    """All subsets if they are at most `most`, weighted by how likely each is; else `most` that are drawn.

    Args:
        players: how many.
        most: masks.
        keep: the probability that a player is in a mask.
        seed: of the draws.
    """
    if players < 63 and 1 << players <= most:
        kept = (np.arange(1 << players)[:, None] >> np.arange(players) & 1).astype(bool)
        likely = np.where(kept, keep, 1 - keep).prod(1)
    else:
        kept = np.random.default_rng([seed, players]).random((most, players)) < keep
        likely = np.ones(most)
    return Masks(kept, _least_squares(kept, likely))


def _least_squares(
    kept: Bool[np.ndarray, "masks players"], likely: Float[np.ndarray, "masks"]
) -> Float[np.ndarray, "players masks"] | None:
    """From values of masks to the slopes of their weighted regression with a constant; None if not determined."""
    if len(kept) < kept.shape[1] + 1:
        return None
    root = np.sqrt(likely)[:, None]
    q, r = np.linalg.qr(root * np.column_stack([np.ones(len(kept)), kept]))
    pivots = np.abs(np.diag(r))
    if pivots.min() <= _DETERMINED * pivots.max():
        return None
    return np.ascontiguousarray(np.linalg.solve(r, (root * q).T)[1:])


def patch_values(probe: Probe, image: int, grid: tuple[int, int], params: Params) -> Float[Tensor, "patches joint"]:
    """B_img of a distinct image, float64."""
    patches = grid[0] * grid[1]
    chosen = masks_of(patches, params.masks, params.keep, params.seed)
    if chosen.weights is None:
        raise UsageError(
            f"method.masks: {params.masks} masks do not determine the values of {patches} patches, each kept with "
            f"probability {params.keep:g}; take at least {2 * patches}, or method.keep nearer to 0.5"
        )
    shown = torch.from_numpy(chosen.kept).to(probe.values.device).float().unflatten(1, grid)
    embeds = probe.embeds_of_image(image, shown).double()
    return torch.from_numpy(chosen.weights).to(embeds) @ embeds


def token_values(
    probe: Probe, row: int, keys: Bool[Tensor, "keys"], params: Params
) -> tuple[Float[Tensor, "keys joint"], Float[Tensor, "joint"]]:
    """B_txt of a distinct caption, 0 behind its last token, and its embedding as it is, float64."""
    count, most = int(keys.sum()), params.text_masks
    chosen = masks_of(count, max(most, 2 * count + 2), params.keep, params.seed)
    while chosen.weights is None:  # a token that is in every mask, or two that are always together
        most *= 2
        chosen = masks_of(count, max(most, 2 * count + 2), params.keep, params.seed)
    whole = np.concatenate([np.ones((1, count), bool), chosen.kept])
    embeds = probe.embeds_of_text(row, torch.from_numpy(whole).to(keys.device)).double()
    values = embeds.new_zeros(len(keys), embeds.shape[1])
    values[keys] = torch.from_numpy(chosen.weights).to(embeds) @ embeds[1:]
    return values, embeds[0]


METHOD = Method(
    name="fixlip",
    summary="words x regions by regression of both embeddings on masks: weighted Banzhaf interactions, signed",
    source="FIxLIP (Baniecki et al., NeurIPS 2025, arXiv 2508.05430), its block of tokens and patches, factorised",
    cost="1 forward, and forwards: method.masks of the image tower an image; of the text tower 2^T + 1 a caption of T "
    "tokens, or method.text_masks + 1 if these are fewer",
    params=Params,
    explain=explain,
    fields=lambda _params, _target: (MAP, TOKEN_MAP, WORD_MAP),
    needs=frozenset({"probe"}),
)

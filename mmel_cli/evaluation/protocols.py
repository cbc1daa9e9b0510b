"""Two published protocols, as their sources do them: Grad-ECLIP's zero-shot curves and FIxLIP's AID."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from mmel_cli.data.paths import record_seed
from mmel_cli.evaluation.faithfulness import Images
from mmel_cli.evaluation.ranking import area, ranks
from mmel_cli.geometry import to_pixels
from mmel_cli.model import Adapter, Captions
from mmel_cli.model.forwards import in_parts
from mmel_cli.types import Explanation

SHORT_SIDE = 640  # Grad-ECLIP: larger images are shrunk to it
POINTS = 10  # every tenth of 100 steps of 1/200 of the pixels
TOPS = (1, 5, 10)
INSERTED = torch.tensor([0.05 * k for k in range(1, POINTS + 1)] + [1.0], dtype=torch.float64)
DELETED = torch.tensor([0.05 * k for k in range(POINTS + 1)], dtype=torch.float64)
_LEAST = 1.0  # of the logit between nothing and all: below, the scaled curve is noise divided by noise


@dataclass(frozen=True)
class AidOptions:
    """`points`: how many coalition sizes between nothing and all are scored, at most one a player."""

    points: int = 51

    def __post_init__(self) -> None:
        if self.points < 2:
            raise ValueError("aid.points must be at least 2")


def shrink(image: Image.Image) -> Image.Image:
    """An image at a short side of at most 640 pixels; of such an image, the same again."""
    factor = min(1.0, SHORT_SIDE / min(image.size))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.BICUBIC) if factor < 1 else image


def eclip_images(image: Image.Image, explanation: Explanation) -> tuple[list[Image.Image], list[Image.Image]]:
    """Grad-ECLIP's altered originals: 10 insertions and the original; the original and 10 deletions.

    `image` is the original, or what `shrink` made of it.

    Pixels are ranked once, at the original's size (shrunk to a short side of 640); those that the map does not cover
    come last. Deleted pixels take uniform random colours, drawn from the record id.
    """
    small = shrink(image)
    size = (small.height, small.width)
    scale_x, scale_y = size[1] / explanation.image_size[1], size[0] / explanation.image_size[0]
    x0, y0, x1, y1 = explanation.box
    values, part = to_pixels(explanation.map, (x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y), size)
    full = np.full(size, -np.inf)
    full[part] = values
    place = ranks(torch.from_numpy(full.reshape(1, -1)))[0].numpy().reshape(size)
    pixels = np.asarray(small)
    noise = np.random.default_rng(record_seed(explanation.id)).integers(0, 256, pixels.shape, np.uint8)
    step = max(1, pixels.shape[0] * pixels.shape[1] // 200)
    cuts = [10 * k * step for k in range(1, POINTS + 1)]
    inserted = [np.where((place < cut)[..., None], pixels, 0).astype(np.uint8) for cut in cuts]
    deleted = [np.where((place < cut)[..., None], noise, pixels).astype(np.uint8) for cut in cuts]
    return (
        [*(Image.fromarray(array) for array in inserted), small],
        [small, *(Image.fromarray(array) for array in deleted)],
    )


def eclip_areas(places: Tensor) -> dict[str, float]:
    """Areas under the top-k hits, from the place of the caption at 11 insertions and 11 deletions, (2, 11)."""
    areas = {}
    for top in TOPS:
        hits = (places < top).float().cpu()
        areas[f"grad-eclip-insertion-top{top}"] = float(area(hits[0], INSERTED))
        areas[f"grad-eclip-deletion-top{top}"] = float(area(hits[1], DELETED))
    return areas


@torch.no_grad()
def aid(
    model: Adapter, image: Images, caption: Captions, explanation: Explanation, options: AidOptions, batch: int
) -> float:
    """FIxLIP's AID of one pair: players are patches and tokens, together ranked by their unscaled attributions.

    Least-first removal minus most-first removal of the logit, scaled by its values at nothing and at all, averaged
    over coalition sizes. Removed patches are 0 after normalisation, removed tokens masked out of attention. Ties are
    broken by the fixed order of `ranking`, where the source lets them move together. NaN for a pair whose logit is not
    at least 1 above that of nothing at all: the source keeps the pairs of highest logit only.

    Args:
        model: gives unit embeddings.
        image: (1, 3, H, W) normalised input.
        caption: the caption alone.
        explanation: its map (h, w), pooled to the patch grid if it is finer, and token map.
        options: see AidOptions.
        batch: coalitions a forward.
    """
    tokens = len(explanation.token_map)
    cells = adaptive_avg_pool2d(torch.from_numpy(explanation.map)[None].float(), model.spec.grid)  # of several views
    place = ranks(torch.cat([cells.flatten(), torch.from_numpy(explanation.token_map).float()])[None])[0]
    players = len(place)
    sizes = torch.linspace(0, players, min(options.points, players + 1)).round().long()
    keep_high = place < sizes[:, None]  # least important are gone
    keep_low = place >= players - sizes[:, None]  # most important are gone
    coalitions = _Coalitions(model, image, caption, tokens)
    kept = torch.cat([keep_high, keep_low]).to(image.device)
    logits = in_parts(lambda rows: coalitions.logits(kept[rows]), len(kept), batch, image.device).cpu()
    high, low = logits.chunk(2)
    span = high[-1] - high[0]
    return float((high - low).mean() / span) if span >= _LEAST else float("nan")


@dataclass(frozen=True)
class _Coalitions:
    """One pair, of which only some patches and tokens are left."""

    model: Adapter
    image: Images  # (1, 3, H, W)
    caption: Captions  # one
    tokens: int

    def logits(self, kept: Bool[Tensor, "n players"]) -> Float[Tensor, "n"]:
        """The model's logit of each coalition: patches row by row, then tokens."""
        height, width = self.model.spec.grid
        patches, tokens = kept.split([height * width, self.tokens], 1)
        cells = patches.view(-1, 1, height, width)
        down, across = self.image.shape[2] // height, self.image.shape[3] // width
        fine = cells.repeat_interleave(down, 2).repeat_interleave(across, 3)
        text = self.model.embed_texts(self.caption.covered(0, tokens))
        return self.model.spec.scoring.logit((self.model.embed_images(self.image * fine) * text).sum(-1))

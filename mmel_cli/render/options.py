"""How pictures look."""

from dataclasses import dataclass
from typing import Literal, get_args

from mmel_cli.render import colours

PictureFormat = Literal["png", "jpeg", "webp"]
"""What heatmaps are written as: png without loss; jpeg and webp smaller and faster."""

BY_PART = ("phrases", "words")
"""Values of `panels` that show where each phrase or word comes from: runs with --words alone can draw them."""


_WEBP_SIDE = 4096  # three beside each other stay below the 16,383 pixels of a WebP file


@dataclass(frozen=True)
class HeatmapOptions:
    """How pictures look.

    A matplotlib `colormap`; the `opacity` of the strongest evidence; the `percentile` of a map that counts as
    strongest; `panels`: the overlay alone; image, map and overlay; beside the overlay a colour for each phrase, or a
    small map for each; auto: the colours where the run has them, else the overlay; the longest side of a panel in
    pixels; whether the caption is shown; and the `format` of the files, JPEG by default: an overlay takes a quarter of
    the time and a fifth of the space of a PNG (RESULTS.md, Cost).
    """

    colormap: str = "inferno"
    opacity: float = 0.8
    percentile: float = 99.5
    panels: Literal["auto", "overlay", "side-by-side", "phrases", "words"] = "auto"
    max_side: int = 768
    caption: bool = True
    format: PictureFormat = "jpeg"

    def __post_init__(self) -> None:
        colours.table(self.colormap)
        if not 0 <= self.opacity <= 1:
            raise ValueError("heatmap.opacity must lie in 0..1")
        if not 0 < self.percentile <= 100:
            raise ValueError("heatmap.percentile must lie in 0..100")
        if not 64 <= self.max_side <= 8192:
            raise ValueError("heatmap.max_side must lie in 64..8192")
        if self.format not in get_args(PictureFormat):
            raise ValueError(f"heatmap.format must be one of {', '.join(get_args(PictureFormat))}")
        if self.format == "webp" and self.max_side > _WEBP_SIDE:
            raise ValueError(f"heatmap.max_side must lie in 64..{_WEBP_SIDE} for heatmap.format webp; take jpeg or png")

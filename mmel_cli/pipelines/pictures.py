"""Draw heatmaps, and keep each image once as a photo and a thumbnail."""

import json
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mmel_cli.config import RunConfig
from mmel_cli.idsets import IdSet
from mmel_cli.model.phrase_vectors import PhraseKind
from mmel_cli.pipelines.batches import Batch, Keep
from mmel_cli.pipelines.drawing import Drawing, Drawn
from mmel_cli.render import HeatmapOptions, draw, drawable, fit, keep_photo, picture_name
from mmel_cli.runs import fingerprint, settings
from mmel_cli.runs.folder import DRAWN, HEATMAPS, PHOTOS, THUMBNAILS
from mmel_cli.types import Explanation

PICTURES = "2"  # which files there are: 2 has a photo and a thumbnail an image, 1 had a thumbnail a record
PHOTO = "photo"  # in Decoded.kept: the original at the size of pictures


def drawn_as(config: RunConfig) -> dict[str, str]:
    """What is noted in a run folder once all its pictures are drawn with these settings."""
    return {"settings_sha256": fingerprint(settings(config.plain(), "pictures")), "pictures": PICTURES}


def read_drawn(run: Path) -> dict[str, Any]:
    """The note of a run folder; empty if there is none that can be read."""
    try:
        noted = json.loads((run / DRAWN).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


@dataclass(frozen=True)
class Painter:
    """Draws what a run folder shows; `phrase`: what stands for a phrase in the run."""

    out: Path
    options: HeatmapOptions
    drawing: Drawing
    phrase: PhraseKind = "mean"
    _kept: IdSet = field(default_factory=IdSet)  # images whose photo was written, or is being written

    @property
    def keep(self) -> dict[str, Keep]:
        """What a Loader must keep of each image."""
        return {PHOTO: partial(fit, max_side=self.options.max_side)}

    def start(self, explanations: list[Explanation], batch: Batch) -> list[Drawn]:
        """Begin to draw a batch; each comes to its end when its files are in place."""
        keys = {sample.id: sample.ref.key for sample in batch.samples}
        looks = HeatmapOptions(**asdict(self.options))  # the class itself, which other processes know by its name
        drawing = []
        for explanation in explanations:
            photo = batch.images[keys[explanation.id]].kept[PHOTO]
            path = self.out / HEATMAPS / picture_name(explanation.id, self.options.format)
            drawing.append(self.drawing.submit(draw, photo, drawable(explanation), looks, self.phrase, path))
            if explanation.image not in self._kept:
                self._kept.add(explanation.image)
                places = (self.out / PHOTOS, self.out / THUMBNAILS)
                drawing.append(self.drawing.submit(keep_photo, photo, explanation.image, *places))
        return drawing

"""Draw heatmaps in threads, and keep each image once as a photo and a thumbnail."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from mmel_cli.config import RunConfig
from mmel_cli.idsets import IdSet
from mmel_cli.model.phrase_vectors import PhraseKind
from mmel_cli.pipelines.batches import Batch, Keep
from mmel_cli.render import HeatmapOptions, fit, picture_name, render, save_photo, save_picture
from mmel_cli.runs import fingerprint, settings
from mmel_cli.runs.clock import Beside, Clock
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
    pool: ThreadPoolExecutor
    phrase: PhraseKind = "mean"
    clock: Clock = field(default_factory=Clock)
    _kept: IdSet = field(default_factory=IdSet)  # images whose photo was written, or is being written

    @property
    def keep(self) -> dict[str, Keep]:
        """What a Loader must keep of each image."""
        return {PHOTO: partial(fit, max_side=self.options.max_side)}

    def start(self, explanations: list[Explanation], batch: Batch) -> list[Future[None]]:
        """Begin to draw a batch; each future ends when its files are in place."""
        keys = {sample.id: sample.ref.key for sample in batch.samples}
        drawing = []
        for explanation in explanations:
            photo = batch.images[keys[explanation.id]].kept[PHOTO]
            drawing.append(self.pool.submit(self._draw, explanation, photo))
            if explanation.image not in self._kept:
                self._kept.add(explanation.image)
                places = (self.out / PHOTOS, self.out / THUMBNAILS)
                drawing.append(self.pool.submit(self._keep_photo, photo, explanation.image, places))
        return drawing

    def _draw(self, explanation: Explanation, image: Image.Image) -> None:
        with self.clock.aside(Beside.DRAW):
            picture = render(image, explanation, self.options, self.phrase)
            save_picture(picture, self.out / HEATMAPS / picture_name(explanation.id, self.options.format))

    def _keep_photo(self, image: Image.Image, name: str, places: tuple[Path, Path]) -> None:
        with self.clock.aside(Beside.DRAW):
            save_photo(image, name, *places)

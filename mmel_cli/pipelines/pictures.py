"""Draw heatmaps and thumbnails in threads, each file by rename, so that a kill leaves no half picture."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from mmel_cli.fields import WORD_SHARE
from mmel_cli.model.phrase_vectors import PhraseKind
from mmel_cli.pipelines.batches import Batch, Keep
from mmel_cli.render import HeatmapOptions, fit, picture_name, render, thumbnail
from mmel_cli.runs.folder import HEATMAPS, THUMBNAILS
from mmel_cli.types import Explanation

THUMBNAIL_SIDE = 256  # pixels of the longer side; twice as many in a run with --words, whose pictures are wide
PHOTO = "photo"  # in Decoded.kept: the original at the size of pictures


@dataclass(frozen=True)
class Painter:
    """Draws what a run folder shows; `phrase`: what stands for a phrase in the run."""

    out: Path
    options: HeatmapOptions
    pool: ThreadPoolExecutor
    phrase: PhraseKind = "mean"

    @property
    def keep(self) -> dict[str, Keep]:
        """What a Loader must keep of each image."""
        return {PHOTO: partial(fit, max_side=self.options.max_side)}

    def start(self, explanations: list[Explanation], batch: Batch) -> list[Future[None]]:
        """Begin to draw a batch; each future ends when both files are in place."""
        keys = {sample.id: sample.ref.key for sample in batch.samples}
        return [self.pool.submit(self._draw, e, batch.images[keys[e.id]].kept[PHOTO]) for e in explanations]

    def _draw(self, explanation: Explanation, image: Image.Image) -> None:
        picture = render(image, explanation, self.options, self.phrase)
        name = picture_name(explanation.id)
        _save(picture, self.out / HEATMAPS / name)
        side = THUMBNAIL_SIDE * (2 if WORD_SHARE.name in explanation.fields else 1)
        _save(thumbnail(picture, side), (self.out / THUMBNAILS / name).with_suffix(".jpg"))


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    picture.save(temporary, "PNG" if path.suffix == ".png" else "JPEG")
    os.replace(temporary, path)  # noqa: PTH105 - Path.replace is the same call; this one says it overwrites

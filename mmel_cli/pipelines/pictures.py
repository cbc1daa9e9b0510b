"""Draw heatmaps and thumbnails in threads, each file by rename, so that a kill leaves no half picture."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mmel_cli.pipelines.batches import Batch
from mmel_cli.pipelines.folder import HEATMAPS, THUMBNAILS
from mmel_cli.render import HeatmapOptions, picture_name, render, thumbnail
from mmel_cli.types import Explanation


@dataclass(frozen=True)
class Painter:
    """Draws what a run folder shows."""

    out: Path
    options: HeatmapOptions
    pool: ThreadPoolExecutor

    def start(self, explanations: list[Explanation], batch: Batch) -> list[Future[None]]:
        """Begin to draw a batch; each future ends when both files are in place."""
        paths = {sample.id: sample.path for sample in batch.samples}
        return [self.pool.submit(self._draw, e, batch.images[paths[e.id]].image) for e in explanations]

    def _draw(self, explanation: Explanation, image: Image.Image) -> None:
        picture = render(image, explanation, self.options)
        name = picture_name(explanation.id)
        _save(picture, self.out / HEATMAPS / name)
        _save(thumbnail(picture), (self.out / THUMBNAILS / name).with_suffix(".jpg"))


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    picture.save(temporary, "PNG" if path.suffix == ".png" else "JPEG")
    os.replace(temporary, path)  # noqa: PTH105 - Path.replace is the same call; this one says it overwrites

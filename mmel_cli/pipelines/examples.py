"""The examples of a training: every usable record of an archive, on its side of the split."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from mmel_cli.archive import Archive
from mmel_cli.config import TrainConfig
from mmel_cli.errors import UsageError
from mmel_cli.evaluation.bench import Subject
from mmel_cli.geometry import to_grid
from mmel_cli.idsets import IdSet
from mmel_cli.model import Adapter
from mmel_cli.names import count
from mmel_cli.pipelines.batches import Loader
from mmel_cli.pipelines.origin import Input, find_input
from mmel_cli.pipelines.subjects import Stream
from mmel_cli.runs import Events, RunFolder
from mmel_cli.training import ExampleStore, split_of
from mmel_cli.training.objectives import FINER
from mmel_cli.types import Failure


@dataclass(frozen=True)
class Sides:
    """The examples of a training, by side of the split."""

    train: ExampleStore
    validation: ExampleStore
    images: dict[str, int]
    unusable: int  # without a mask or boxes, where those are needed
    failed: int

    def counts(self) -> dict[str, int]:
        """Records a side."""
        return {"train": len(self.train), "validation": len(self.validation)}


@dataclass(frozen=True)
class Collector:
    """Reads the records of one archive as the objective needs them."""

    run: Path
    archive: Archive
    scales: tuple[int, ...]
    config: TrainConfig
    folder: RunFolder
    model: Adapter | None  # of objectives that look at images through it
    events: Events

    @property
    def uses_truth(self) -> bool:
        """Whether the objective needs masks or boxes."""
        return self.config.objective != "faithfulness"

    def collect(self, stack: ExitStack, failed: int) -> Sides:
        """Every usable record; `failed` pairs could not even be explained.

        Raises:
            UsageError: if the input is gone, or a side of the split is empty.
        """
        source = find_input(self.run, self.archive.info, self.config.data)
        if source.gone:
            raise UsageError(f"{self.run}: {source.gone}")
        self.events.message(f"Input: {source.shown}")
        stores = {
            side: stack.enter_context(ExampleStore(self.folder.path, self.scales)) for side in ("train", "validation")
        }
        images = {side: IdSet() for side in stores}
        unusable = 0
        self.events.total(min(len(self.archive), self.config.limit or len(self.archive)))
        for subjects, failures in self._subjects(source):
            self.folder.failures.add(failures)
            for subject, text in zip(subjects, self._texts(subjects), strict=True):
                needed = self._needed(subject, text)
                if needed is None:
                    unusable += 1
                    continue
                side = split_of(subject.record.image, self.config.training)
                stores[side].add(subject.record, needed)
                images[side].add(subject.record.image)
            self.events.progress(len(subjects), len(failures))
            if self.folder.stop.asked():
                break
        failed += self.folder.failures.stages.total()
        names = {side: len(seen) for side, seen in images.items()}
        return self._checked(Sides(stores["train"], stores["validation"], names, unusable, failed))

    def _checked(self, sides: Sides) -> Sides:
        """Refuse a split of which a side is empty, and tell how large they are."""
        train, validation = len(sides.train), len(sides.validation)
        if not (train and validation) and not self.folder.stop.asked():
            need = "with a mask or boxes" if self.uses_truth else "that can be read"
            raise UsageError(
                f"{self.run}: {count(train, 'record')} {need} to train on and {validation} to validate; give more "
                "images, or another training.validation or training.seed"
            )
        note = f"{sides.unusable} without truth, {sides.failed} failed"
        self.events.message(f"{count(train, 'record')} to train on, {validation} to validate, {note}")
        return sides

    def _subjects(self, source: Input) -> Iterator[tuple[list[Subject], list[Failure]]]:
        pool, limits = self.folder.pool(self.config.workers), self.config.image.limits
        loader = None
        if self.model is not None:
            loader = Loader(pool, limits, partial(self.model.preprocess, geometry=self.archive.info.geometry))
        ids = (str(name) for (name,) in self.archive.rows("id"))
        wanted = self.archive.index if self.config.limit is None else IdSet(islice(ids, self.config.limit))
        size = self.config.batch_size
        return Stream(self.archive, source, wanted, size, loader, self.uses_truth, limits, pool).batches(())

    def _texts(self, subjects: list[Subject]) -> list[np.ndarray | None]:
        """Unit embeddings of the captions, less what they are explained against, where the objective looks at them."""
        if self.model is None or not subjects:
            return [None] * len(subjects)
        embeds = self.model.embed_texts(self.model.tokenize([s.record.caption for s in subjects]))
        others = [s.record.against for s in subjects if s.record.against is not None]
        if others:  # all or none of a run
            embeds = embeds - self.model.embed_texts(self.model.tokenize(others))
        return list(embeds.cpu().numpy())

    def _needed(self, subject: Subject, text: np.ndarray | None) -> dict[str, np.ndarray] | None:
        """What the objective needs besides the evidence; None where the record has it not."""
        needed: dict[str, np.ndarray] = {}
        if self.uses_truth:
            if subject.truth is None:
                return None
            rows, columns = self.archive.info.grid
            needed["truth"] = to_grid(subject.truth, subject.record.box, (rows * FINER, columns * FINER))
            if not needed["truth"].any():
                return None
        if text is not None:
            assert subject.image is not None  # noqa: S101 - the stream was asked for images
            needed |= {"images": subject.image.pixels.values.numpy(), "texts": text}
        return needed

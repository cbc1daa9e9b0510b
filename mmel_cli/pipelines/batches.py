"""Stream the input as decoded batches: threads decode the next batch while the model explains this one.

A batch is `size` consecutive entries of the input, whatever becomes of them, so the same pairs meet in the same
batch on every run, resumed or not; results are then equal bit for bit.
"""

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from PIL.Image import Image

from mmel_cli.data.images import ImageLimits, decode
from mmel_cli.errors import RecordError
from mmel_cli.model import Pixels
from mmel_cli.types import Failure, Sample

_AHEAD = 2  # batches that are decoded before they are needed


@dataclass(frozen=True)
class Decoded:
    """An image in memory, and as model input."""

    image: Image
    pixels: Pixels


@dataclass(frozen=True)
class Batch:
    """The usable pairs of a batch with their distinct images, and the failures."""

    samples: list[Sample] = field(default_factory=list)
    images: dict[Path, Decoded] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    skipped: int = 0  # done before


@dataclass(frozen=True)
class Loader:
    """How entries become batches."""

    pool: ThreadPoolExecutor
    limits: ImageLimits
    preprocess: Callable[[Image], Pixels]

    def batches(self, chunks: Iterable[list[Sample | Failure]], done: Container[str]) -> Iterator[Batch]:
        """Yield a batch for each chunk, in order; pairs whose id is in `done` are skipped without being decoded."""
        waiting: deque[tuple[Batch, dict[Path, Future[Decoded]]]] = deque()
        for chunk in chunks:
            waiting.append(self._start(chunk, done))
            if len(waiting) > _AHEAD:
                yield _finish(*waiting.popleft())
        while waiting:
            yield _finish(*waiting.popleft())

    def _start(self, chunk: list[Sample | Failure], done: Container[str]) -> tuple[Batch, dict[Path, Future[Decoded]]]:
        samples = [entry for entry in chunk if isinstance(entry, Sample) and entry.id not in done]
        failures = [entry for entry in chunk if isinstance(entry, Failure)]
        skipped = len(chunk) - len(samples) - len(failures)
        paths = dict.fromkeys(sample.path for sample in samples)
        return Batch(samples, {}, failures, skipped), {path: self.pool.submit(self._decode, path) for path in paths}

    def _decode(self, path: Path) -> Decoded:
        image = decode(path, self.limits)
        return Decoded(image, self.preprocess(image))


def by_count(entries: Iterable[Sample | Failure], size: int) -> Iterator[list[Sample | Failure]]:
    """`size` consecutive entries at a time."""
    entries = iter(entries)
    while chunk := list(islice(entries, size)):
        yield chunk


def by_image(samples: Iterable[Sample], size: int) -> Iterator[list[Sample | Failure]]:
    """At least `size` consecutive samples at a time, never parting consecutive captions of one image."""
    chunk: list[Sample | Failure] = []
    last = ""
    for sample in samples:
        if len(chunk) >= size and sample.image != last:
            yield chunk
            chunk = []
        chunk.append(sample)
        last = sample.image
    if chunk:
        yield chunk


def _finish(batch: Batch, futures: dict[Path, Future[Decoded]]) -> Batch:
    """Wait for the images; a pair whose image failed becomes a Failure."""
    images: dict[Path, Decoded] = {}
    broken: dict[Path, RecordError] = {}
    for path, future in futures.items():
        try:
            images[path] = future.result()
        except RecordError as error:
            broken[path] = error
    failures = [Failure(s.id, broken[s.path].stage, str(broken[s.path])) for s in batch.samples if s.path in broken]
    samples = [sample for sample in batch.samples if sample.path in images]
    return Batch(samples, images, [*batch.failures, *failures], batch.skipped)

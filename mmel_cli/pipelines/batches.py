"""Stream the input as decoded batches: threads decode the next batch while the model explains this one.

A batch is `size` consecutive entries of the input, whatever becomes of them, so the same pairs meet in the same
batch on every run, resumed or not; results are then equal bit for bit.

An original lives only while it is decoded: what a batch holds of an image is the model's input and the smaller copies
that the caller names, so memory does not grow with the size of photos times the size of batches.
"""

import os
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from threading import Semaphore

from PIL.Image import Image

from mmel_cli.data.images import ImageLimits, decode
from mmel_cli.errors import RecordError
from mmel_cli.runs.clock import Beside, Clock, Part
from mmel_cli.tensors import Decoded, Pixels
from mmel_cli.types import Failure, ImageRef, Sample

AHEAD = 2  # batches that are decoded before they are needed

Keep = Callable[[Image], Image]
"""Makes of the upright RGB original the copy that is needed later, at a size that does not grow with the original."""


_Decoding = Decoded | RecordError


@dataclass(frozen=True)
class Batch:
    """The usable pairs of a batch with their distinct images, and the failures."""

    samples: list[Sample] = field(default_factory=list)
    images: dict[str, Decoded] = field(default_factory=dict)  # by ImageRef.key
    failures: list[Failure] = field(default_factory=list)
    skipped: int = 0  # done before


@dataclass(frozen=True)
class Loader:
    """How entries become batches. However many threads the pool has, `gate` bounds how many originals are in memory."""

    pool: ThreadPoolExecutor
    limits: ImageLimits
    preprocess: Callable[[Image], Pixels]
    keep: Mapping[str, Keep] = field(default_factory=dict)
    gate: Semaphore = field(default_factory=lambda: Semaphore(os.cpu_count() or 1))
    whole: bool = False  # a batch of which some pairs are done comes with all of them
    clock: Clock = field(default_factory=Clock)

    def batches(self, chunks: Iterable[list[Sample | Failure]], done: Container[str]) -> Iterator[Batch]:
        """Yield a batch for each chunk, in order; pairs whose id is in `done` are skipped without being decoded.

        With `whole`, only batches of which every pair is done are skipped.
        """
        return self.clock.each(Part.READ, self._batches(chunks, done))

    def _batches(self, chunks: Iterable[list[Sample | Failure]], done: Container[str]) -> Iterator[Batch]:
        waiting: deque[tuple[Batch, dict[str, Future[_Decoding]]]] = deque()
        for chunk in chunks:
            waiting.append(self._start(chunk, done))
            if len(waiting) > AHEAD:
                yield _finish(*waiting.popleft())
        while waiting:
            yield _finish(*waiting.popleft())

    def _start(self, chunk: list[Sample | Failure], done: Container[str]) -> tuple[Batch, dict[str, Future[_Decoding]]]:
        samples = [entry for entry in chunk if isinstance(entry, Sample)]
        missing = [sample for sample in samples if sample.id not in done]
        samples = samples if self.whole and missing else missing
        failures = [entry for entry in chunk if isinstance(entry, Failure)]
        skipped = len(chunk) - len(samples) - len(failures)
        refs = {sample.ref.key: sample.ref for sample in samples}
        futures = {key: self.pool.submit(self._decode, ref) for key, ref in refs.items()}
        return Batch(samples, {}, failures, skipped), futures

    def _decode(self, ref: ImageRef) -> _Decoding:
        """A RecordError is made anew and returned: the traceback of the one that was raised would hold the original."""
        try:
            with self.gate, self.clock.aside(Beside.DECODE):
                return self._reduce(ref)
        except RecordError as error:
            stage, text = error.stage, str(error)
        return RecordError(stage, text)

    def _reduce(self, ref: ImageRef) -> Decoded:
        image = decode(ref, self.limits)
        kept = {name: make(image) for name, make in self.keep.items()}
        return Decoded(self.preprocess(image), (image.height, image.width), kept)


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


def _finish(batch: Batch, futures: dict[str, Future[_Decoding]]) -> Batch:
    """Wait for the images; a pair whose image failed becomes a Failure."""
    images: dict[str, Decoded] = {}
    broken: dict[str, RecordError] = {}
    for key, future in futures.items():
        result = future.result()
        if isinstance(result, Decoded):
            images[key] = result
        else:
            broken[key] = result
    faults = [(sample.id, broken[sample.ref.key]) for sample in batch.samples if sample.ref.key in broken]
    failures = [Failure(name, error.stage, str(error)) for name, error in faults]
    samples = [sample for sample in batch.samples if sample.ref.key in images]
    return Batch(samples, images, [*batch.failures, *failures], batch.skipped)

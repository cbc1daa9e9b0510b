"""What is scored: records of an archive with their image, their ground truth and their place in the input."""

from array import array
from collections import OrderedDict, deque
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, islice
from typing import BinaryIO

import numpy as np

from mmel_cli.archive import Archive
from mmel_cli.data.images import ImageLimits
from mmel_cli.data.paths import shown
from mmel_cli.data.truth import has_truth, read_truth
from mmel_cli.errors import RecordError
from mmel_cli.evaluation.bench import Subject
from mmel_cli.evaluation.phrases import NamedPhrase, is_read, map_of
from mmel_cli.idsets import IdIndex, IdSet, digest
from mmel_cli.pipelines.batches import AHEAD, Batch, Loader, by_image
from mmel_cli.pipelines.origin import Input
from mmel_cli.tensors import Decoded
from mmel_cli.types import Explanation, Failure, ImageRef, Phrase, Sample

_IMAGES_AT_ONCE = 16
_MISSING = 1000  # failures that are told together


class Recent:
    """The samples that a stream has come by last: captions of one image that follow each other are among them."""

    def __init__(self) -> None:
        self._chunks: deque[dict[str, Sample]] = deque(maxlen=AHEAD + 2)

    def watch(self, chunks: Iterable[list[Sample | Failure]]) -> Iterator[list[Sample | Failure]]:
        """The same chunks, as they are asked for."""
        for chunk in chunks:
            self._chunks.append({entry.id: entry for entry in chunk if isinstance(entry, Sample)})
            yield chunk

    def find(self, record_id: str) -> Sample | None:
        """A sample by the id of its record; None if it is not among the last."""
        return next((chunk[record_id] for chunk in self._chunks if record_id in chunk), None)


@dataclass(frozen=True)
class Stream:
    """Subjects of one archive in batches; captions of an image that follow each other stay together."""

    archive: Archive
    source: Input
    wanted: Container[str]  # record ids
    size: int
    images: Loader | None  # None: no metric needs images
    truth: bool
    limits: ImageLimits
    pool: ThreadPoolExecutor
    phrases: bool = False  # whether the truth of phrases is wanted
    recent: Recent = field(default_factory=Recent)
    share: tuple[int, int] = (0, 1)  # (k, n): only batch k of every n, and what the input lacks is left to others

    def batches(self, done: Container[str]) -> Iterator[tuple[list[Subject], list[Failure]]]:
        """Every wanted record once: a Subject, or a Failure that says what changed since it was explained."""
        seen = IdSet()
        for batch in self._decoded(done):
            seen.update(sample.id for sample in batch.samples)
            seen.update(failure.id for failure in batch.failures)
            subjects, failures = self._join(batch)
            yield subjects, [*batch.failures, *failures]
        if self.share == (0, 1):
            yield from (([], gone) for gone in missing(self.archive, self.source, self.wanted, seen, done))

    def _decoded(self, done: Container[str]) -> Iterator[Batch]:
        first, every = self.share
        chunks = self.recent.watch(islice(by_image(self._samples(), self.size), first, None, every))
        if self.images is not None:
            yield from self.images.batches(chunks, done)
            return
        for chunk in chunks:
            yield Batch([entry for entry in chunk if isinstance(entry, Sample) and entry.id not in done])

    def _samples(self) -> Iterator[Sample]:
        if not self.source.gone:
            yield from (sample for sample in self.source.samples() if sample.id in self.wanted)
            return
        for name, image, caption in self.archive.rows("id", "image", "caption"):
            if str(name) in self.wanted:
                yield Sample(str(name), str(image), ImageRef(str(image), _absent), str(caption))

    def _join(self, batch: Batch) -> tuple[list[Subject], list[Failure]]:
        """Put record, image and ground truth of each sample together."""
        subjects, failures = [], []
        records = self.archive.several([sample.id for sample in batch.samples])
        masks = [
            self.pool.submit(read_truth, sample, record.image_size, self.limits) if self.truth else None
            for sample, record in zip(batch.samples, records, strict=True)
        ]
        named = [
            self._named(sample, record) if self.phrases else []
            for sample, record in zip(batch.samples, records, strict=True)
        ]
        for sample, record, mask, phrases in zip(batch.samples, records, masks, named, strict=True):
            image = batch.images.get(sample.ref.key)
            try:
                _check_same(record, sample, image)
                truth = mask.result() if mask else None
                with_truth = tuple(_with_truth(record, phrase, found) for phrase, found in phrases)
                layers = layer_evidence(record, self.archive)
                subjects.append(Subject(record, sample, image, truth, layers, with_truth))
            except RecordError as error:
                failures.append(Failure(sample.id, error.stage, str(error)))
        return subjects, failures

    def _named(self, sample: Sample, record: Explanation) -> list[tuple[Phrase, "Future[np.ndarray | None]"]]:
        """The phrases that have a truth and that the model reads, and their truth as it is read."""
        return [
            (phrase, self.pool.submit(read_truth, phrase, record.image_size, self.limits))
            for phrase in sample.phrases
            if has_truth(phrase) and is_read(record, phrase.start, phrase.end)
        ]


def missing(
    archive: Archive, source: Input, wanted: Container[str], seen: Container[str], done: Container[str]
) -> Iterator[list[Failure]]:
    """Failures of the wanted records that are neither seen in the input nor done, some at a time."""
    if source.gone:
        return
    names = (str(name) for (name,) in archive.rows("id"))
    gone = (name for name in names if name in wanted and name not in seen and name not in done)
    while failures := [Failure(name, "pair", "is not in the input any more") for name in islice(gone, _MISSING)]:
        yield failures


def layer_evidence(record: Explanation, archive: Archive) -> dict[str, np.ndarray]:
    """The record's maps of each layer that are evidence, by the field's name without its group."""
    declared = [f.name for f in archive.info.fields if f.evidence and f.dims == ("layers", "rows", "columns")]
    return {name.split("/")[-1]: record.fields[name] for name in declared}


@dataclass
class Siblings:
    """All wanted records of an image with their truth, wherever they stand; of a few images at a time.

    Of each record 12 bytes are kept, and where truth is wanted the samples of images whose captions do not follow each
    other in the input.
    """

    archive: Archive
    source: Input
    wanted: Container[str]
    truth: bool
    limits: ImageLimits
    recent: Recent
    _images: OrderedDict[str, list[Subject]] = field(default_factory=OrderedDict)

    def __call__(self, record: Explanation) -> list[Subject]:
        """The records of the same image, in the order of their ids; the record itself is among them."""
        if record.image not in self._images:
            records = self._records(record.image)
            self._images[record.image] = [self._subject(one) for one in records] if len(records) > 1 else []
            while len(self._images) > _IMAGES_AT_ONCE:
                self._images.popitem(last=False)
        return self._images[record.image]

    def _records(self, image: str) -> list[Explanation]:
        index, numbers = self._by_image
        together = self.archive.numbered(numbers[list(index.candidates(image))])
        return sorted((record for record in together if record.image == image), key=lambda record: record.id)

    @cached_property
    def _by_image(self) -> tuple[IdIndex, np.ndarray]:
        """The wanted records by their image, and their numbers in the archive."""
        numbers, images = array("i"), array("Q")
        for number, (name, image) in enumerate(self.archive.rows("id", "image")):
            if str(name) in self.wanted:
                numbers.append(number)
                images.append(digest(str(image)))
        return IdIndex.of(np.array(images, np.uint64)), np.array(numbers, np.int32)

    @cached_property
    def _apart(self) -> dict[str, Sample]:
        """Samples of images of which not all wanted captions follow each other in the input."""
        apart: dict[str, Sample] = {}
        for image, entries in groupby(self.source.samples(), lambda sample: sample.image):
            together = [sample for sample in entries if sample.id in self.wanted]
            if together and len(together) < sum(1 for _ in self._by_image[0].candidates(image)):
                apart |= {sample.id: sample for sample in together}
        return apart

    def _subject(self, record: Explanation) -> Subject:
        if not self.truth:
            return Subject(record, _without_input(record), None, None)
        sample = self.recent.find(record.id) or self._apart.get(record.id) or _without_input(record)
        try:
            truth = read_truth(sample, record.image_size, self.limits)
        except RecordError:  # it is a Failure where it is scored itself
            truth = None
        return Subject(record, sample, None, truth)


def _without_input(record: Explanation) -> Sample:
    return Sample(record.id, record.image, ImageRef(record.image, _absent), record.caption)


def _check_same(record: Explanation, sample: Sample, image: Decoded | None) -> None:
    """Refuse to score a map against another caption or another image than it explains."""
    if sample.caption != record.caption:
        raise RecordError("pair", "its caption in the input is not the one that was explained")
    if record.against is not None and sample.against != record.against:
        raise RecordError("pair", "what its caption is against in the input is not what it was explained against")
    if image is not None and image.size != record.image_size:
        now, then = (f"{width}x{height}" for height, width in (image.size, record.image_size))
        raise RecordError("image", f"is {now} now, {then} when explained")


def _with_truth(record: Explanation, phrase: Phrase, reading: "Future[np.ndarray | None]") -> NamedPhrase:
    """Refuse to score what a run says of phrases where it has others."""
    if map_of(record, phrase.start, phrase.end) is None:
        text = shown(repr(record.caption[phrase.start : phrase.end]))
        raise RecordError("pair", f"its phrase {text} in the input is none that was explained; explain again")
    truth = reading.result()
    assert truth is not None  # noqa: S101 - has_truth
    return NamedPhrase(phrase.start, phrase.end, truth)


def _absent() -> BinaryIO:
    """Opens an image of an input that cannot be read; nothing does, since no metric that needs images is computed."""
    raise RecordError("image", "is not there: the input cannot be read")

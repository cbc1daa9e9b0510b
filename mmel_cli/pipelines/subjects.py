"""What is scored: records of an archive with their image, their ground truth and their place in the input."""

from collections import OrderedDict
from collections.abc import Container, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO

import numpy as np

from mmel_cli.archive import Archive
from mmel_cli.data.images import ImageLimits
from mmel_cli.data.paths import shown
from mmel_cli.data.truth import has_truth, read_truth
from mmel_cli.errors import RecordError
from mmel_cli.evaluation.bench import Subject
from mmel_cli.evaluation.phrases import NamedPhrase, is_read, map_of
from mmel_cli.pipelines.batches import Batch, Loader, by_image
from mmel_cli.pipelines.origin import Input
from mmel_cli.tensors import Decoded
from mmel_cli.types import Explanation, Failure, ImageRef, Phrase, Sample

_IMAGES_AT_ONCE = 16


@dataclass(frozen=True)
class Stream:
    """Subjects of one archive in batches; captions of an image that follow each other stay together."""

    archive: Archive
    source: Input
    wanted: frozenset[str]  # record ids
    size: int
    images: Loader | None  # None: no metric needs images
    truth: bool
    limits: ImageLimits
    pool: ThreadPoolExecutor
    phrases: bool = False  # whether the truth of phrases is wanted

    def batches(self, done: Container[str]) -> Iterator[tuple[list[Subject], list[Failure]]]:
        """Every wanted record once: a Subject, or a Failure that says what changed since it was explained."""
        seen: set[str] = set()
        for batch in self._decoded(done):
            seen.update(sample.id for sample in batch.samples)
            seen.update(failure.id for failure in batch.failures)
            subjects, failures = self._join(batch)
            if subjects or failures or batch.failures:
                yield subjects, [*batch.failures, *failures]
        if not self.source.gone:
            missing = [
                name for name in self.archive.ids if name in self.wanted and name not in seen and name not in done
            ]
            if missing:
                yield [], [Failure(name, "pair", "is not in the input any more") for name in missing]

    def _decoded(self, done: Container[str]) -> Iterator[Batch]:
        chunks = by_image(self._samples(), self.size)
        if self.images is not None:
            yield from self.images.batches(chunks, done)
            return
        for chunk in chunks:
            yield Batch([entry for entry in chunk if isinstance(entry, Sample) and entry.id not in done])

    def _samples(self) -> Iterator[Sample]:
        if not self.source.gone:
            yield from (sample for sample in self.source.samples() if sample.id in self.wanted)
            return
        columns = (self.archive.column(name) for name in ("id", "image", "caption"))
        for name, image, caption in zip(*columns, strict=True):
            if name in self.wanted:
                yield Sample(str(name), str(image), ImageRef(str(image), _absent), str(caption))

    def _join(self, batch: Batch) -> tuple[list[Subject], list[Failure]]:
        """Put record, image and ground truth of each sample together."""
        subjects, failures = [], []
        records = [self.archive[sample.id] for sample in batch.samples]
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


def layer_evidence(record: Explanation, archive: Archive) -> dict[str, np.ndarray]:
    """The record's maps of each layer that are evidence, by the field's name without its group."""
    declared = [f.name for f in archive.info.fields if f.evidence and f.dims == ("layers", "rows", "columns")]
    return {name.split("/")[-1]: record.fields[name] for name in declared}


@dataclass
class Siblings:
    """All wanted records of an image with their truth, wherever they stand; of a few images at a time."""

    archive: Archive
    source: Input
    wanted: frozenset[str]
    truth: bool
    limits: ImageLimits
    _images: OrderedDict[str, list[Subject]] = field(default_factory=OrderedDict)

    def __call__(self, record: Explanation) -> list[Subject]:
        """The records of the same image, in the order of their ids; the record itself is among them."""
        if record.image not in self._images:
            ids = self._ids.get(record.image, [])
            self._images[record.image] = [self._subject(name) for name in ids] if len(ids) > 1 else []
            while len(self._images) > _IMAGES_AT_ONCE:
                self._images.popitem(last=False)
        return self._images[record.image]

    @cached_property
    def _ids(self) -> dict[str, list[str]]:
        """Ids by image, sorted."""
        by_image: dict[str, list[str]] = {}
        for name, image in zip(self.archive.column("id"), self.archive.column("image"), strict=True):
            if name in self.wanted:
                by_image.setdefault(str(image), []).append(str(name))
        return {image: sorted(names) for image, names in by_image.items()}

    @cached_property
    def _samples(self) -> dict[str, Sample]:
        """Where the truth of these records lies."""
        several = {name for names in self._ids.values() if len(names) > 1 for name in names}
        return {sample.id: sample for sample in self.source.samples() if sample.id in several} if self.truth else {}

    def _subject(self, name: str) -> Subject:
        record = self.archive[name]
        sample = self._samples.get(name) or Sample(name, record.image, ImageRef(record.image, _absent), record.caption)
        try:
            truth = read_truth(sample, record.image_size, self.limits) if self.truth else None
        except RecordError:  # it is a Failure where it is scored itself
            truth = None
        return Subject(record, sample, None, truth)


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

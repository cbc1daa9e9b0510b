"""Does the map of each name find its quarter of a mosaic? One to four names in a caption."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mmel_cli.data.paths import record_seed
from mmel_cli.evaluation import localisation
from mmel_cli.evaluation.bench import Bench, Partner, Subject
from mmel_cli.evaluation.metric import AGAIN, Copy, Metric, Name, Outcome
from mmel_cli.evaluation.mosaics import TILE, listing, mentions, mosaic, name_of, quarter, squash
from mmel_cli.evaluation.phrases import is_read, map_of
from mmel_cli.tensors import Decoded
from mmel_cli.types import Explanation, ImageRef, Phrase, Sample

_MOST = 4  # names


def _name(names: int) -> Name:
    many = "the record's name" if names == 1 else f"the first {names} names joined, the record's first"
    return Name(
        f"recognition-{names}", "up", (0, 1),
        f"on a 2 x 2 mosaic of the record's image and three of other names, with {many} as caption: positive evidence "
        "of each name's map in its own quadrant and negative evidence outside over all of it, pooled over the names; "
        "undefined for a caption that does not name exactly one thing",
    )  # fmt: skip


class Recognition(Metric):
    """The name of a record is the only phrase of its caption; the others are drawn by the record's id."""

    names = tuple(_name(names) for names in range(1, _MOST + 1))
    group = "words"
    source = "FIxLIP 2025, pointing game recognition"
    needs = AGAIN | {"score"}
    by_phrase = True

    def copies(self, bench: Bench) -> Mapping[str, Copy]:
        """See Metric."""
        return {TILE: partial(squash, size=bench.adapter.spec.image_size)}

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        sheets = {s.record.id: sheet for s in subjects if (sheet := _sheet(s, bench)) is not None}
        samples = [sample for sheet in sheets.values() for sample in sheet.samples]
        images = {sheet.samples[0].ref.key: sheet.image for sheet in sheets.values()}
        records = bench.again.explanations(samples, images) if samples else {}
        return [_outcome(sheets[s.record.id], records) if s.record.id in sheets else Outcome() for s in subjects]


@dataclass(frozen=True)
class _Sheet:
    """A mosaic, its pairs with one name to four, and the quarter of each name."""

    image: Decoded
    samples: list[Sample]
    places: list[int]


def recognition(record: Explanation, phrases: Sequence[Phrase], places: Sequence[int]) -> float | None:
    """Positive evidence of each phrase in its quarter and negative outside over all, pooled over the phrases.

    Args:
        record: an explained mosaic.
        phrases: the names in its caption.
        places: the quarter of each.

    Returns:
        None where no phrase has any evidence, or the model does not read one of them.
    """
    good = total = 0.0
    for phrase, place in zip(phrases, places, strict=True):
        values = map_of(record, phrase.start, phrase.end) if is_read(record, phrase.start, phrase.end) else None
        if values is None:
            return None
        right, whole = localisation.quadrant_evidence(values, place)
        good, total = good + right, total + whole
    return good / total if total > 0 else None


def _outcome(sheet: _Sheet, records: Mapping[str, Explanation]) -> Outcome:
    outcome = Outcome()
    for number, sample in enumerate(sheet.samples, 1):
        record = records.get(sample.id)
        if record is not None:
            outcome.values[f"recognition-{number}"] = recognition(record, sample.phrases, sheet.places[:number])
    return outcome


def _sheet(subject: Subject, bench: Bench) -> _Sheet | None:
    """The mosaic of a record; None without a name, or without three others."""
    record, name = subject.record, name_of(subject.sample)
    rng = np.random.default_rng(record_seed(record.id))
    places = [int(place) for place in rng.permutation(4)]
    others = _others(subject, name, bench, rng) if name is not None else []
    if name is None or len(others) < _MOST - 1:
        return None
    named = [(name, subject.decoded.kept[TILE]), *((text, partner.tile) for partner, text in others)]
    sheet = mosaic([named[places.index(place)][1] for place in range(_MOST)])
    decoded = Decoded(bench.adapter.preprocess(sheet, "squash"), (sheet.height, sheet.width))
    ref = ImageRef(record.id, subject.sample.ref.open)  # a mosaic for each record, decoded already
    samples = []
    for count in range(1, _MOST + 1):
        caption, spans = listing([text for text, _ in named[:count]])
        boxes = [quarter(sheet, place) for place in places[:count]]
        phrases = tuple(Phrase(*span, boxes=(box,)) for span, box in zip(spans, boxes, strict=True))
        samples.append(Sample(f"{record.id}/{count}", record.image, ref, caption, boxes=tuple(boxes), phrases=phrases))
    return _Sheet(decoded, samples, places)


def _others(subject: Subject, name: str, bench: Bench, rng: np.random.Generator) -> list[tuple[Partner, str]]:
    """Three partners, each with a name that no caption of another image in the mosaic says, as far as there are."""
    own = {sibling.record.caption for sibling in bench.siblings(subject.record)} | {subject.record.caption}
    names, said, chosen = [name], [own], list[tuple[Partner, str]]()
    for number in rng.permutation(len(bench.partners)):
        partner = bench.partners[int(number)]
        if partner.image == subject.record.image or any(mentions(partner.captions, known) for known in names):
            continue
        free = [text for text in partner.names if not any(mentions(captions, text) for captions in said)]
        if free:
            names.append(free[int(rng.integers(len(free)))])
            said.append(set(partner.captions))
            chosen.append((partner, names[-1]))
        if len(chosen) == _MOST - 1:
            break
    return chosen

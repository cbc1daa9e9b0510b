"""Recognition of the right quarter of a 2 x 2 mosaic, by maps made anew."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from mmel_cli.data.paths import record_seed
from mmel_cli.evaluation import localisation
from mmel_cli.evaluation.bench import Bench, Subject
from mmel_cli.evaluation.metric import AGAIN, Copy, Metric, Name, Outcome
from mmel_cli.evaluation.mosaics import TILE, mosaic, quarter, squash
from mmel_cli.tensors import Decoded
from mmel_cli.types import ImageRef, Sample


class Quadrants(Metric):
    """With three images of other captions, drawn by the record's id."""

    names = (
        Name("quadrant-recognition", "up", (0, 1),
             "on a 2 x 2 mosaic with three images of other captions: positive evidence in the caption's own quadrant "
             "and negative evidence elsewhere over all evidence; one caption, where the source also joins up to four"),
    )  # fmt: skip
    group = "quadrants"
    source = "FIxLIP 2025, pointing game recognition, of one object"
    needs = AGAIN

    def copies(self, bench: Bench) -> Mapping[str, Copy]:
        """See Metric."""
        return {TILE: partial(squash, size=bench.adapter.spec.image_size)}

    def measure(self, bench: Bench, subjects: Sequence[Subject]) -> list[Outcome]:
        """See Metric."""
        samples, images, places = [], {}, {}
        for subject in subjects:
            made = _mosaic_of(subject, bench)
            if made is not None:
                sample, image, places[subject.record.id] = made
                samples.append(sample)
                images[sample.ref.key] = image
        maps = bench.again.maps(samples, images) if samples else {}
        return [_outcome(maps.get(s.record.id), places.get(s.record.id)) for s in subjects]


def _outcome(values: np.ndarray | None, place: int | None) -> Outcome:
    if values is None or place is None:
        return Outcome()
    return Outcome({"quadrant-recognition": localisation.quadrant_recognition(values, place)})


def _mosaic_of(subject: Subject, bench: Bench) -> tuple[Sample, Decoded, int] | None:
    """The mosaic of a record as a pair of its own, and the quarter that it is in; None without three others."""
    record = subject.record
    free = [p.tile for p in bench.partners if p.image != record.image and record.caption not in p.captions]
    if len(free) < 3:
        return None
    rng = np.random.default_rng(record_seed(record.id))
    place = int(rng.integers(4))
    others = [free[int(k)] for k in rng.permutation(len(free))[:3]]
    sheet = mosaic([*others[:place], subject.decoded.kept[TILE], *others[place:]])
    ref = ImageRef(record.id, subject.sample.ref.open)  # a mosaic for each record, decoded already
    decoded = Decoded(bench.adapter.preprocess(sheet, "squash"), (sheet.height, sheet.width))
    sample = replace(subject.sample, ref=ref, mask=None, boxes=(quarter(sheet, place),), phrases=())
    return sample, decoded, place

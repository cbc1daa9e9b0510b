"""All that there is to say of one record of an archive, as plain values: what `mmel show` prints."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmel_cli.archive import Archive
from mmel_cli.blobs import Blob, blobs
from mmel_cli.data.paths import resolve
from mmel_cli.errors import RecordError
from mmel_cli.fields import MATCH_AMONG, MATCH_RANK, PHRASE_MAP, PHRASE_SHARE, WORD_SHARE
from mmel_cli.render import ENDINGS, picture_name
from mmel_cli.runs.folder import HEATMAPS
from mmel_cli.runs.inputs import group, read_notes
from mmel_cli.types import Explanation, Map

"""Fields: 1 + how many of the other captions score at least as high on the image; how many captions were compared."""


@dataclass(frozen=True)
class WordView:
    """A word of the caption: what the score loses without it, and its share of the score, where the run has them."""

    text: str
    start: int  # characters of the caption
    end: int  # exclusive
    value: float | None
    share: float | None


@dataclass(frozen=True)
class PhraseView:
    """A phrase of the caption: its share of the score and where in the image it comes from."""

    text: str
    start: int  # characters of the caption
    end: int  # exclusive
    share: float
    map: Map
    regions: tuple[Blob, ...]


@dataclass(frozen=True)
class RecordView:
    """One record: what it says, how strong it is, and where it lies."""

    record: Explanation
    rank: tuple[int, int] | None  # of its score among so many captions on its image, from 1; None: not archived
    words: tuple[WordView, ...]
    phrases: tuple[PhraseView, ...]
    regions: tuple[Blob, ...]
    archive: Path
    row: int  # there, from 0
    picture: Path | None  # the heatmap, if it is drawn
    photo: Path | None  # the original, if it is a file and still there

    @property
    def positive(self) -> float:
        """The sum of the evidence for the caption."""
        return _total(self.record.map.clip(min=0))

    @property
    def negative(self) -> float:
        """The sum of the evidence against the caption, as a positive number."""
        return _total(-self.record.map.clip(max=0))

    def plain(self) -> dict[str, Any]:
        """As a JSON object; what is not known is null, the map rows of columns."""
        record = self.record
        rank, among = self.rank or (None, None)
        return {
            "id": record.id,
            "caption": record.caption,
            "truncated": record.truncated,
            "image": record.image,
            "image_size": list(record.image_size),
            "score": _number(record.score),
            "logit": _number(record.logit),
            "rank": rank,
            "among": among,
            "against": record.against,
            "against_score": None if record.against_score is None else _number(record.against_score),
            "words": [asdict(word) for word in self.words],
            "phrases": [
                {"text": p.text, "start": p.start, "end": p.end, "share": _number(p.share)}
                | {"regions": [_region(blob) for blob in p.regions], "map": _rows(p.map)}
                for p in self.phrases
            ],
            "box": list(record.box),
            "positive_evidence": self.positive,
            "negative_evidence": self.negative,
            "regions": [_region(blob) for blob in self.regions],
            "map": _rows(record.map),
            "archive": str(self.archive),
            "row": self.row,
            "picture": None if self.picture is None else str(self.picture),
            "photo": None if self.photo is None else str(self.photo),
        }


def view(archive: Archive, record_id: str, run: Path | None, threshold: float) -> RecordView:
    """Look a record up.

    Args:
        archive: that has it.
        record_id: its id.
        run: the run folder that the archive is of, if there is one.
        threshold: of its regions (blobs.blobs).
    """
    record = archive[record_id]
    path, row = archive.place(record_id)
    fields = record.fields
    return RecordView(
        record=record,
        rank=(int(fields[MATCH_RANK.name]), int(fields[MATCH_AMONG.name]))
        if MATCH_RANK.name in fields and MATCH_AMONG.name in fields
        else None,
        words=_words(record),
        phrases=_phrases(record, threshold),
        regions=tuple(blobs(record.map, record.box, record.image_size, threshold)),
        archive=path,
        row=row,
        picture=_picture(run, record_id),
        photo=_photo(run, record.image),
    )


def _words(record: Explanation) -> tuple[WordView, ...]:
    values, shares = record.word_values, record.fields.get(WORD_SHARE.name)
    return tuple(
        WordView(
            word.text,
            word.start,
            word.end,
            None if values is None else _number(values[n]),
            None if shares is None else _number(shares[n]),
        )
        for n, word in enumerate(record.words)
    )


def _phrases(record: Explanation, threshold: float) -> tuple[PhraseView, ...]:
    maps, shares = record.fields.get(PHRASE_MAP.name, ()), record.fields.get(PHRASE_SHARE.name, ())
    return tuple(
        PhraseView(
            phrase.text,
            phrase.start,
            phrase.end,
            float(share),
            values,
            tuple(blobs(values, record.box, record.image_size, threshold)),
        )
        for phrase, share, values in zip(record.phrases, shares, maps, strict=True)
    )


def _picture(run: Path | None, record_id: str) -> Path | None:
    """The heatmap in whichever format it is there: a call with another one takes away those before."""
    paths = [run / HEATMAPS / picture_name(record_id, known) for known in ENDINGS] if run is not None else []
    return next((path for path in paths if path.is_file()), None)


def _photo(run: Path | None, image: str) -> Path | None:
    """The file of the original, below the input that run.yaml notes."""
    noted = None if run is None else group(read_notes(run), "input").get("path")
    if not isinstance(noted, str):
        return None
    path = Path(noted)
    try:
        return resolve(path if path.is_dir() else path.parent, image)
    except RecordError:  # a member of a tar, or gone
        return None


def _region(blob: Blob) -> dict[str, Any]:
    return {"box": list(blob.box), "share": blob.share, "peak": blob.peak}


def _rows(values: Map) -> list[list[float | None]]:
    return [[_number(value) for value in row] for row in values.tolist()]


def _number(value: Any) -> float | None:
    """JSON knows no NaN."""
    return float(value) if math.isfinite(value) else None


def _total(values: Map) -> float:
    return float(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).sum(dtype=np.float64))

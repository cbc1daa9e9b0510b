"""The captions that a record's own is told from, and the images that mosaics are filled up with."""

import hashlib
from collections.abc import Container, Iterable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import torch

from mmel_cli.archive import Archive
from mmel_cli.config import EvalConfig
from mmel_cli.errors import UsageError
from mmel_cli.evaluation.bench import Partner, Rivals
from mmel_cli.evaluation.mosaics import TILE, name_of
from mmel_cli.idsets import IdSet
from mmel_cli.model import Adapter
from mmel_cli.pipelines.batches import by_image
from mmel_cli.pipelines.subjects import Stream
from mmel_cli.tensors import Decoded
from mmel_cli.types import Sample

_PARTNERS = 32  # images
_BATCH = 64


@dataclass(frozen=True)
class RivalTexts:
    """Captions to tell the right one from, and the images of the run that they belong to."""

    texts: tuple[str, ...]
    images: tuple[Container[str], ...]

    @classmethod
    def of(cls, archive: Archive, config: EvalConfig) -> "RivalTexts":
        """The captions of --captions, else some distinct captions of the run, whatever their order there.

        Raises:
            UsageError: if the file cannot be read or is empty.
        """
        captions = (str(text) for (text,) in archive.rows("caption"))
        kept = tuple(_first_shuffled(captions, config.rivals)) if config.captions is None else _lines(config.captions)
        of = {text: IdSet() for text in kept}
        for text, image in archive.rows("caption", "image"):
            if text in of:
                of[text].add(str(image))
        return cls(kept, tuple(of.values()))

    def embed(self, model: Adapter) -> Rivals:
        """The same with their unit embeddings."""
        starts = range(0, len(self.texts), _BATCH)
        parts = [model.embed_texts(model.tokenize(list(self.texts[i : i + _BATCH]))) for i in starts]
        return Rivals(self.texts, self.images, torch.cat(parts))


def find_partners(stream: Stream) -> tuple[Partner, ...]:
    """Some images of the wanted records, whatever their order in the input and whatever has been scored."""
    if stream.images is None:
        raise LookupError("mosaics need the images of the input")
    names = (sample.image for sample in stream.source.samples() if sample.id in stream.wanted)
    chosen = _first_shuffled(names, _PARTNERS)
    samples = [s for s in stream.source.samples() if s.image in chosen and s.id in stream.wanted]
    decoded: dict[str, Decoded] = {}
    for batch in stream.images.batches(by_image(samples, stream.size), ()):
        decoded |= batch.images
    of: dict[str, list[tuple[Sample, Decoded]]] = {}
    for sample in samples:
        if sample.ref.key in decoded:
            of.setdefault(sample.image, []).append((sample, decoded[sample.ref.key]))
    return tuple(_partner(of[image]) for image in chosen if image in of)


def _partner(pairs: list[tuple[Sample, Decoded]]) -> Partner:
    """One image, from its samples; in an order that is not theirs."""
    sample, decoded = pairs[0]
    names = tuple(sorted({name for one, _ in pairs if (name := name_of(one)) is not None}))
    return Partner(sample.image, frozenset(one.caption for one, _ in pairs), decoded.kept[TILE], names)


def _lines(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--captions {path}: cannot be read ({error}); give a UTF-8 file") from error
    kept = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not kept:
        raise UsageError(f"--captions {path}: is empty; give one caption a line")
    return kept


def _first_shuffled(texts: Iterable[str], most: int) -> list[str]:
    """The first distinct texts in an order that only they decide, and that is not theirs; few are kept at a time."""
    kept: dict[str, bytes] = {}
    for text in texts:
        if text not in kept:
            kept[text] = hashlib.sha256(text.encode()).digest()
        if len(kept) > 2 * most + _BATCH:
            kept = dict(sorted(kept.items(), key=itemgetter(1))[:most])
    return [text for text, _ in sorted(kept.items(), key=itemgetter(1))[:most]]

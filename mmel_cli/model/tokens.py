"""What a tokenizer makes of captions: ids of their text, what stands before and after it, and where each token lies.

A special token that a caption spells out is text like any other.
"""

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmel_cli.model.adapter import Captions
from mmel_cli.model.words import Span, owners_of, token_texts, words_of
from mmel_cli.types import Word

_MARK = "\N{LOWER ONE EIGHTH BLOCK}"  # how SentencePiece writes a space
_HUGE = 1_000_000  # tokenizers without a limit give 1e30


@dataclass(frozen=True)
class Reading:
    """One caption as a tokenizer reads it, uncut and unpadded."""

    caption: str
    before: tuple[int, ...]  # special tokens before the text
    ids: tuple[int, ...]  # of the text
    after: tuple[int, ...]  # special tokens after it
    spans: tuple[Span, ...]  # of each id, in characters of the caption
    read: int = -1  # how many ids the model reads; -1: not cut yet

    def cut(self, context: int) -> "Reading":
        """With as many ids as fit a context of so many tokens, special tokens included."""
        return replace(self, read=min(len(self.ids), self.room(context)))

    def room(self, context: int) -> int:
        """How many ids of text fit."""
        return max(0, context - len(self.before) - len(self.after))

    @property
    def row(self) -> list[int]:
        """The token ids that the model reads."""
        return [*self.before, *self.ids[: self.read], *self.after]

    @property
    def truncated(self) -> bool:
        """Whether some tokens of the text did not fit."""
        return self.read < len(self.ids)

    @property
    def words(self) -> tuple[Word, ...]:
        """The words whose tokens are read."""
        return words_of(self.caption, self.spans, self.read)

    @property
    def owners(self) -> list[int]:
        """Which of the words each token that is read is of; -1: none."""
        return owners_of(self.caption, self.words, self.spans[: self.read])

    def texts(self, decode: Callable[[list[int]], str]) -> tuple[str, ...]:
        """The text of each token that is read."""
        return token_texts(self.caption, self.spans[: self.read], self.ids[: self.read], decode)


def context_of(tokenizer: Any, positions: int) -> int:
    """How many tokens a caption may have: the text tower's positions, or fewer if the tokenizer says so."""
    limit = tokenizer.model_max_length
    return min(positions, int(limit)) if limit < _HUGE else positions


def room(tokenizer: Any, context: int) -> int:
    """How many tokens of text fit a context of so many tokens beside the special ones."""
    return read(tokenizer, ["a"])[0].room(context)


def read(tokenizer: Any, captions: Sequence[str]) -> list[Reading]:
    """Captions through a fast tokenizer, or SigLIP's own slow one."""
    if not tokenizer.is_fast:
        return [_read_siglip(tokenizer, caption) for caption in captions]
    encoded = tokenizer(
        list(captions), split_special_tokens=True, return_offsets_mapping=True, return_special_tokens_mask=True
    )
    columns = (encoded["input_ids"], encoded["special_tokens_mask"], encoded["offset_mapping"])
    readings = [_reading(caption, *given) for caption, *given in zip(captions, *columns, strict=True)]
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown == tokenizer.eos_token_id:
        return readings
    # a vocabulary that holds a special token as a word gives its id for the text too: that text is unknown instead
    return [replace(r, ids=tuple(unknown if i in special else i for i in r.ids)) for r in readings]


def captions_of(
    readings: Sequence[Reading], ids: Tensor, mask: Tensor, query: Tensor, tokenizer: Any, shifts: Sequence[int] = ()
) -> Captions:
    """Captions whose keys are the tokens of their text; `shifts` is how many tokens of padding stand before each."""
    places = [torch.arange(r.read) + len(r.before) for r in readings]
    if shifts:
        places = [place + shift for place, shift in zip(places, shifts, strict=True)]
    return Captions(
        ids=ids,
        mask=mask,
        query=query,
        places=pad_sequence(places, batch_first=True, padding_value=-1),
        tokens=tuple(reading.texts(tokenizer.decode) for reading in readings),
        words=tuple(reading.words for reading in readings),
        owners=pad_sequence(
            [torch.tensor(reading.owners, dtype=torch.long) for reading in readings], batch_first=True, padding_value=-1
        ),
        truncated=torch.tensor([reading.truncated for reading in readings]),
    )


def padded(readings: Sequence[Reading], padding: int) -> tuple[Tensor, Tensor]:
    """Token ids padded at the end to the longest, and their attention mask."""
    rows = [torch.tensor(reading.row) for reading in readings]
    ids = pad_sequence(rows, batch_first=True, padding_value=padding)
    return ids, pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)


def _reading(caption: str, ids: list[int], special: list[int], spans: list[Span]) -> Reading:
    """Split a row at the first and last token of its text."""
    text = [place for place, flag in enumerate(special) if not flag]
    # no text: all but the last special token stand before it, as where a start and an end are added
    start, stop = (text[0], text[-1] + 1) if text else (max(0, len(ids) - 1),) * 2
    return Reading(caption, tuple(ids[:start]), tuple(ids[start:stop]), tuple(ids[stop:]), tuple(spans[start:stop]))


def _read_siglip(tokenizer: Any, caption: str) -> Reading:
    """SiglipTokenizer, whose text is lowercased and has no punctuation before SentencePiece sees it.

    SentencePiece says where its pieces lie in what it sees, and `_canonical` where that lies in the caption. Should the
    ids ever differ from the tokenizer's own, its ids are taken and no span is claimed.
    """
    whole = tokenizer(caption, split_special_tokens=True)["input_ids"]
    ids, after = whole[:-1], whole[-1:]  # it adds one end
    text, places = _canonical(caption, lower=tokenizer.do_lower_case)
    unknown = str(tokenizer.unk_token)  # put before the text as the tokenizer does, so that a leading space stays
    whole_text = (unknown + text).encode()
    pieces = tokenizer.sp_model.encode(unknown + text, out_type="proto").pieces[tokenizer.unk_token_length :]
    # offsets are in bytes of UTF-8
    ends = [[len(whole_text[:byte].decode()) - len(unknown) for byte in (piece.begin, piece.end)] for piece in pieces]
    spans = [_span(begin, end, places) for begin, end in ends]
    if [piece.id for piece in pieces] != ids:
        spans = [(0, 0)] * len(ids)
    return Reading(caption, (), tuple(ids), tuple(after), tuple(spans))


def _canonical(caption: str, *, lower: bool) -> tuple[str, list[int]]:
    """What SiglipTokenizer gives to SentencePiece, and the place in the caption of each of its characters.

    It begins with a mark for a space, whose place is -1.
    """
    source = _MARK + caption.replace(_MARK, " ")
    letters, places = source, list(range(-1, len(caption)))
    if lower:
        letters = source.lower()
        places = [place for place, letter in zip(places, source, strict=True) for _ in letter.lower()]
    kept = [(c, place) for c, place in zip(letters, places, strict=True) if c not in string.punctuation]
    text, places = "".join(c for c, _ in kept), [place for _, place in kept]
    for run in reversed(list(re.finditer(r"\s+", text))):  # each run of spaces is one, and none is left at the end
        blank = "" if run.end() == len(text) else " "
        text = text[: run.start()] + blank + text[run.end() :]
        places[run.start() : run.end()] = [places[run.start()]] * len(blank)
    return text, places


def _span(begin: int, end: int, places: list[int]) -> Span:
    """A run of canonical characters as a span of the caption."""
    inside = [place for place in places[max(0, begin) : max(0, end)] if place >= 0]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)

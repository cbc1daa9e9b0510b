"""The text of a caption's tokens, and the words that they make, from the offsets that a fast tokenizer gives."""

import unicodedata
from collections.abc import Callable, Sequence

from mmel_cli.types import Word

Span = tuple[int, int]
"""Start and end (exclusive) in characters of the caption; empty for a token that stands for none of them."""

_UNSPACED = (  # first and last code point: Han, Hiragana, Katakana, Bopomofo, which are written without spaces
    (0x2E80, 0x2FDF),  # Han radicals
    (0x3005, 0x3007),
    (0x3021, 0x3029),
    (0x3038, 0x303B),
    (0x3041, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # Katakana of half width
    (0x1AFF0, 0x1B16F),
    (0x20000, 0x3FFFF),
)
_CLINGING = ("Lm", "Mc", "Me", "Mn", "Cf", "Pc", "Pd", "Pe", "Pf", "Po")  # never begins a word behind another character
_OPENING = ("Pi", "Ps")  # never ends one
_JOINER = "\N{ZERO WIDTH JOINER}"


def trimmed(caption: str, span: Span) -> Span:
    """A token's span without the whitespace at its ends, which some tokenizers count to the token."""
    start, end = span
    text = caption[start:end]
    return start + len(text) - len(text.lstrip()), max(start, end - len(text) + len(text.rstrip()))


def words_of(caption: str, spans: Sequence[Span], count: int) -> tuple[Word, ...]:
    """The words of a caption's first `count` tokens.

    A word is a run of tokens with no whitespace between them in the caption. Where one of two tokens touches the other
    with a Han character or kana, which are written without spaces, they are two words; marks, joiners, variation
    selectors and punctuation stay with the word they follow, and tokens that share a character stay together.
    A token with an empty span belongs to no word. A word of which only the first tokens are read is whole all the same.

    Characters that the tokenizer dropped (an accent of its own, a zero-width space, punctuation) belong to the word
    that they touch, first the one they follow; those that touch none belong to the word before them, at the beginning
    of the caption to the first.

    Args:
        caption: as it stands.
        spans: of all tokens of its text, in order.
        count: how many of them the model reads.
    """
    runs: list[Span] = []
    begun = 0  # runs whose first token is read
    for number, span in enumerate(spans):
        start, end = trimmed(caption, span)
        if start >= end:
            continue
        if runs and (start < runs[-1][1] or _one_word(caption, runs[-1][1], start)):
            runs[-1] = (min(runs[-1][0], start), max(runs[-1][1], end))
        else:
            runs.append((start, end))
            begun += number < count
    unread = runs[begun][0] if begun < len(runs) else len(caption)
    runs = runs[:begun]
    return tuple(Word(caption[start:end], start, end) for start, end in _with_dropped(caption, runs, unread))


def owners_of(caption: str, words: Sequence[Word], spans: Sequence[Span]) -> list[int]:
    """Which of a caption's words the tokens with these spans are of; -1 for one that stands for no character."""
    owners = []
    for span in spans:
        start, end = trimmed(caption, span)
        inside = (number for number, word in enumerate(words) if word.start <= start < end <= word.end)
        owners.append(next(inside, -1))
    return owners


def only(caption: str, words: Sequence[Word], kept: Sequence[bool]) -> str:
    """The caption with those of its words cut out that are not kept, from its end; "" if none is.

    What stands behind its last word, which the model does not read, goes with any other: it would move into what is
    read.
    """
    if all(kept):
        return caption
    if not any(kept):
        return ""
    caption = caption[: words[-1].end]
    for word, stays in reversed(list(zip(words, kept, strict=True))):
        caption = caption if stays else without(caption, word)
    return caption


def without(caption: str, word: Word) -> str:
    """The caption with a word cut out, and one run of whitespace where two would meet or one would end it."""
    before, after = caption[: word.start], caption[word.end :]
    if before and not before[-1].isspace():
        return before + after
    return before + after.lstrip() if after else before.rstrip()


def token_texts(
    caption: str, spans: Sequence[Span], ids: Sequence[int], decode: Callable[[list[int]], str]
) -> tuple[str, ...]:
    """Each token as a reader may see it: what it stands for in the caption, else what it decodes to; never empty."""
    texts = [caption[slice(*trimmed(caption, span))] for span in spans]
    return tuple(
        text or decode([token]).strip() or "\N{REPLACEMENT CHARACTER}" for text, token in zip(texts, ids, strict=True)
    )


def _one_word(caption: str, end: int, start: int) -> bool:
    """Whether tokens that end and start here are of one word."""
    if any(letter.isspace() for letter in caption[end:start]):
        return False
    before, after = caption[end - 1], caption[start]
    if before == _JOINER or unicodedata.category(before) in _OPENING or unicodedata.category(after) in _CLINGING:
        return True
    while end > 1 and unicodedata.category(caption[end - 1])[0] == "M":  # what a mark stands on
        end -= 1
    return not (_unspaced(caption[end - 1]) or _unspaced(after))


def _unspaced(letter: str) -> bool:
    return any(first <= ord(letter) <= last for first, last in _UNSPACED)


def _with_dropped(caption: str, runs: list[Span], unread: int) -> list[Span]:
    """Runs of tokens with the characters around them that no token stands for, up to where the unread part begins."""
    if not runs:
        return []
    starts, ends = [start for start, _ in runs] + [unread], [end for _, end in runs]
    for number, limit in enumerate(starts[1:]):
        while ends[number] < limit and not caption[ends[number]].isspace():
            ends[number] += 1
    for number, limit in enumerate(ends, 1):
        while len(caption) > starts[number] > limit and not caption[starts[number] - 1].isspace():
            starts[number] -= 1
    starts[0] = min(starts[0], len(caption) - len(caption.lstrip()))
    alone = [len(caption[:start].rstrip()) for start in starts[1:]]
    return [(start, max(end, last)) for start, end, last in zip(starts, ends, alone, strict=False)]

"""The text of a caption's tokens, and the words that they make, from the offsets that a fast tokenizer gives."""

from collections.abc import Callable, Sequence

from mmel_cli.types import Word

Span = tuple[int, int]
"""Start and end (exclusive) in characters of the caption; empty for a token that stands for none of them."""


def trimmed(caption: str, span: Span) -> Span:
    """A token's span without the whitespace at its ends, which some tokenizers count to the token."""
    start, end = span
    text = caption[start:end]
    return start + len(text) - len(text.lstrip()), max(start, end - len(text) + len(text.rstrip()))


def words_of(caption: str, spans: Sequence[Span], count: int) -> tuple[Word, ...]:
    """The words of a caption's first `count` tokens.

    A word is a run of tokens with no whitespace between them in the caption. Characters that the tokenizer normalised
    away (an accent of its own, a zero-width space) belong to the word they follow. A token with an empty span belongs
    to no word.

    Args:
        caption: as it stands.
        spans: of all tokens of its text, in order.
        count: how many of them the model reads; further ones only end the last word.
    """
    runs: list[Span] = []
    for span in spans[:count]:
        start, end = trimmed(caption, span)
        if start >= end:
            continue
        if runs and not any(letter.isspace() for letter in caption[runs[-1][1] : start]):
            runs[-1] = (runs[-1][0], max(runs[-1][1], end))
        else:
            runs.append((start, end))
    unread = min((start for start, end in spans[count:] if start < end), default=len(caption))
    return tuple(_word(caption, run, unread) for run in runs)


def token_texts(
    caption: str, spans: Sequence[Span], ids: Sequence[int], decode: Callable[[list[int]], str]
) -> tuple[str, ...]:
    """Each token as a reader may see it: what it stands for in the caption, else what it decodes to; never empty."""
    texts = [caption[slice(*trimmed(caption, span))] for span in spans]
    return tuple(
        text or decode([token]).strip() or "\N{REPLACEMENT CHARACTER}" for text, token in zip(texts, ids, strict=True)
    )


def _word(caption: str, run: Span, unread: int) -> Word:
    """A run of tokens with what was normalised away behind it, up to the next whitespace or token."""
    start, end = run
    while end < unread and not caption[end].isspace():
        end += 1
    return Word(caption[start:end], start, end)

"""The noun phrases of an English caption, by closed lists of words (phrase_words.py): no tagger, nothing to download.

Words are runs of letters, digits and their marks, with apostrophes and hyphens inside them; whitespace parts words, and
every other sign is a mark. Case does not matter. A chunk is a maximal run of words that none of these ends:

1. A closed word ends it and belongs to none: prepositions, conjunctions, pronouns, auxiliaries, adverbs of place and
   time, contractions ("it's", "isn't"), marks, sequences such as "left of", "next to", "in front of", and "that" behind
   a plain word. But "of" goes on behind a word of quantity ("a group of people", "a pair of shoes"); and a comma, "and"
   or "or" goes on where the chunk has come no further than listed adjectives (colours, sizes, ages, ...) and another
   of them, or an adverb, follows ("a black and white dog", "a small, white cup").
2. A determiner, number or possessive begins a new one, unless only such words or adverbs stand before it ("all the
   men", "his two dogs"; an article or "his" only goes on behind "all", "both", "many", "such" or an adverb), or 's does
   ("the man's two dogs").
3. A verb ends it and belongs to none. Verbs are listed words (sit, sits, sat, ...), and words in -ing or -ed (not
   -eed) of five letters or more without a hyphen; listed nouns such as "building" and "hundred" are not. Also, behind
   another plain word of its chunk and before an article or possessive, a word in -s ("a man throws a ball") and one of
   the nouns in -ing ("a man painting a wall"). But
   - where a noun is still due, behind a determiner or number with nothing but listed adjectives and adverbs since, none
     of them is a verb ("a watch"), except a listed one in -s in a chunk with "a", "one", "another", ... ("an orange
     sits on a box"), and one in -ing before anything but a plain word, listed adjective or word in -ed ("a smiling
     woman" is a chunk, "one wearing a hat" is "one" and "a hat");
   - a word in -ed before one of those three is none anywhere ("a red haired girl"; "a girl dressed in red" is "a girl"
     and "red").
4. An adverb (very, only, back, ..., words in -ly, but not "family" and other listed ones) ends it behind a plain word.

Then determiners and adverbs are cut off its end, so that a chunk which holds nothing else is dropped ("this", "the
back"); numbers stay ("two of them" is "two"). A first chunk that ends in a word for pictures (photo, picture, image,
view, ...), with "of", "showing" or "depicting" behind it, is a lead-in and dropped, as are "this is" and "there are".
A caption without a Latin letter has none; of one in another language nothing sensible is promised.

Where it fails, and what it gives:

- a noun that is a listed verb elsewhere: "a fruit stand by a road" gives "a fruit" and "a road";
- a verb that is not listed, with no article behind it: "a clown entertains kids" gives all of it as one chunk;
- -ing behind a number or determiner that stands for a noun: "two men, one wearing blue shorts" gives "two men" and "one
  wearing blue shorts"; -ing behind an adjective that is not listed: "a shaggy running dog" gives "a shaggy" and "dog";
- a number behind its noun: "a player with number 7" gives "a player", "number" and "7";
- nouns that follow each other without a mark: "on tables plates" gives "tables plates".
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from mmel_cli.phrase_words import (
    ADVERBS,
    ARTICLES,
    BEFORE_ARTICLES,
    LEADING,
    LISTED,
    MEASURES,
    NOT_ADVERBS,
    NOUNS_IN_ED,
    NOUNS_IN_ING,
    PICTURES,
    SEQUENCES,
    SHOWING,
    SINGULAR,
    Kind,
)

_CONTRACTED = re.compile(r".*n't|.+'(?:re|ve|ll|m|d)|(?:it|he|she|that|there|here|who|what|let|where)'s")
_GENITIVE = re.compile(r"(?<!\S)['\u2019][sS](?!\w)")
_SIGNS = re.compile(r"[wd][wdm]*(?:a[wd][wdm]*|(?<=d)c(?=d)[dm]*)*|[^sm]")
_BARE = {Kind.DETERMINER, Kind.NUMBER, Kind.ADVERB}
_LIGHT = _BARE | {Kind.ADJECTIVE}
_GOES_ON = {Kind.PLAIN, Kind.ADJECTIVE, Kind.ED}
_CUT = {Kind.DETERMINER, Kind.ADVERB, Kind.OF, Kind.JOIN}
_ENDINGS = (("ly", NOT_ADVERBS, Kind.ADVERB), ("ing", NOUNS_IN_ING, Kind.ING), ("ed", NOUNS_IN_ED, Kind.ED))
_SHORTEST = 5  # letters of a word that is judged by its ending


@dataclass(frozen=True)
class _Word:
    text: str  # in lower case
    start: int
    end: int
    kind: Kind


@dataclass
class _Chunk:
    """Words so far, and the kinds of those since the last "of" (else of all)."""

    first: int = 0  # which word of the caption it begins with
    words: list[_Word] = field(default_factory=list)
    kinds: set[Kind] = field(default_factory=set)
    singular: bool = False

    def add(self, word: _Word) -> None:
        """Take a word in."""
        self.words.append(word)
        if word.kind is Kind.OF:
            self.kinds, self.singular = set(), False
        elif word.kind is not Kind.JOIN:
            self.kinds.add(word.kind)
            self.singular |= word.text in SINGULAR

    @property
    def last(self) -> str:
        """Its last word; empty if it has none."""
        return self.words[-1].text if self.words else ""

    @property
    def noun_is_due(self) -> bool:
        """Whether there is a determiner or number, and nothing but adjectives and adverbs since."""
        return bool(self.kinds & {Kind.DETERMINER, Kind.NUMBER}) and self.kinds <= _LIGHT

    @property
    def is_genitive(self) -> bool:
        """Whether it ends in 's."""
        return self.last.endswith("'s")

    def spans(self) -> Iterator[tuple[int, int]]:
        """Where it stands without the determiners and adverbs at its end, unless nothing else is left."""
        last = len(self.words)
        while last and self.words[last - 1].kind in _CUT:
            last -= 1
        if last:
            yield self.words[0].start, self.words[last - 1].end


def noun_phrases(caption: str) -> tuple[tuple[int, int], ...]:
    """Start and end (exclusive, in characters) of the noun chunks of an English caption, by the rule of this module.

    For example "a photo of a red circle left of two stars" has "a red circle" and "two stars".
    """
    if not any(unicodedata.name(sign, "").startswith("LATIN") for sign in caption if sign.isalpha()):
        return ()
    words = _words(caption)
    chunks = [(chunk, by) for chunk, by in _chunks(words) if not _is_lead_in(chunk, by, words)]
    return tuple(span for chunk, _ in chunks for span in chunk.spans())


def _chunks(words: list[_Word]) -> Iterator[tuple[_Chunk, str]]:
    """Each chunk, before its end is cut, and the word that ended it (empty: the caption did)."""
    chunk = _Chunk()
    after = _Word("", 0, 0, Kind.END)
    for index, (word, follower) in enumerate(zip(words, [*words[1:], after], strict=True)):
        ends = _ends(chunk, word, follower)
        if ends or _begins(chunk, word):
            yield chunk, word.text
            chunk = _Chunk(index + ends)
        if not ends:
            chunk.add(word)
    yield chunk, ""


def _ends(chunk: _Chunk, word: _Word, follower: _Word) -> bool:
    """Whether the word ends the chunk and belongs to none."""
    due, listed, plain = chunk.noun_is_due, chunk.kinds <= _LIGHT, Kind.PLAIN in chunk.kinds
    goes_on = follower.kind in _GOES_ON
    by_kind = {
        Kind.END: True,
        Kind.OF: chunk.last not in MEASURES,
        Kind.JOIN: not (listed and Kind.ADJECTIVE in chunk.kinds and follower.kind in (Kind.ADJECTIVE, Kind.ADVERB)),
        Kind.DETERMINER: word.text == "that" and plain,
        Kind.ADVERB: not listed,
        Kind.VERB: not due or (chunk.singular and word.text.endswith("s")),
        Kind.ING: not (due and goes_on),
        Kind.ED: not (due or goes_on),
        Kind.GENITIVE: not (plain and goes_on),
        Kind.PLAIN: plain and _may_be_verb(word.text) and follower.text in ARTICLES,
    }
    return by_kind.get(word.kind, False)


def _begins(chunk: _Chunk, word: _Word) -> bool:
    """Whether the word begins a new chunk."""
    if word.kind not in (Kind.DETERMINER, Kind.NUMBER) or not chunk.words or chunk.is_genitive:
        return False
    if word.text in ARTICLES and chunk.kinds and chunk.last not in BEFORE_ARTICLES | ADVERBS:
        return True
    return not chunk.kinds <= _BARE


def _is_lead_in(chunk: _Chunk, ended_by: str, words: list[_Word]) -> bool:
    """Whether it is "a photo" of "this is a photo of"."""
    pictured = ended_by in SHOWING and chunk.last in PICTURES
    return pictured and all(word.text in LEADING for word in words[: chunk.first])


def _words(caption: str) -> list[_Word]:
    """The words and marks of a caption."""
    signs = list(map(_sign, caption))
    for match in _GENITIVE.finditer(caption):
        signs[match.start()] = "w"  # one word with its s
    spans = [match.span() for match in _SIGNS.finditer("".join(signs))]
    texts = [caption[start:end].lower().replace("\u2019", "'") for start, end in spans]
    kinds = [_kind(text, "".join(signs[start:end])) for text, (start, end) in zip(texts, spans, strict=True)]
    for sequence in SEQUENCES:
        for index in (index for index, text in enumerate(texts) if text == sequence[0]):
            if tuple(texts[index : index + len(sequence)]) == sequence:
                kinds[index : index + len(sequence)] = [Kind.END] * len(sequence)
    return [_Word(text, *span, kind) for text, span, kind in zip(texts, spans, kinds, strict=True)]


def _sign(sign: str) -> str:
    """What a character is: w letter, d digit, m a mark on or in a word, a may join words, c may join digits, s, p."""
    category = unicodedata.category(sign)
    if sign.isspace():
        return "s"
    if sign in "'\u2019-\u2010\u2011":
        return "a"
    if sign in ".,":
        return "c"
    return {"L": "w", "N": "d", "M": "m"}.get(category[0], "m" if category == "Cf" else "p")


def _kind(text: str, signs: str) -> Kind:
    """Of a word by itself; `signs` are its characters as `_sign` has them."""
    if text in LISTED:
        return LISTED[text]
    if signs[0] not in "wd" or _CONTRACTED.fullmatch(text):
        return Kind.END
    if set(signs) <= {"d", "c"}:
        return Kind.NUMBER
    judged = len(text) >= _SHORTEST and "-" not in text and not text.endswith("eed")
    kinds = (kind for ending, others, kind in _ENDINGS if judged and text.endswith(ending) and text not in others)
    return next(kinds, Kind.PLAIN)


def _may_be_verb(text: str) -> bool:
    """Whether a plain word is a verb where an object follows."""
    return text in NOUNS_IN_ING or (text.endswith("s") and not text.endswith(("ss", "us", "is", "'s")))

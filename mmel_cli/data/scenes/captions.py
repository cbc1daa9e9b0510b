"""Say true things about a scene, and nearly true ones.

A Caption is a small predicate: it can be worded, checked against any scene, and says which objects it is about.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mmel_cli.data.scenes.sample import COLOURS, HELD_OUT, SHAPES, SIZES, TEXTURES, Scene, SceneObject

RELATIONS = ("left of", "right of", "above", "below")
NUMBERS = ("zero", "one", "two", "three", "four")
KINDS = ("object", "attributes", "pair", "relation", "count")
PREFIXES = ("", "", "", "", "", "", "a picture of ", "a photo of ", "an image of ")
_VOCABULARY = {"size": SIZES, "texture": TEXTURES, "colour": COLOURS, "shape": SHAPES}
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@dataclass(frozen=True)
class Phrase:
    """A description of an object; None leaves an attribute open."""

    shape: str
    colour: str | None = None
    texture: str | None = None
    size: str | None = None

    def matches(self, item: SceneObject) -> bool:
        """Whether every attribute named here is the object's."""
        return all(
            getattr(self, name) in (None, getattr(item, name)) for name in ("shape", "colour", "texture", "size")
        )

    def words(self, number: int = 1) -> str:
        """For example "small striped red circle", or "red crosses" for a number above one."""
        noun = self.shape if number == 1 else self.shape + ("es" if self.shape == "cross" else "s")
        return " ".join(word for word in (self.size, self.texture, self.colour, noun) if word)


@dataclass(frozen=True)
class Caption:
    """One statement: `first`, and by kind a `second` phrase, the relation between the two, or how many there are."""

    kind: str
    first: Phrase
    second: Phrase | None = None
    relation: str = ""
    count: int = 0
    prefix: str = ""

    @property
    def text(self) -> str:
        """The caption in words."""
        between = f" {self.relation or 'and'} "
        return self.prefix + between.join(self._worded())

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Start and end (exclusive) in `text` of what words each phrase: with its article or number, without prefix."""
        first, *second = self._worded()
        start, length = len(self.prefix), len(self.text)
        return ((start, start + len(first)), *((length - len(words), length) for words in second))

    def _worded(self) -> list[str]:
        if self.kind == "count":
            return [f"{NUMBERS[self.count]} {self.first.words(self.count)}"]
        return [_article(phrase.words()) for phrase in (self.first, self.second) if phrase is not None]

    @property
    def held_out(self) -> bool:
        """Whether it names a shape-colour pair that training never shows, neither as truth nor as a negative."""
        phrases = [self.first] if self.second is None else [self.first, self.second]
        return any((phrase.shape, phrase.colour) in HELD_OUT for phrase in phrases)

    def about(self, scene: Scene) -> tuple[int, ...]:
        """Indices of the objects that the caption names: all that match, and for a relation all pairs that hold."""
        return tuple(sorted({index for named in self.about_each(scene) for index in named}))

    def about_each(self, scene: Scene) -> tuple[tuple[int, ...], ...]:
        """The same by phrase, in the order of `spans`; of two phrases none names any where the statement is false."""
        first = [i for i, item in enumerate(scene.objects) if self.first.matches(item)]
        if self.second is None:
            return (tuple(first),)
        second = [i for i, item in enumerate(scene.objects) if self.second.matches(item)]
        pairs = [(i, j) for i in first for j in second]
        if self.kind == "relation":
            pairs = [(i, j) for i, j in pairs if holds(self.relation, scene.objects[i], scene.objects[j])]
        return tuple(sorted({i for i, _ in pairs})), tuple(sorted({j for _, j in pairs}))

    def true_of(self, scene: Scene) -> bool:
        """Whether the statement holds in the scene (a count is exact; "a red circle" allows several)."""
        named = self.about(scene)
        return len(named) == self.count if self.kind == "count" else bool(named)


def holds(relation: str, first: SceneObject, second: SceneObject) -> bool:
    """Whether the relation holds at all, however slightly."""
    across, down = second.x - first.x, second.y - first.y
    return {"left of": across > 0, "right of": across < 0, "above": down > 0, "below": down < 0}[relation]


def captions_of(scene: Scene, rng: np.random.Generator, kinds: tuple[str, ...] = KINDS) -> list[Caption]:
    """At most one true caption of each kind that the scene allows, in the order of `kinds`, with a random prefix."""
    made = []
    for kind in kinds:
        caption = _MAKERS[kind](scene, rng)
        if caption is not None:
            made.append(replace(caption, prefix=str(rng.choice(PREFIXES))))
    return made


def full_caption(item: SceneObject) -> Caption:
    """The caption that names all four attributes of an object."""
    return Caption("attributes", Phrase(item.shape, item.colour, item.texture, item.size))


def hard_negatives(caption: Caption, scene: Scene, swaps: int = 1) -> list[Caption]:
    """All false captions that differ from a true one in `swaps` of its attributes, relation, count or roles."""
    seen = {caption}
    frontier = [caption]
    for _ in range(swaps):
        frontier = [near for old in frontier for near in _neighbours(old) if near not in seen]
        frontier = list(dict.fromkeys(frontier))
        seen.update(frontier)
    return [near for near in frontier if not near.true_of(scene)]


def truth_table(captions: list[Caption], scenes: list[Scene]) -> np.ndarray:
    """`Caption.true_of` for all pairs at once: bool, (captions, scenes)."""
    width = max((len(scene.objects) for scene in scenes), default=0)
    attributes = np.full((len(scenes), width, len(_VOCABULARY)), -2)  # an empty slot matches nothing
    place = np.zeros((len(scenes), width, 2))
    for s, scene in enumerate(scenes):
        for k, item in enumerate(scene.objects):
            attributes[s, k] = _codes(item)
            place[s, k] = item.x, item.y
    first = _matches([caption.first for caption in captions], attributes)
    second = _matches([caption.second or caption.first for caption in captions], attributes)
    kind = np.array([caption.kind for caption in captions])[:, None]
    count = np.array([caption.count for caption in captions])[:, None]
    truth = first.any(2) & second.any(2)
    truth = np.where(kind == "count", first.sum(2) == count, truth)
    for row in np.flatnonzero(kind[:, 0] == "relation"):
        axis = 0 if captions[row].relation in ("left of", "right of") else 1
        sign = 1 if captions[row].relation in ("left of", "above") else -1
        gap = (place[:, None, :, axis] - place[:, :, None, axis]) * sign > 0  # [scene, first, second]
        truth[row] = (first[row][:, :, None] & second[row][:, None, :] & gap).any((1, 2))
    return truth


def _codes(item: SceneObject | Phrase) -> list[int]:
    """One integer an attribute, -1 for one left open."""
    values = [(words, getattr(item, name)) for name, words in _VOCABULARY.items()]
    return [-1 if value is None else words.index(value) for words, value in values]


def _matches(phrases: list[Phrase], attributes: np.ndarray) -> np.ndarray:
    """bool, (phrases, scenes, objects)."""
    codes = np.array([_codes(phrase) for phrase in phrases])[:, None, None, :]
    return ((codes == -1) & (attributes[None, :, :, :1] != -2) | (codes == attributes[None])).all(3)


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _neighbours(caption: Caption) -> Iterator[Caption]:
    """Every caption one swap away."""
    for phrase in _phrase_neighbours(caption.first):
        yield replace(caption, first=phrase)
    if caption.second is not None:
        for phrase in _phrase_neighbours(caption.second):
            yield replace(caption, second=phrase)
        if caption.second.colour is not None and caption.first.colour is not None:
            yield replace(
                caption,
                first=replace(caption.first, colour=caption.second.colour),
                second=replace(caption.second, colour=caption.first.colour),
            )
    if caption.relation:
        yield replace(caption, relation=_OPPOSITE[caption.relation])
    if caption.kind == "count":
        for number in range(1, len(NUMBERS)):
            if number != caption.count:
                yield replace(caption, count=number)


def _phrase_neighbours(phrase: Phrase) -> Iterator[Phrase]:
    for name, words in _VOCABULARY.items():
        value = getattr(phrase, name)
        for word in words:
            if value is not None and word != value:
                yield replace(phrase, **{name: word})


def _pick(rng: np.random.Generator, scene: Scene) -> SceneObject:
    return scene.objects[int(rng.integers(len(scene.objects)))]


def _phrase(item: SceneObject) -> Phrase:
    return Phrase(item.shape, item.colour)


def _object(scene: Scene, rng: np.random.Generator) -> Caption | None:
    return Caption("object", _phrase(_pick(rng, scene))) if scene.objects else None


def _attributes(scene: Scene, rng: np.random.Generator) -> Caption | None:
    if not scene.objects:
        return None
    item = _pick(rng, scene)
    which = int(rng.integers(3))
    texture = item.texture if which != 1 else None
    size = item.size if which != 0 else None
    return Caption("attributes", Phrase(item.shape, item.colour, texture, size))


def _two(scene: Scene, rng: np.random.Generator) -> tuple[SceneObject, SceneObject] | None:
    """Two objects whose shape-colour phrases differ from each other and from all the rest, or None."""
    phrases = [_phrase(item) for item in scene.objects]
    unique = [item for item, phrase in zip(scene.objects, phrases, strict=True) if phrases.count(phrase) == 1]
    if len(unique) < 2:
        return None
    first, second = rng.permutation(len(unique))[:2]
    return unique[first], unique[second]


def _pair(scene: Scene, rng: np.random.Generator) -> Caption | None:
    two = _two(scene, rng)
    return two and Caption("pair", _phrase(two[0]), _phrase(two[1]))


def _relation(scene: Scene, rng: np.random.Generator) -> Caption | None:
    two = _two(scene, rng)
    if two is None:
        return None
    across, down = two[1].x - two[0].x, two[1].y - two[0].y
    if max(abs(across), abs(down)) < 1.3 * min(abs(across), abs(down)):
        return None  # on the diagonal a person would hesitate
    horizontal = abs(across) > abs(down)
    relation = ("left of" if across > 0 else "right of") if horizontal else ("above" if down > 0 else "below")
    return Caption("relation", _phrase(two[0]), _phrase(two[1]), relation)


def _count(scene: Scene, rng: np.random.Generator) -> Caption | None:
    if not scene.objects:
        return None
    item = _pick(rng, scene)
    phrase = _phrase(item) if rng.random() < 0.5 else Phrase(item.shape)
    count = sum(phrase.matches(other) for other in scene.objects)
    return Caption("count", phrase, count=count)


_MAKERS = {"object": _object, "attributes": _attributes, "pair": _pair, "relation": _relation, "count": _count}

"""Draw the description of a scene: which objects stand where, over what background.

A scene is a pure function of (seed, split, index): no state is shared between scenes, so any process can draw
any scene, and the splits never share a random stream.
"""

from dataclasses import dataclass

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "moon")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
TEXTURES = ("plain", "striped", "spotted")
SIZES = ("small", "large")
SPLITS = ("train", "validation", "test")

# Pairs that training and validation never show; the test split draws them like all others.
HELD_OUT = frozenset((shape, COLOURS[(3 * i + 1) % len(COLOURS)]) for i, shape in enumerate(SHAPES))

# Centre-to-edge radius as a fraction of the image side; the gap between the two keeps the words meaningful.
RADII = {"small": (0.100, 0.125), "large": (0.165, 0.205)}
MAX_OBJECTS = 4
STROKES = 9


@dataclass(frozen=True)
class SceneObject:
    """One object; positions and lengths are fractions of the image side, x to the right, y down, angle in radians."""

    shape: str
    colour: str
    texture: str
    size: str
    x: float
    y: float
    radius: float
    angle: float

    @property
    def held_out(self) -> bool:
        """Whether this shape-colour pair never occurs in training."""
        return (self.shape, self.colour) in HELD_OUT


@dataclass(frozen=True)
class Scene:
    """One scene: up to MAX_OBJECTS objects, later ones in front, and the random stream of everything else."""

    objects: tuple[SceneObject, ...]
    background_seed: int


def sample_scene(seed: int, split: str, index: int, counts: tuple[int, ...] = (1, 2, 3, 4)) -> Scene:
    """Draw scene `index` of a split.

    Args:
        seed: the data set's seed.
        split: one of SPLITS; train and validation leave HELD_OUT pairs out.
        index: which scene, from 0.
        counts: the object counts to draw from, uniformly; an object that finds no room is left out.

    Raises:
        ValueError: for an unknown split (from tuple.index).
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    wanted = int(rng.choice(counts))
    objects: list[SceneObject] = []
    for _ in range(wanted):
        placed = _place(rng, objects, allow_held_out=split == "test")
        if placed is not None:
            objects.append(placed)
    return Scene(tuple(objects), int(rng.integers(2**62)))


def _place(rng: np.random.Generator, others: list[SceneObject], allow_held_out: bool) -> SceneObject | None:
    """One more object that overlaps the others at most a little, or None when 40 tries find no room."""
    shape, colour = _shape_and_colour(rng, others, allow_held_out)
    size = str(rng.choice(SIZES))
    radius = float(rng.uniform(*RADII[size]))
    texture = str(rng.choice(TEXTURES))
    angle = float(rng.uniform(-0.35, 0.35))
    for x, y in rng.uniform(radius * 0.9, 1 - radius * 0.9, size=(40, 2)):
        if all(np.hypot(x - o.x, y - o.y) > 0.8 * (radius + o.radius) for o in others):
            return SceneObject(shape, colour, texture, size, float(x), float(y), radius, angle)
    return None


def _shape_and_colour(rng: np.random.Generator, others: list[SceneObject], allow_held_out: bool) -> tuple[str, str]:
    """A pair that often repeats another object's shape, colour or both, so that one attribute is not enough."""
    while True:
        shape, colour = str(rng.choice(SHAPES)), str(rng.choice(COLOURS))
        if others:
            model = others[int(rng.integers(len(others)))]
            repeat = rng.random()
            shape = model.shape if repeat < 0.35 else shape
            colour = model.colour if 0.15 < repeat < 0.50 else colour
        if allow_held_out or (shape, colour) not in HELD_OUT:
            return shape, colour

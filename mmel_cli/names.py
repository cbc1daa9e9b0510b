"""Names that people type, kept light for help and shell completion, and what to say about one that is not known."""

import difflib
from collections.abc import Iterable

METHODS = ("mmel", "grad-eclip", "flow", "gae", "rise", "random", "mask")  # a test holds them to attribution.METHODS
METRIC_GROUPS = ("faithfulness", "grad-eclip", "aid", "localisation", "quadrants", "sanity", "stability", "caption")
METRICS = (
    "insertion",
    "deletion",
    "insertion-deletion",
    "insertion-probability",
    "deletion-probability",
    "insertion-deletion-probability",
    "average-drop",
    "average-increase",
    "grad-eclip-insertion-top1",
    "grad-eclip-deletion-top1",
    "grad-eclip-insertion-top5",
    "grad-eclip-deletion-top5",
    "grad-eclip-insertion-top10",
    "grad-eclip-deletion-top10",
    "aid",
    "pointing-game",
    "energy-inside",
    "pixel-ap",
    "iou-best",
    "iou-area",
    "quadrant-recognition",
    "sparseness",
    "max-sensitivity",
    "randomisation",
    "caption-change",
    "caption-contrast",
    "token-deletion",
    "token-insertion-deletion",
)
"""Held to evaluation.METRICS by a test."""
DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("auto", "float32", "bfloat16", "float16")
OBJECTIVES = ("localization", "faithfulness", "both")
SPLITS = ("train", "validation", "test")
MODELS = ("builtin", "openai/clip-vit-base-patch16")


def match(name: str, choices: Iterable[str]) -> str | None:
    """The choice that a name is, whatever its case; None if there is none."""
    return next((choice for choice in choices if choice.lower() == name.strip().lower()), None)


def hint(name: str, choices: Iterable[str]) -> str:
    """The end of a message that asks for the nearest choice ("; did you mean flow?"); empty if none is near."""
    listed = list(choices)
    near = difflib.get_close_matches(name.strip().lower(), [choice.lower() for choice in listed], 1)
    return f"; did you mean {match(near[0], listed)}?" if near else ""


def count(number: int, thing: str, plural: str | None = None) -> str:
    """A number and what it counts: "1 record", "2 records"."""
    return f"{number} {thing if number == 1 else plural or thing + 's'}"

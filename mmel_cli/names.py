"""Names that people type, kept light for help and shell completion, and what to say about one that is not known."""

import difflib
from collections.abc import Iterable

METHODS = {
    "mmel": "mmel",
    "grad-eclip": "grad_eclip",
    "flow": "flow",
    "gae": "gae",
    "attention": "attention",
    "rollout": "rollout",
    "legrad": "legrad",
    "grad-cam": "grad_cam",
    "eigen-cam": "eigen_cam",
    "mask-clip": "mask_clip",
    "clip-surgery": "clip_surgery",
    "rise": "rise",
    "input-x-gradient": "input_x_gradient",
    "integrated-gradients": "integrated_gradients",
    "smoothgrad": "smoothgrad",
    "occlusion": "occlusion",
    "region-search": "region_search",
    "fixlip": "fixlip",
    "exclip": "exclip",
    "random": "random",
    "mask": "mask",
}
"""The method of each name: its module in `attribution`, which is loaded with torch when a command runs."""
EXPORTS = {"coco": "coco", "points": "points", "parquet": "parquet", "fiftyone": "fiftyone"}
"""The format of each name: its module in `export`, which is loaded when a command runs."""
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

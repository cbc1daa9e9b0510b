"""Parameters with which the slow methods are quick enough for a test."""

PARAMS = {
    "rise": {"masks": 20},
    "integrated-gradients": {"steps": 3},
    "smoothgrad": {"samples": 3},
    "region-search": {"regions": 2},
    "fixlip": {"masks": 80, "text_masks": 20},
}
RAGGED = ("tokens/map", "words/map")
"""Fields of as many tokens or words as a caption has; in a batch, as many as the caption with the most."""


def settings(method: str) -> dict[str, object]:
    """The same as settings of a run."""
    return {f"method.{name}": value for name, value in PARAMS.get(method, {}).items()}

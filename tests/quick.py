"""Parameters with which the slow methods are quick enough for a test, and what every method is held to."""

import torch

PARAMS = {
    "rise": {"masks": 20},
    "integrated-gradients": {"steps": 3},
    "smoothgrad": {"samples": 3},
    "region-search": {"regions": 2},
    "exclip": {"steps": 2},
    "fixlip": {"masks": 80, "text_masks": 20},
}
_RAGGED = ("tokens/map", "words/map")  # in a batch, of as many tokens or words as the caption with the most


def settings(method: str) -> dict[str, object]:
    """The same as settings of a run."""
    return {f"method.{name}": value for name, value in PARAMS.get(method, {}).items()}


def assert_alone(whole: dict[str, torch.Tensor], pair: int, alone: dict[str, torch.Tensor]) -> None:
    """Hold all fields of a pair of a batch to those that it has alone."""
    for field, values in alone.items():
        mine = whole[field][pair]
        mine = mine[: values.shape[1]] if field in _RAGGED else mine
        scale = values if values.ndim > 1 else alone["map"]  # what a sum lacks is as exact as the sum
        torch.testing.assert_close(mine, values[0], rtol=1e-4, atol=float(1e-5 * scale.abs().max() + 1e-9))

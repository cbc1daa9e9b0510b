"""What a run's numbers depend on, in one place: which settings and which files, and how two runs differ.

A folder goes on only with the same identity. Where the input, the model or a weights file lies is no part of it: what
they hold is.
"""

from collections.abc import Mapping
from typing import Any, Literal

from mmel_cli.archive.schema import canonical, fingerprint

__all__ = ["SETTINGS", "Decides", "decides", "differences", "fingerprint", "run_identity", "settings"]

Decides = Literal["numbers", "pictures", "neither"]
"""numbers: another value is another run; pictures: they are drawn anew; neither: the same folder goes on."""

SETTINGS: dict[str, Decides] = {
    "model": "neither",  # where it lies: the SHA-256 of its files count
    "model.image_size": "numbers",
    "device": "neither",  # as the user says it: the type that it resolves to counts
    "dtype": "neither",  # the same
    "batch_size": "neither",
    "workers": "neither",
    "draw_processes": "neither",
    "ranks": "neither",  # who works on it
    "limit": "neither",
    "data": "neither",  # where the input lies now
    "heatmaps": "pictures",
    "heatmap": "pictures",
    "plots": "neither",
    "report": "neither",
    "input": "numbers",  # which images and captions are read
    "input.prompts": "neither",  # where the file lies: the SHA-256 of its texts counts
    "image.geometry": "numbers",
    "image.limits": "neither",  # they only refuse
    "against": "numbers",  # what captions are explained against
    "word_values": "numbers",  # whether there are any
    "words": "numbers",  # words x regions, and how
    "match": "numbers",  # how many captions scores are compared with
    "high_norm": "numbers",  # whether long patches are told
    "method": "numbers",  # its name and every parameter of every method
    "method.weights": "neither",  # where the file lies: its SHA-256 counts
    "method.transfer": "neither",  # it only permits
    "archive": "numbers",  # what is kept of each record
    "archive.shard_size": "neither",
    "training": "numbers",
    "training.microbatch": "neither",  # it changes rounding only, like batch_size
    "metrics": "neither",  # each has scores of its own
    "captions": "neither",  # where the file lies: the SHA-256 of the captions counts
    "rivals": "numbers",
    "faithfulness": "numbers",
    "faithfulness.batch": "neither",
    "aid": "numbers",
    "localisation": "numbers",
    "sanity": "numbers",
    "modalities": "numbers",
    "comparison": "neither",  # of scores that are there
}
"""By dotted key, of every command; a group stands for all settings in it that have no line of their own."""

_LATER = {
    "match.captions": "0",
    "high_norm": "false",
    "against.text": "null",
    "against.other": "false",
    "words.regions": "false",
    "words.texts": "256",
    "words.seed": "0",
    "words.phrase": '"mean"',
}
"""Settings that older runs lack, with the value that those went by: with it they are no part of an identity."""

_SHOWN = 60  # characters of a value in a message


def decides(key: str) -> Decides:
    """What a setting decides, by the longest key in SETTINGS that it is or lies in.

    Raises:
        KeyError: if there is none.
    """
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        decided = SETTINGS.get(".".join(parts[:length]))
        if decided is not None:
            return decided
    raise KeyError(key)


def settings(plain: Mapping[str, Any], which: Decides) -> dict[str, str]:
    """The settings of a resolved configuration that decide `which`, flat: dotted key to canonical JSON."""
    return {key: canonical(value) for key, value in _leaves(plain) if decides(key) == which}


def run_identity(plain: Mapping[str, Any], made_with: Mapping[str, str]) -> dict[str, str]:
    """Everything that decides a run's numbers.

    Args:
        plain: the resolved configuration.
        made_with: what else decides them, by a name that a reader understands: SHA-256 of the model's files, resolved
            device and dtype, versions of the method.
    """
    numbers = {key: value for key, value in settings(plain, "numbers").items() if _LATER.get(key) != value}
    return numbers | {name: str(value) for name, value in made_with.items()}


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A sentence for each part of two identities that differs, with both values."""
    return [
        f"{name} was {_short(before.get(name))}, is now {_short(now.get(name))}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _short(value: str | None) -> str:
    """A SHA-256 is told by its first digits."""
    if value is None:
        return "not there"
    if len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value[:12]
    return value if len(value) <= _SHOWN else value[:_SHOWN] + "…"


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, value in tree.items():
        leaves += _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(prefix + key, value)]
    return leaves

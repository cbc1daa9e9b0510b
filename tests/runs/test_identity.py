"""Every setting of every command decides numbers, pictures or neither, and differences are told with both values."""

import dataclasses

import pytest

from mmel_cli.attribution import METHODS
from mmel_cli.config import EvalConfig, RunConfig, TrainConfig, load_config
from mmel_cli.runs import SETTINGS, decides, differences, fingerprint, settings


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


ALL = sorted(
    {key for config in (RunConfig(), EvalConfig(), TrainConfig()) for key in leaves(config.plain())}
    | {f"method.{f.name}" for method in METHODS.values() for f in dataclasses.fields(method.params)}
)


@pytest.mark.parametrize("key", ALL)
def test_every_setting_is_in_the_table(key):
    assert decides(key) in ("numbers", "pictures", "neither")


def test_the_table_names_no_setting_that_there_is_not():
    for key in SETTINGS:
        assert any(name == key or name.startswith(f"{key}.") for name in ALL), key
    with pytest.raises(KeyError):
        decides("nonsense")


def test_numbers_are_what_maps_depend_on():
    flow = load_config(None, ["method.name=flow"])
    numbers = settings(flow.plain(), "numbers")
    assert set(numbers) == {
        "archive.channels",
        "archive.dtype",
        "image.geometry",
        "model.image_size",
        "word_values",
        "match.captions",
        "high_norm",
        *(f"words.{name}" for name in ("regions", "texts", "seed", "phrase")),
        "against.text",
        "against.other",
        "input.caption",
        "input.caption_column",
        "input.image_column",
        *(f"method.{name}" for name in ("name", "layers", "text_layers", "gradient", "shifts", "zooms")),
    }
    assert set(settings(flow.plain(), "pictures")) == {
        "heatmaps",
        *(
            f"heatmap.{name}"
            for name in ("caption", "colormap", "format", "max_side", "opacity", "panels", "percentile")
        ),
    }
    assert fingerprint(numbers) == fingerprint(dict(reversed(numbers.items())))


def test_differences_name_both_values_and_shorten_what_is_long():
    before = {"a": "1", "b": "0" * 64, "gone": "x", "same": "s"}
    now = {"a": "2", "b": "1" * 64, "new": "y" * 100, "same": "s"}
    assert differences(before, now) == [
        "a was 1, is now 2",
        "b was 000000000000, is now 111111111111",
        "gone was x, is now not there",
        f"new was not there, is now {'y' * 60}…",
    ]

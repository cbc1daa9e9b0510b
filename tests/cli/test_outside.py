"""A method that the package does not know, with raw maps of its own kind, added through the registry alone."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from mmel_cli import load_archive
from mmel_cli.attribution import METHODS, ops
from mmel_cli.attribution.base import GradientParams, Method
from mmel_cli.fields import HIGH_NORM, MAP, MATCH, WORD_VALUE, Field
from mmel_cli.tensors import Attribution

HEADS = Field("layers/heads", ("layers", "channels(4)", "rows", "columns"), "attention of each head", evidence=True)
STRONGEST = Field("tokens/strongest", ("tokens",), "whether it is the token with the most attention", dtype="bool")
PATCHES = Field("brightest", ("layers",), "which patch has the most attention", dtype="int32")


@dataclass(frozen=True)
class Params(GradientParams):
    """`power` of the attention."""

    power: float = 1.0


def explain(capture, params, _state):
    heads = torch.stack([ops.attention(capture.image, n)[:, :, 0] for n in range(len(capture.image.numbers))], 1)
    maps = capture.image.gather(heads).unflatten(-1, capture.grid)
    read = capture.text.gather(ops.attention(capture.text, len(capture.text.numbers) - 1).mean((1, 2)))
    values = {HEADS.name: maps, STRONGEST.name: read == read.amax(1, keepdim=True)}
    values[PATCHES.name] = maps.mean(2).flatten(2).argmax(-1).int()
    return Attribution(values | {MAP.name: fused(values, params, None)})


def fused(fields, params, _state):
    return fields[HEADS.name].pow(params.power).mean((1, 2))


OUTSIDE = Method(
    name="heads",
    summary="mean attention of the heads",
    source="a test",
    cost="1 forward",
    params=Params,
    explain=explain,
    fields=lambda _params, _target: (MAP, HEADS, STRONGEST, PATCHES),
    fuse=fused,
)


@pytest.fixture
def outside(monkeypatch):
    monkeypatch.setitem(METHODS, "heads", OUTSIDE)


def test_a_method_with_new_raw_maps_needs_nothing_but_the_registry(photos, tiny, tmp_path, mmel, outside):
    run = tmp_path / "run"
    code, _, err = mmel("explain", photos, "--out", run, "--model", tiny, "--method", "heads", "--batch-size", 5)
    assert code == 0, err
    assert mmel("verify", run)[0] == 0
    assert mmel("merge", run, "--out", tmp_path / "all.h5")[0] == 0
    with load_archive(run) as archive, load_archive(tmp_path / "all.h5") as merged:
        assert (
            archive.info.fields == merged.info.fields == (MAP, HEADS, STRONGEST, PATCHES, WORD_VALUE, *MATCH, HIGH_NORM)
        )
        for record, again in zip(archive, merged, strict=True):
            assert record.fields[HEADS.name].shape == (4, 4, 4, 4)
            np.testing.assert_allclose(record.map, record.fields[HEADS.name].mean((0, 1)), rtol=1e-5)
            assert record.fields[STRONGEST.name].dtype == bool
            assert record.fields[STRONGEST.name].sum() == 1
            assert record.fields[STRONGEST.name].shape == (len(record.tokens),)
            expected = record.fields[HEADS.name].mean(1).reshape(4, -1).argmax(1)
            np.testing.assert_array_equal(record.fields[PATCHES.name], expected)
            for name, values in record.fields.items():
                np.testing.assert_array_equal(again.fields[name], values)
    code, out, err = mmel("eval", run, "--metrics", "sparseness", "--json")
    assert code == 0, err
    assert json.loads(out)["metrics"]["sparseness"]["runs"]["run"]["records"] == 24


def test_channels_keep_what_their_name_says_of_any_method(photos, tiny, tmp_path, mmel, outside):
    kept = {"map", "tokens/strongest", "words/value", "match/rank", "match/among", "high_norm"}
    for channels, names in (("layers", kept), ("final", kept)):
        run = tmp_path / channels
        code, _, err = mmel(
            "explain",
            photos,
            "--out",
            run,
            "--model",
            tiny,
            "--method",
            "heads",
            "--set",
            f"archive.channels={channels}",
        )
        assert code == 0, err
        with load_archive(run) as archive:
            assert {field.name for field in archive.info.fields} == names


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ((MAP, HEADS, STRONGEST), "brightest"),
        ((MAP, HEADS, STRONGEST, PATCHES, Field("more", (), "m")), "more"),
        ((MAP, replace(HEADS, dims=("layers", "channels(3)", "rows", "columns")), STRONGEST, PATCHES), "layers/heads"),
        ((HEADS, STRONGEST, PATCHES), "must declare the field map"),
        ((MAP, replace(HEADS, name="words/text"), STRONGEST, PATCHES), "words/text"),
    ],
    ids=["undeclared", "declared only", "misshapen", "no map", "a name that is taken"],
)
def test_a_false_declaration_ends_the_run_before_anything_is_written(
    photos, tiny, tmp_path, mmel, monkeypatch, fields, says
):
    monkeypatch.setitem(METHODS, "heads", replace(OUTSIDE, fields=lambda _params, _target: fields))
    run = tmp_path / "run"
    code, _, err = mmel("explain", photos, "--out", run, "--model", tiny, "--method", "heads")
    assert code == 1
    assert says in err
    assert err.count("\n") <= 3
    assert not list(run.rglob("*.h5"))
    assert not list(run.rglob("*.jpg"))

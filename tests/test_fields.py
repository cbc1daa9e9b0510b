"""What a method may declare, and what becomes of one that gives something else."""

import json

import pytest

from mmel_cli.fields import MAP, TOKEN_MAP, Field, Sizes, check, parse, plain

SIZES = Sizes(layers=3, grid=(5, 7), tokens=4, words=2)


@pytest.mark.parametrize(
    ("dims", "shape"),
    [
        ((), ()),
        (("rows", "columns"), (5, 7)),
        (("layers", "channels(4)", "regions(2)"), (3, 4, 3, 4)),
        (("regions(10)",), (1, 1)),
        (("words", "rows", "columns"), (2, 5, 7)),
        (("tokens", "width(512)"), (4, 512)),
    ],
)
def test_shapes_follow_the_dimensions(dims, shape):
    assert Field("x", dims, "m").shape(SIZES) == shape


@pytest.mark.parametrize(
    ("name", "dims", "dtype", "says"),
    [
        ("Map", (), "float32", "lower-case"),
        ("a/b/c", (), "float32", "at most one /"),
        ("../map", (), "float32", "lower-case"),
        ("x", ("heads",), "float32", "no dimension 'heads'"),
        ("x", ("regions(0)",), "float32", "no dimension"),
        ("x", ("channels",), "float32", "no dimension"),
        ("x", (), "float64", "float32, int32, bool"),
    ],
)
def test_what_cannot_be_declared_is_refused_by_name(name, dims, dtype, says):
    with pytest.raises(ValueError, match="field") as caught:
        Field(name, dims, "m", dtype)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [(TOKEN_MAP,), (MAP, MAP), (MAP, Field("map/x", (), "m")), (Field("map", ("columns", "rows"), "m"),), ()],
    ids=["no map", "twice", "also a group", "map lies wrong", "nothing"],
)
def test_fields_that_are_no_methods_are_refused(fields):
    with pytest.raises(ValueError, match=r"map|declared"):
        check(fields)


def test_declarations_survive_json():
    fields = (MAP, TOKEN_MAP, Field("layers/x", ("layers", "channels(2)", "regions(3)"), "ü", "bool", evidence=True))
    assert parse(json.loads(json.dumps(plain(fields)))) == fields

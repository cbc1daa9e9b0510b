"""Heatmaps: colour where the evidence is, in the original's pixels, and nowhere else."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmel_cli.render import HeatmapOptions, fit, picture_name, render, save_picture, strip, thumbnail
from mmel_cli.render.blend import Ground
from mmel_cli.render.colours import apply, normalise
from mmel_cli.render.text import text_length
from mmel_cli.render.words import FALLS, LEAST_SCALE, RISES, colour, pieces, scale_of
from mmel_cli.types import Word

PLAIN = HeatmapOptions(caption=False, max_side=400)


def one_hot(row, column, grid=(8, 8)):
    values = np.zeros(grid, np.float32)
    values[row, column] = 1
    return values


def heat(photo, explanation, options=PLAIN):
    """Where the picture differs from a picture of an empty map."""
    empty = dataclasses.replace(explanation, fields=explanation.fields | {"map": np.zeros_like(explanation.map)})
    one, other = (np.asarray(render(photo, e, options), np.int64) for e in (explanation, empty))
    return np.abs(one - other).sum(-1)


@pytest.mark.parametrize(
    ("size", "box", "cell"),
    [
        ((400, 400), (0, 0, 400, 400), (2, 5)),
        ((400, 240), (80, 0, 320, 240), (7, 0)),  # a centre crop
        ((240, 400), (0, 80, 240, 320), (0, 7)),
        ((400, 200), (0, -100, 400, 300), (3, 4)),  # letterbox
        ((100, 50), (0, 0, 100, 50), (4, 6)),  # enlarged
        ((1600, 1200), (200, 0, 1400, 1200), (1, 1)),  # made smaller
    ],
)
def test_a_single_patch_lights_its_place_in_the_original(explained, size, box, cell):
    photo = Image.new("RGB", size, (90, 120, 90))
    shown = heat(photo, explained(one_hot(*cell), box, size[::-1]))
    y, x = np.unravel_index(np.argmax(shown), shown.shape)
    scale = shown.shape[1] / size[0]
    x0, y0, x1, y1 = box
    assert x / scale == pytest.approx(x0 + (x1 - x0) * (cell[1] + 0.5) / 8, abs=(x1 - x0) / 16)
    assert y / scale == pytest.approx(y0 + (y1 - y0) * (cell[0] + 0.5) / 8, abs=(y1 - y0) / 16)


def test_outside_the_box_there_is_no_colour_but_a_dimmed_photo(explained):
    photo = Image.new("RGB", (400, 200), (200, 200, 200))
    picture = np.asarray(render(photo, explained(np.ones((4, 4)), (100, 0, 300, 200), (200, 400)), PLAIN))
    for x in (5, 95, 305, 395):
        assert picture[100, x].tolist() == [90, 90, 90]
    assert not np.array_equal(picture[100, 200], (200, 200, 200))
    assert picture[100, 100].tolist() == [255, 255, 255]  # the frame


def test_no_opacity_gives_the_photo_back(explained):
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8))
    options = dataclasses.replace(PLAIN, opacity=0.0)
    assert np.array_equal(render(photo, explained(one_hot(3, 3), (0, 0, 400, 400)), options), photo)


@pytest.mark.parametrize("size", [(1801, 1203), (640, 333), (401, 400), (97, 31), (64, 64), (5000, 251)])
@pytest.mark.parametrize("max_side", [64, 400, 768])
def test_a_reduced_photo_gives_the_same_picture(explained, size, max_side):
    noise = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    photo, options = Image.fromarray(noise), HeatmapOptions(max_side=max_side, panels="side-by-side")
    explanation = explained(one_hot(2, 3), (size[0] / 7, -3, size[0] * 0.9, size[1] + 2), size[::-1])
    small = fit(photo, max_side)
    assert max(small.size) <= max_side
    assert render(small, explanation, options).tobytes() == render(photo, explanation, options).tobytes()


def test_negative_evidence_shows_no_colour(explained):
    photo = Image.new("RGB", (400, 400), "grey")
    assert heat(photo, explained(-one_hot(3, 3), (0, 0, 400, 400))).max() == 0


def test_side_by_side_shows_image_map_and_overlay(explained):
    photo = Image.new("RGB", (400, 400), (10, 200, 10))
    options = dataclasses.replace(PLAIN, panels="side-by-side")
    picture = render(photo, explained(one_hot(3, 3), (0, 0, 400, 400)), options)
    assert picture.size == (1212, 400)
    assert picture.getpixel((200, 200)) == (10, 200, 10)


LONG = ["a " * 300, "x" * 2000, "", "\u0120 🐕 👩‍👩‍👧 狗", "[/b] \x1b[31m\n\ttab", " " * 500 + "end"]


def spelled(caption):
    """The words between whitespace."""
    return tuple(Word(m[0], m.start(), m.end()) for m in re.finditer(r"\S+", caption))


@pytest.mark.parametrize("caption", LONG)
@pytest.mark.parametrize("coloured", [True, False])
def test_the_same_input_gives_the_same_picture_and_captions_never_crash(explained, caption, coloured):
    photo = Image.new("RGB", (400, 300), "navy")
    record = explained(one_hot(1, 1), (50, 0, 350, 300), caption=caption, words=spelled(caption))
    if coloured:
        record.fields["words/value"] = np.linspace(-0.3, 0.2, len(record.words), dtype=np.float32)
    one, other = (render(photo, record, HeatmapOptions()) for _ in range(2))
    assert one.tobytes() == other.tobytes()
    assert 300 < one.height < 600


def tints(picture):
    """The distinct colours of the caption's background, in reading order."""
    found = [tuple(int(n) for n in pixel) for pixel in np.asarray(picture)[410]]  # above the letters
    return [colour for n, colour in enumerate(found) if colour != (255, 255, 255) and colour != found[n - 1]]


def test_words_are_painted_by_what_the_cosine_loses_without_them(explained):
    photo = Image.new("RGB", (400, 400), "navy")
    record = explained(one_hot(1, 1), (0, 0, 400, 400), words=spelled("a red dog"))
    assert tints(render(photo, record, HeatmapOptions())) == []
    record.fields["words/value"] = np.float32([-0.05, 0.1, 0.2])
    assert tints(render(photo, record, HeatmapOptions())) == [colour(-0.25), colour(0.5), colour(1)]
    record.fields["words/value"] = np.float32([np.nan, -0.2, 0.1])
    assert tints(render(photo, record, HeatmapOptions())) == [RISES, colour(0.5)]
    assert colour(1) == FALLS


@pytest.mark.parametrize(("text", "lines"), [("a cat", 1), ("two blue cats " * 4, 2), ("x" * 4000, 6), ("\0\n", 1)])
def test_what_a_caption_is_against_stands_below_it_whatever_it_is(explained, text, lines):
    options, photo = HeatmapOptions(), Image.new("RGB", (400, 400))
    plain = explained(np.zeros((4, 4)), (0, 0, 400, 400))
    other = dataclasses.replace(plain, against=text, against_score=0.2)
    pictures = [render(photo, explanation, options) for explanation in (plain, other)]
    first, second = (np.asarray(picture)[400:] for picture in pictures)
    added = second.shape[0] - first.shape[0]
    assert added == 26 * lines
    at = np.flatnonzero((first[:, 5:] < 100).any((1, 2)))[0] + 26  # below the caption
    assert (second[at : at + added] < 150).any()
    again = render(photo, dataclasses.replace(other, against_score=0.3), options)
    assert not np.array_equal(np.asarray(again), np.asarray(pictures[1]))


def test_token_maps_paint_nothing(explained):
    photo, record = Image.new("RGB", (400, 400), "navy"), explained(one_hot(1, 1), (0, 0, 400, 400))
    other = dataclasses.replace(record, fields=record.fields | {"tokens/map": -record.token_map})
    assert render(photo, record, HeatmapOptions()).tobytes() == render(photo, other, HeatmapOptions()).tobytes()


@pytest.mark.parametrize(
    "values", [np.zeros((3, 3)), -np.ones((3, 3)), np.full((3, 3), np.nan), np.full((3, 3), np.inf)]
)
def test_a_map_without_positive_evidence_is_dark(values):
    assert normalise(values, 99).max() == 0


def test_one_extreme_patch_does_not_darken_the_rest():
    values = np.linspace(1, 2, 100).reshape(10, 10)
    values[0, 0] = 1000
    assert normalise(values, 95).mean() > 0.5
    assert normalise(values, 100).mean() < 0.05


def test_a_constant_positive_map_is_bright():
    assert normalise(np.full((3, 3), 7.0), 99.5).min() == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"colormap": "infreno"}, "inferno"),
        ({"opacity": 2}, "opacity"),
        ({"percentile": 0}, "percentile"),
        ({"max_side": 1}, "max_side"),
        ({"max_side": 5000, "format": "webp"}, "webp; take jpeg or png"),
    ],
)
def test_wrong_options_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        HeatmapOptions(**change)


def test_thumbnails_are_small():
    assert max(thumbnail(Image.new("RGB", (400, 900)), 256).size) == 256


@given(st.text(min_size=0, max_size=400))
def test_names_stay_inside_and_short(record_id):
    name = picture_name(record_id)
    assert not name.is_absolute()
    assert ".." not in name.parts
    assert len(str(name).encode()) <= 200
    assert all(part.isascii() and not part.startswith(".") for part in name.parts)


@given(st.lists(st.text(max_size=40), unique=True, min_size=2, max_size=8))
def test_names_are_unique_whatever_the_case(ids):
    assert len({str(picture_name(i)).casefold() for i in ids}) == len(ids)


def test_names_can_be_read():
    assert str(picture_name("00001/dog.jpg#0")).startswith("00001/dog.jpg_0.")


def test_pieces_are_the_caption_and_its_scale_is_never_next_to_nothing():
    caption = " Striped 😀é,  \x07dog!"
    said = (Word("Striped", 1, 8), Word("😀é,", 9, 12), Word("dog", 15, 18))
    values = np.float32([0.1, 0, -0.4])
    parts = pieces(caption, said, values)
    assert "".join(part.text for part in parts) == caption.replace("\x07", "\N{REPLACEMENT CHARACTER}")
    assert [part.text for part in parts if part.value is not None] == ["Striped", "😀é,", "dog"]
    assert [part.tint for part in parts if part.value is not None] == pytest.approx([0.25, 0, -1])
    assert [part.value for part in pieces(caption, said, None)] == [None]
    assert scale_of(np.float32([1e-4, -2e-4])) == LEAST_SCALE
    assert scale_of(None) is scale_of(np.float32([])) is scale_of(np.float32([np.nan])) is None


@pytest.mark.parametrize("box", [(0, 0, 400, 300), (50, 0, 350, 300), (0, -50, 400, 350)])
def test_an_overlay_is_the_blend_in_real_numbers_to_two_levels(explained, box):
    rng = np.random.default_rng(4)
    photo = Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8))
    record = explained(rng.normal(size=(7, 7)), box, (300, 400))
    ground = Ground.of(photo, record)
    heat = ground.place(normalise(record.map, PLAIN.percentile)).clip(0, 1)
    alpha = (PLAIN.opacity * np.sqrt(heat))[..., None]
    blend = np.asarray(photo) * (1 - alpha) + apply(heat, PLAIN.colormap) * alpha
    x0, x1 = box[0], box[2]
    blend[:, :x0] *= 0.45
    blend[:, x1:] *= 0.45
    shown = np.asarray(render(photo, record, PLAIN), np.float64)
    inner = (slice(1, -1), slice(x0 + 1, x1 - 1))  # without the frame
    assert np.abs(shown - blend)[inner].max() <= 2
    assert np.abs(shown - blend)[:, : x0 or 1][1:-1, :-1].max(initial=0) <= 2


def test_strips_drawn_one_after_the_other_are_those_drawn_alone(explained):
    photo = Image.new("RGB", (400, 300), "navy")
    records = []
    for number, caption in enumerate(["a red dog", "a red dog", "two grey cats on it", "a red cat"]):
        record = explained(one_hot(1, number), (0, 0, 400, 300), (300, 400), caption=caption, words=spelled(caption))
        record.fields["words/value"] = np.linspace(-0.1 * number, 0.2, len(record.words), dtype=np.float32)
        records.append(record)
    together = [render(photo, record, HeatmapOptions()).tobytes() for record in records]
    for record, picture in zip(records, together, strict=True):
        text_length.cache_clear()
        strip._ramp.cache_clear()
        assert render(photo, record, HeatmapOptions()).tobytes() == picture
    assert len(set(together)) == len(records)


def test_the_default_file_is_a_jpeg_with_crisp_text(explained, tmp_path):
    """Small coloured words stay what they are: all colour is kept; with half of it they are 41 levels off."""
    photo = Image.new("RGB", (400, 300), (90, 120, 90))
    record = explained(one_hot(1, 1), (50, 0, 350, 300), (300, 400), words=spelled("a red dog"))
    record.fields["words/value"] = np.float32([-0.05, 0.1, 0.2])
    picture = render(photo, record, HeatmapOptions())
    path = tmp_path / picture_name("a.png#0", HeatmapOptions().format)
    save_picture(picture, path)
    with Image.open(path) as read:
        assert (read.format, path.suffix) == ("JPEG", ".jpg")
        assert read.layer[0][1:3] == (1, 1)  # no sampling of the colours
        off = np.abs(np.asarray(read, np.int64) - np.asarray(picture, np.int64))[300:]
    assert off.mean() < 1
    assert np.percentile(off, 99.9) < 25

"""Pictures of words x regions: each phrase's colour at its place, small maps on one scale, legends that are true."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from mmel_cli.render import HeatmapOptions, parts_of, render
from mmel_cli.render.part_strip import map_legend, phrase_legend, sheet_legend
from mmel_cli.render.parts import GREY, PALETTE
from mmel_cli.render.text import Atom, in_order, wrap
from mmel_cli.types import Word

PHRASES = HeatmapOptions(panels="phrases", max_side=480, opacity=1.0)
PHOTO = Image.new("RGB", (480, 480), (90, 120, 90))
SPOTS = ((1, 1), (6, 6), (1, 6), (6, 1))
BESIDE = 480 + 16  # where the second column begins


def spot(row, column, value=1.0):
    values = np.zeros((8, 8), np.float32)
    values[row, column] = value
    return values


@pytest.fixture
def said(explained):
    """A caption "part0 part1 ..." with a map and a share for each part, as phrases or as words alone."""

    def make(maps, shares=None, phrases=True, caption=None, error=0.0, **changes):
        texts = [f"part{n}" for n in range(len(maps))]
        caption = " ".join(texts) + " and" if caption is None else caption
        words, at = [], 0
        for text in caption.split():
            start = caption.index(text, at)
            at = start + len(text)
            words.append(Word(text, start, at))
        spans = np.int32([(w.start, w.end) for w in words[: len(maps)]] if phrases else []).reshape(-1, 2)
        shares = np.float32(np.linspace(0.1, 0.4, len(maps)) if shares is None else shares)
        record = explained(
            np.ones((8, 8)), (0, 0, 480, 480), (480, 480), caption=caption, words=tuple(words), **changes
        )
        stack = np.zeros((len(words), 8, 8), np.float32)
        stack[: len(maps)] = np.reshape(maps, (-1, 8, 8))
        record.fields.update({"words/share": np.resize(shares, len(words)), "words/map": stack})
        record.fields["words/error"] = np.full(len(words), error, np.float32)
        record.fields.update({"phrases/span": spans, "phrases/share": shares[: len(spans)]})
        record.fields["phrases/map"] = stack[: len(spans)]
        return record

    return make


def parts(record, phrase="mean"):
    return parts_of(record.caption, record.words, record.fields, phrase)


def near(pixel, colour, by=40):
    return np.abs(np.int64(pixel) - colour).max() <= by


def centre(row, column):
    """Just beside the number at a cell's centre."""
    return 60 * row + 30, 60 * column + 30 + 14


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_each_phrase_has_its_colour_at_its_place_on_its_own_scale(said, scale):
    record = said([spot(*place, scale**n + 1e-9) for n, place in enumerate(SPOTS[:3])])
    picture = np.asarray(render(PHOTO, record, dataclasses.replace(PHRASES, caption=False)))
    assert picture.shape == (480, BESIDE + 480, 3)
    for place, colour in zip(SPOTS[:3], PALETTE, strict=False):
        y, x = centre(*place)
        assert near(picture[y, BESIDE + x], colour), place
    grey = picture[240, BESIDE + 240]
    assert grey.max() == grey.min()  # the photo without colour
    assert np.array_equal(
        picture[:, :480],
        render(PHOTO, record, HeatmapOptions(panels="overlay", max_side=480, opacity=1.0, caption=False)),
    )


def test_where_two_overlap_the_one_stronger_on_its_own_scale_is_drawn(said):
    strong = spot(2, 2, 10.0) + spot(5, 5, 4.0)  # .4 of its own strongest there
    weak = spot(5, 5, 0.6)
    picture = np.asarray(render(PHOTO, said([strong, weak]), dataclasses.replace(PHRASES, percentile=100)))
    assert near(picture[330, BESIDE + 344], PALETTE[1])
    assert near(picture[150, BESIDE + 164], PALETTE[0])


def test_evidence_against_the_match_has_no_colour_in_the_photo_and_is_said_to_be_left_out(said):
    record = said([spot(1, 1) - spot(6, 6)])
    picture = np.asarray(render(PHOTO, record, PHRASES))
    assert np.ptp(picture[390, BESIDE + 404]) == 0
    assert "Evidence against the match is not drawn." in phrase_legend(record, parts(record), 99.5)
    assert "Evidence against the match is not drawn." not in phrase_legend(said([spot(1, 1)]), parts(record), 99.5)


def test_a_phrase_without_positive_evidence_is_named_and_has_no_mark(said):
    record = said([spot(1, 1), -spot(3, 3), np.zeros((8, 8)), np.full((8, 8), np.nan)])
    told = " ".join(phrase_legend(record, parts(record), 99.5))
    least = "Without colour, since the evidence for it is less than 5% of that for the strongest phrase"
    assert f"{least}: 2 (part1), 3 (part2), 4 (part3)." in told
    picture = np.asarray(render(PHOTO, record, dataclasses.replace(PHRASES, caption=False)))[:, BESIDE:]
    assert not any((picture == np.uint8(colour)).all(-1).any() for colour in PALETTE[1:4])
    assert (picture == np.uint8(PALETTE[0])).all(-1).any()
    nothing = np.asarray(render(PHOTO, said([-spot(1, 1)]), dataclasses.replace(PHRASES, caption=False)))[:, BESIDE:]
    assert np.ptp(nothing, axis=-1).max() == 0


def test_a_phrase_with_next_to_no_evidence_is_not_painted_strong(said):
    record = said([spot(1, 1), spot(3, 3, 0.04), spot(6, 6, 0.06)])
    assert "strongest phrase: 2 (part1)." in " ".join(phrase_legend(record, parts(record), 99.5))
    picture = np.asarray(render(PHOTO, record, dataclasses.replace(PHRASES, caption=False)))[:, BESIDE:]
    drawn = [bool((picture == np.uint8(colour)).all(-1).any()) for colour in PALETTE[:3]]
    assert drawn == [True, False, True]


def test_marks_do_not_lie_on_each_other(said):
    record = said([spot(0, 7)] * 8)
    picture = np.asarray(render(PHOTO, record, dataclasses.replace(PHRASES, caption=False)))[:, BESIDE:]
    counts = [int((picture == np.uint8(colour)).all(-1).sum()) for colour in PALETTE]
    assert min(counts) > 100, counts


def test_phrases_beyond_eight_are_grey_and_it_is_said(said):
    record = said([spot(n % 8, n // 2) for n in range(11)])
    assert [part.colour for part in parts(record).each[7:]] == [PALETTE[7], GREY, GREY, GREY]
    assert "Grey, and not in the picture: phrases 9 to 11, since there are 8 colours." in phrase_legend(
        record, parts(record), 99.5
    )
    strip = np.asarray(render(PHOTO, record, PHRASES))[480:, BESIDE:]
    assert all((strip == np.uint8(colour)).all(-1).any() for colour in (*PALETTE, GREY))


def test_the_caption_stands_on_lines_of_the_colours_beside_the_one_of_word_values(said):
    record = said([spot(1, 1), spot(6, 6)])
    record.fields["words/value"] = np.float32([0.1, -0.1, 0.0])
    picture = np.asarray(render(PHOTO, record, PHRASES))
    left, right = picture[480:, :480], picture[480:, BESIDE:]
    for colour in PALETTE[:2]:
        assert (right == np.uint8(colour)).all(-1).any()
        assert not (left == np.uint8(colour)).all(-1).any()
    assert (left == np.uint8((255, 170, 40))).all(-1).any()
    assert not (right == np.uint8((255, 170, 40))).all(-1).any()


def test_small_maps_have_one_scale_and_their_own_colour_for_evidence_against(said):
    record = said([spot(4, 4, 1.0), spot(4, 4, 0.01), -spot(4, 4, 1.0)])
    options = HeatmapOptions(
        panels="words", max_side=480, opacity=1.0, percentile=100, colormap="inferno", caption=False
    )
    picture = np.asarray(render(PHOTO, record, options))[:, BESIDE:]
    side, step = 234, 234 + 24 + 12
    at = [(24 + 0 * step, 0), (24, side + 12), (24 + step, 0)]
    spots = [picture[y + round(side * 4.5 / 8), x + round(side * 4.5 / 8)] for y, x in at]
    assert near(spots[0], (252, 255, 164), 25)  # the end of inferno
    assert np.ptp(np.int64(spots[1])) < 10  # a hundredth of it is next to nothing
    assert near(spots[2], (0, 190, 255), 25)
    corner = [picture[y + 5, x + 5] for y, x in at]
    assert all(np.ptp(pixel) == 0 for pixel in corner)
    bars = [bar[0] for bar in map_legend(record, parts(record), options)]
    assert bars == ["evidence for the match: low", "evidence against it: low"]
    assert len(map_legend(said([spot(1, 1)]), parts(said([spot(1, 1)])), options)) == 1


@pytest.mark.parametrize(("count", "columns"), [(1, 2), (2, 2), (5, 3), (10, 4), (30, 4)])
def test_the_sheet_has_rows_of_small_maps_and_leaves_out_what_is_beyond_24(said, count, columns):
    record = said([spot(n % 8, n // 8) for n in range(count)])
    picture = render(PHOTO, record, HeatmapOptions(panels="words", max_side=480, caption=False))
    side = (480 - 12 * (columns - 1)) // columns
    assert picture.size == (BESIDE + 480, max(480, -(-min(count, 24) // columns) * (side + 24 + 12)))
    told = " ".join(sheet_legend(record, parts(record)))
    assert ("Not shown: phrases 25 to 30." in told) == (count == 30)
    assert ("All have one scale" in told) == (count > 1)


SAYS = {
    "mean": "the mean of what the phrase alone adds to the cosine of no text, and of what the cosine loses without it.",
    "alone": "what the phrase alone adds to the cosine of no text.",
    "left-out": "what the cosine loses without the phrase.",
    "words": "the sum of the shares of its words, which for all words is the cosine minus that of no words.",
}


@pytest.mark.parametrize("phrase", SAYS)
def test_what_a_share_is_depends_on_what_stands_for_a_phrase(said, phrase):
    record = said([spot(1, 1), spot(2, 2)])
    for told in (phrase_legend(record, parts(record, phrase), 99.5), sheet_legend(record, parts(record, phrase))):
        assert told[-1].endswith("its share of the cosine: " + SAYS[phrase])
    whole = parts(said([spot(1, 1)], caption="part0"), phrase).says
    assert ("all that the model reads" in whole) == (phrase != "words")


def test_without_a_phrase_words_stand_for_themselves_and_it_is_said(said):
    record = said([spot(1, 1), spot(6, 6)], phrases=False, error=0.0042)
    told = phrase_legend(record, parts(record), 99.5)
    assert told[0] == "The run has no phrase of this caption, so each word is shown."
    assert told[-1].endswith("minus that of no words. They are estimated, with standard errors of up to 0.004.")
    assert [part.text for part in parts(record).each] == ["part0", "part1", "and"]
    picture = np.asarray(render(PHOTO, record, PHRASES))
    assert near(picture[390, BESIDE + 404], PALETTE[1])
    del record.fields["phrases/span"], record.fields["phrases/share"], record.fields["phrases/map"]  # as mmel fuse does
    assert np.array_equal(picture, render(PHOTO, record, PHRASES))


def test_of_a_difference_it_is_said_that_colours_are_of_the_captions_own_cosine(said):
    record = said([spot(1, 1)], against="a cat", against_score=0.1)
    sentence = "This is of the caption's own cosine, not of the difference."
    assert sentence in phrase_legend(record, parts(record), 99.5)
    assert sentence in sheet_legend(record, parts(record))


def test_panels_that_need_words_are_refused_without_and_auto_is_the_overlay(explained, said):
    plain = explained(np.ones((8, 8)), (0, 0, 480, 480), (480, 480))
    for panels in ("phrases", "words"):
        with pytest.raises(ValueError, match=f"panels {panels} needs a run with --words"):
            render(PHOTO, plain, HeatmapOptions(panels=panels))
    auto, overlay = (render(PHOTO, plain, HeatmapOptions(panels=panels)) for panels in ("auto", "overlay"))
    assert auto.tobytes() == overlay.tobytes()
    record = said([spot(1, 1)])
    auto, phrases = (render(PHOTO, record, HeatmapOptions(panels=panels)) for panels in ("auto", "phrases"))
    assert auto.tobytes() == phrases.tobytes()


ODD = ["a " * 70, "x" * 900 + " y", "🐕 狗 \x1b[31m", "כלב לבן", "كلب red car أبيض", "[/b] <b>\tz"]


@pytest.mark.parametrize(
    ("caption", "size"), [*((caption, (480, 480)) for caption in ODD), ("a dog", (1200, 60)), ("a dog", (60, 1200))]
)
@pytest.mark.parametrize("panels", ["phrases", "words"])
def test_odd_captions_and_photos_are_drawn_and_the_same_twice(said, caption, panels, size):
    record = said([spot(n % 8, n % 7) for n in range(min(30, len(caption.split())))], caption=caption)
    photo, options = Image.new("RGB", size), HeatmapOptions(panels=panels)
    record = dataclasses.replace(record, image_size=size[::-1], box=(0, 0, *size))
    one, other = (render(photo, record, options) for _ in range(2))
    assert one.tobytes() == other.tobytes()
    assert one.width >= 2 * 420


def test_what_is_read_from_right_to_left_is_put_so_word_by_word():
    atoms = [Atom(text) for text in ("كلب", " ", "red", " ", "car", " ", "أبيض")]
    assert [atom.text for atom in in_order(atoms, True)] == ["أبيض", " ", "red", " ", "car", " ", "كلب"]
    english = [Atom(text) for text in ("a", " ", "כלב", " ", "לבן", " ", "dog")]
    assert [atom.text for atom in in_order(english, False)] == ["a", " ", "לבן", " ", "כלב", " ", "dog"]


def test_lines_are_no_wider_than_asked_and_marks_count():
    atoms = [Atom("word", mark=str(n), small="+0.123") for n in range(40)]
    rows = wrap(atoms, 300, 100)
    assert all(sum(atom.length for atom in row) <= 300 for row in rows)
    assert sum(len(row) for row in rows) == 40
    assert len(wrap(atoms, 300, 3)) == 3


@pytest.mark.parametrize("panels", ["phrases", "words"])
def test_a_caption_of_which_no_word_is_read_is_drawn_and_it_is_said(said, panels):
    record = said([], phrases=False, caption="")
    assert phrase_legend(record, parts(record), 99.5) == ["The model reads no word of this caption."]
    assert sheet_legend(record, parts(record)) == ["The model reads no word of this caption."]
    assert render(PHOTO, record, HeatmapOptions(panels=panels)).width == BESIDE + 480

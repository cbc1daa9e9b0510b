"""`phrases` of rows: what is read, in every layout that has rows, and what is refused by name."""

import csv
import io
import json
import re

import numpy as np
import pytest
from layouts import png, write, write_tar
from PIL import Image

from mmel_cli.data import open_source
from mmel_cli.data.truth import has_truth, read_truth
from mmel_cli.errors import RecordError
from mmel_cli.types import Failure, Phrase, Sample

CAPTION = "a red dog and a blue cat"
LEFT = np.zeros((4, 6), np.uint8)
LEFT[:, :2] = 255


def lay_out(root, rows, name="metadata.jsonl"):
    """a.png, z.png and left.png (a mask) with rows for them; "image" stands for the column of images."""
    for image in ("a.png", "z.png"):
        write(root / image, png(Image.new("RGB", (6, 4))))
    write(root / "masks/left.png", png(Image.fromarray(LEFT)))
    rows = [{"file_name": "a.png", **row} for row in rows]
    if name.endswith(".jsonl"):
        write(root / name, "".join(json.dumps(row) + "\n" for row in rows))
        return root
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, fieldnames=list(rows[0]))
    table.writeheader()
    table.writerows(
        {key: cell if isinstance(cell, str) else json.dumps(cell) for key, cell in row.items()} for row in rows
    )
    write(root / name, text.getvalue())
    return root


def in_tar(root, row):
    members = [("a.png", png(Image.new("RGB", (6, 4)))), ("a.left.png", png(Image.fromarray(LEFT)))]
    write_tar(root / "0.tar", [*members, ("a.json", json.dumps(row).encode())])
    return root


BOTH = [
    {"start": 14, "end": 24, "boxes": [[3, 0, 5, 2.5], [0, 0, 1, 1]], "id": 7},
    {"start": 0, "end": 9, "mask": "masks/left.png"},
]


@pytest.mark.parametrize("layout", ["metadata.jsonl", "metadata.csv", "pairs.csv", "tar"])
def test_spans_masks_and_boxes_are_read_from_every_layout_with_rows(tmp_path, layout):
    row = {"text": CAPTION, "phrases": BOTH}
    if layout == "tar":
        sample = next(
            iter(open_source(in_tar(tmp_path, row | {"phrases": [BOTH[0], BOTH[1] | {"mask": "a.left.png"}]})))
        )
    else:
        sample = next(iter(open_source(lay_out(tmp_path, [row], layout))))
    assert isinstance(sample, Sample), sample
    assert [sample.caption[phrase.start : phrase.end] for phrase in sample.phrases] == ["a red dog", "a blue cat"]
    dog, cat = (read_truth(phrase, (4, 6)) for phrase in sample.phrases)
    assert np.array_equal(dog, LEFT > 0)
    boxes = np.zeros((4, 6), bool)
    boxes[:2, 3:5] = boxes[0, 0] = True
    assert np.array_equal(cat, boxes)
    assert not has_truth(sample)


def test_masks_of_phrases_are_no_images_without_a_row(tmp_path):
    root = lay_out(tmp_path, [{"text": CAPTION, "phrases": BOTH}, {"file_name": "z.png", "text": "x"}])
    assert [entry.id for entry in open_source(root)] == ["a.png#0", "z.png#0"]


def test_a_phrase_may_have_no_truth_and_stand_by_its_text(tmp_path):
    rows = [{"text": CAPTION, "phrases": [{"text": "a blue cat"}, {"text": "red", "start": 2, "end": 5}]}]
    sample = next(iter(open_source(lay_out(tmp_path, rows))))
    assert sample.phrases == (Phrase(2, 5), Phrase(14, 24))
    assert not any(has_truth(phrase) or read_truth(phrase, (4, 6)) is not None for phrase in sample.phrases)


def test_spans_count_characters_of_the_caption_as_it_is_given(tmp_path):
    spans = [{"start": 3, "end": 11}, {"text": " ein Hund"}]
    rows = [{"text": " \tder Bär 🐻 sieht ein Hund\n", "phrases": spans}]
    sample = next(iter(open_source(lay_out(tmp_path, rows))))
    assert [sample.caption[phrase.start : phrase.end] for phrase in sample.phrases] == ["er Bär 🐻", "ein Hund"]


def test_boxes_without_a_pixel_of_the_image_are_refused_where_they_are_read():
    """Of another image, or in fractions of it: nothing could be found there, and no map would be told so."""
    assert read_truth(Phrase(0, 9, boxes=((5, 3, 90, 90),)), (4, 6)).sum() == 1
    for box in ((6.0, 0.0, 9.0, 4.0), (0.1, 0.1, 0.4, 0.4)):
        says = re.escape(f"no pixel of the image (6 x 4) is in the boxes {[*box]}; boxes are [x0, y0, x1, y1]")
        with pytest.raises(RecordError, match=says):
            read_truth(Phrase(0, 9, boxes=(box,)), (4, 6))


def test_no_phrases_are_none(tmp_path):
    rows = [{"text": "x", "phrases": none} for none in ("", None, [])] + [{"text": ["x", "y"], "phrases": []}]
    assert [entry.phrases for entry in open_source(lay_out(tmp_path, rows)) if isinstance(entry, Sample)] == [()] * 5


REFUSED = {
    "no list": ({"start": 0, "end": 5}, "phrases must be [{"),
    "no objects": (["a red dog"], "phrases must be [{"),
    "no JSON": ("a red dog", "phrases must be [{"),
    "nothing": ([{"boxes": []}], "phrases[0]: must have start and end"),
    "half": ([{"start": 0}], "phrases[0]: must have start and end"),
    "half with text": ([{"start": 0, "text": "red"}], "phrases[0]: must have start and end"),
    "fractions": ([{"start": 0.0, "end": 5.0}], "phrases[0]: must have start and end"),
    "booleans": ([{"start": False, "end": True}], "phrases[0]: must have start and end"),
    "past the end": (
        [{"start": 0, "end": 25}],
        "phrases[0]: start 0 and end 25 are no part of the caption, characters 0 to 24",
    ),
    "before the start": ([{"start": -1, "end": 5}], "start -1 and end 5 are no part"),
    "empty": ([{"start": 5, "end": 5}], "start 5 and end 5 are no part"),
    "turned round": ([{"start": 9, "end": 2}], "start 9 and end 2 are no part"),
    "blank": ([{"start": 1, "end": 2}], "nothing but blanks stands from 1 to 2"),
    "overlap": ([{"start": 14, "end": 24}, {"start": 0, "end": 15}], "the phrases 0 to 15 and 14 to 24 overlap"),
    "twice the same": ([{"start": 0, "end": 9}, {"text": "a red dog"}], "the phrases 0 to 9 and 0 to 9 overlap"),
    "text elsewhere": ([{"start": 0, "end": 9, "text": "a blue cat"}], "'a red dog' stands from 0 to 9"),
    "text that is not there": ([{"text": "a green cat"}], "the caption does not say 'a green cat'"),
    "text twice": ([{"text": "a"}], "'a' stands in the caption more than once"),
    "text of blanks": ([{"text": " "}], "text is no words"),
    "text of another type": ([{"text": 5}], "text is no words"),
    "bad boxes": ([{"start": 0, "end": 9}, {"text": "a blue cat", "boxes": [1, 2, 3, 4]}], "phrases[1]: boxes must be"),
    "boxes turned round": ([{"start": 0, "end": 9, "boxes": [[3, 0, 1, 2]]}], "phrases[0]: a box is not finite"),
    "a key that is misspelt": (
        [{"text": "a red dog", "box": [[0, 0, 2, 2]]}],
        "'box' is not read; did you mean boxes?",
    ),
    "no mask there": ([{"start": 0, "end": 9, "mask": "gone.png"}], "gone.png: does not exist"),
    "a mask outside": ([{"start": 0, "end": 9, "mask": "../x.png"}], "'..'"),
    "a mask that is no path": ([{"start": 0, "end": 9, "mask": 3}], "phrases[0]: mask is int, not a path"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_a_bad_phrase_costs_its_row_alone_and_says_why(tmp_path, case):
    phrases, says = REFUSED[case]
    rows = [
        {"text": CAPTION, "phrases": phrases},
        {"file_name": "z.png", "text": CAPTION, "phrases": [{"text": "a red dog"}]},
    ]
    bad, good = [entry for entry in open_source(lay_out(tmp_path, rows)) if "left.png" not in entry.id]
    assert isinstance(bad, Failure)
    assert says in bad.error
    assert bad.error.isprintable()
    assert bad.error.startswith("metadata.jsonl, line 1")
    assert good.phrases == (Phrase(0, 9),)


@pytest.mark.parametrize("captions", [{"captions": ["a dog", "a cat"]}, {"caption_0": "a dog", "caption_1": "a cat"}])
def test_phrases_go_with_one_caption(tmp_path, captions):
    failure = next(iter(open_source(lay_out(tmp_path, [captions | {"phrases": [{"start": 0, "end": 5}]}]))))
    assert failure.error == (
        "metadata.jsonl, line 1: phrases go with one caption, and the row has 2; give each caption a row of its own"
    )


@pytest.mark.parametrize("caption", [None, 5, "", "x\0"])
def test_a_caption_that_is_none_is_named_before_its_phrases(tmp_path, caption):
    failure = next(iter(open_source(lay_out(tmp_path, [{"text": caption, "phrases": [{"start": 0, "end": 1}]}]))))
    assert "caption" in failure.error
    assert isinstance(failure, Failure)


@pytest.mark.parametrize("mask", ["left.png", "b.png", 5, ["a.left.png"]])
def test_a_mask_of_a_phrase_in_a_shard_is_a_member_of_the_image_s_key(tmp_path, mask):
    row = {"text": CAPTION, "phrases": [{"text": "a red dog", "mask": mask}]}
    (failure,) = open_source(in_tar(tmp_path, row))
    assert "0.tar/a.png, phrases[0]: mask must be a member of the image's key" in failure.error

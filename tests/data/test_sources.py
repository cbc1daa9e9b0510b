"""Pairing: real folders in, samples and failures out."""

import json
import os
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmel_cli.data import open_source
from mmel_cli.errors import UsageError
from mmel_cli.types import Failure, Sample


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


def write_rows(folder, rows, name="metadata.jsonl", encoding="utf-8"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding)


def split(source):
    entries = list(source)
    good = [entry for entry in entries if isinstance(entry, Sample)]
    return {s.id: s.caption for s in good}, {e.id: e.error for e in entries if isinstance(e, Failure)}


def test_one_image_with_a_caption(tmp_path):
    picture(tmp_path / "a.png")
    assert split(open_source(tmp_path / "a.png", caption=" a dog "))[0] == {"a.png#0": "a dog"}


def test_sidecars_are_found_in_every_folder(tmp_path):
    for name in ("00000/000000000.jpg", "00000/000000001.jpg", "b.c.png", "b.c.jpg", ".hidden/x.png", "z.png"):
        picture(tmp_path / name)
    (tmp_path / "00000/000000000.txt").write_text("first line\nsecond line\n")
    (tmp_path / "00000/000000001.txt").write_bytes(b"\xef\xbb\xbfwith a BOM\r\n")
    (tmp_path / "b.c.caption").write_text("both suffixes")
    (tmp_path / "b.c.txt").write_text("not this one")
    source = open_source(tmp_path)
    good, bad = split(source)
    assert good == {
        "00000/000000000.jpg#0": "first line",
        "00000/000000001.jpg#0": "with a BOM",
        "b.c.jpg#0": "both suffixes",
        "b.c.png#0": "both suffixes",
    }
    assert list(bad) == ["z.png#0"]
    assert bad["z.png#0"].startswith("no caption")
    assert "sidecar" in source.layout
    assert split(source) == (good, bad)  # it can be read again


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("column", ["text", "caption", "prompt", "title"])
def test_metadata_jsonl(tmp_path, encoding, column):
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    rows = [{"file_name": "a.png", column: "ein Hund ä"}, {"file_name": "b.png", column: ["one", "two"]}]
    write_rows(tmp_path, [*rows, {"file_name": "a.png", column: "again"}], encoding=encoding)
    source = open_source(tmp_path)
    assert split(source)[0] == {"a.png#0": "ein Hund ä", "b.png#0": "one", "b.png#1": "two", "a.png#1": "again"}
    assert "metadata.jsonl" in source.layout


def test_metadata_csv_with_boxes_mask_and_id(tmp_path):
    picture(tmp_path / "sub/a.png")
    picture(tmp_path / "sub/m.png")
    (tmp_path / "sub/metadata.csv").write_text(
        'file_name,text,mask,boxes,id\na.png,"a, ""b""",m.png,"[[0,1,2,3]]",first\na.png,c,,,\n', "utf-8-sig"
    )
    first, second = list(open_source(tmp_path))
    assert (first.id, first.caption, first.boxes) == ("first", 'a, "b"', ((0.0, 1.0, 2.0, 3.0),))
    assert first.mask.key == str(tmp_path / "sub/m.png")
    assert (second.id, second.mask, second.boxes) == ("sub/a.png#1", None, ())


def test_numbered_and_named_caption_columns(tmp_path):
    picture(tmp_path / "a.png")
    write_rows(tmp_path, [{"file_name": "a.png", "caption_10": "z", "caption_2": "y", "alt": "x"}])
    with pytest.raises(UsageError, match="--caption-column"):
        open_source(tmp_path)
    write_rows(tmp_path, [{"file_name": "a.png", "caption_10": "z", "caption_0": "y", "alt": "x"}])
    assert split(open_source(tmp_path))[0] == {"a.png#0": "y", "a.png#1": "z"}
    assert split(open_source(tmp_path, caption_column="alt"))[0] == {"a.png#0": "x"}
    with pytest.raises(UsageError, match="'other'"):
        open_source(tmp_path, caption_column="other")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"file_name": "../out.png", "text": "x"}, "'..'"),
        ({"file_name": "/etc/passwd", "text": "x"}, "absolute"),
        ({"file_name": "http://x/y.png", "text": "x"}, "URL"),
        ({"file_name": "link.png", "text": "x"}, "leads out"),
        ({"file_name": "pipe.png", "text": "x"}, "regular file"),
        ({"file_name": "gone.png", "text": "x"}, "does not exist"),
        ({"file_name": "a.png", "text": ""}, "no caption"),
        ({"file_name": "a.png", "text": None}, "no caption"),
        ({"file_name": "a.png", "text": 5}, "not text"),
        ({"file_name": "a.png", "text": "a\0b"}, "NUL"),
        ({"file_name": "a.png", "text": "\ud800"}, "surrogate"),
        ({"file_name": "a.png", "text": "x" * 100_001}, "100000 bytes"),
        ({"file_name": "a.png", "text": "x", "boxes": [[1, 2]]}, "boxes must be"),
        ({"file_name": "a.png", "text": "x", "boxes": [[5, 5, 1, 1]]}, "wrong order"),
        ({"file_name": "a.png", "text": "x", "mask": "../m.png"}, "'..'"),
        ({"text": "x"}, "no file_name"),
        ({"file_name": "a.png", "text": "x", "id": "good"}, "not unique"),
    ],
)
def test_a_bad_row_is_a_failure_and_the_rest_goes_on(tmp_path, row, says):
    root = tmp_path / "in"
    picture(tmp_path / "out.png")
    for name in ("a.png", "good.png", "last.png"):
        picture(root / name)
    os.symlink(tmp_path / "out.png", root / "link.png")
    os.mkfifo(root / "pipe.png")
    good = {"file_name": "good.png", "text": "fine", "id": "good"}
    write_rows(root, [good, row, {"file_name": "last.png", "text": "fine too"}])
    found, failed = split(open_source(root))
    assert {"good", "last.png#0"} <= set(found)
    assert len(found) == 2
    assert any(says in error for error in failed.values()), failed


@pytest.mark.parametrize("inside", ["", "train"])
def test_a_huggingface_cache_links_to_its_own_blobs_alone(tmp_path, inside):
    cache = tmp_path / "hub"
    ours, theirs = cache / "datasets--me--photos", cache / "datasets--you--photos"
    root = ours / "snapshots/0123abc" / inside
    root.mkdir(parents=True)
    for folder in (ours / "blobs", theirs / "blobs", ours / "elsewhere", tmp_path / "plain/blobs"):
        picture(folder / "image.png")
    (ours / "blobs/text").write_text('{"file_name": "a.png", "text": "x"}\n')
    os.symlink(os.path.relpath(ours / "blobs/text", root), root / "metadata.jsonl")
    os.symlink(os.path.relpath(ours / "blobs/image.png", root), root / "a.png")
    assert split(open_source(root)) == ({"a.png#0": "x"}, {})
    assert [sample.ref.key for sample in open_source(root)] == [str(root / "a.png")]
    for target in (theirs / "blobs/image.png", ours / "elsewhere/image.png", tmp_path / "plain/blobs/image.png"):
        (root / "a.png").unlink()
        os.symlink(target, root / "a.png")
        assert "leads out" in split(open_source(root))[1]["a.png#0"]


def test_another_folder_that_looks_like_a_cache_is_none(tmp_path):
    picture(tmp_path / "mine/blobs/image.png")
    write_rows(tmp_path / "mine/snapshots/x", [{"file_name": "a.png", "text": "x"}])
    os.symlink("../../blobs/image.png", tmp_path / "mine/snapshots/x/a.png")
    assert "leads out" in split(open_source(tmp_path / "mine/snapshots/x"))[1]["a.png#0"]


def test_broken_lines_are_named(tmp_path):
    picture(tmp_path / "a.png")
    lines = ['{"file_name": "a.png", "text": "x"}', "{broken", "[1]", ""]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    assert list(split(open_source(tmp_path))[1]) == ["metadata.jsonl, line 2", "metadata.jsonl, line 3"]


def test_an_image_that_no_row_names_has_no_caption_but_masks_need_none(tmp_path):
    for name in ("a.png", "m.png", "other.png"):
        picture(tmp_path / name)
    write_rows(tmp_path, [{"file_name": "a.png", "text": "x", "mask": "m.png"}])
    bad = split(open_source(tmp_path))[1]
    assert list(bad) == ["other.png#0"]
    assert bad["other.png#0"].startswith("no caption")


def test_what_cannot_be_read_at_all_says_what_to_do(tmp_path):
    picture(tmp_path / "x/a.png")
    (tmp_path / "empty").mkdir()
    write_rows(tmp_path / "mixed", [{"file_name": "a.png", "text": "x"}])
    (tmp_path / "mixed/metadata.csv").write_text("file_name,text\n")
    for path, options, says in (
        (tmp_path / "gone", {}, "does not exist"),
        (tmp_path / "x/a.png", {}, "--caption TEXT"),
        (tmp_path / "x", {"caption": "a"}, "one image"),
        (tmp_path / "x", {"caption_column": "a"}, "metadata"),
        (tmp_path / "empty", {}, "no images"),
        (tmp_path / "mixed", {}, "both"),
    ):
        with pytest.raises(UsageError, match=says):
            open_source(path, **options)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(string.ascii_letters, min_size=1)), min_size=1, max_size=12))
def test_ids_number_the_captions_of_each_image(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("ids")
    for name in "abc":
        picture(folder / f"{name}.png")
    write_rows(folder, [{"file_name": f"{image}.png", "text": text} for image, text in pairs])
    expected, counts = [], {}
    for image, text in pairs:
        expected.append((f"{image}.png#{counts.get(image, 0)}", text))
        counts[image] = counts.get(image, 0) + 1
    assert [(s.id, s.caption) for s in open_source(folder) if isinstance(s, Sample)] == expected

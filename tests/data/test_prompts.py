"""--prompts: every image of an input with every text of a file, whatever its captions are."""

import json

import pytest
from layouts import LAYOUTS, PIXEL, image_name, write, write_tar

from mmel_cli.data import open_source, reopen
from mmel_cli.errors import UsageError
from mmel_cli.types import Failure, Sample

TEXTS = ["a red dog", "ein Hund ä", "nothing"]


@pytest.fixture
def prompts(tmp_path):
    return write(tmp_path / "p.txt", "\ufeff a red dog \r\n\n  \nein Hund ä\nnothing")


def ids(source):
    return [(e.id, e.caption) if isinstance(e, Sample) else (e.id, None) for e in source]


def every(*images):
    return [(f"{name}#{k}", text) for name in images for k, text in enumerate(TEXTS)]


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_layout_gives_each_image_once_with_each_text(layout, tmp_path, prompts):
    source = open_source(LAYOUTS[layout][0](tmp_path / "data"), prompts=prompts)
    entries = list(source)
    assert ids(entries) == every(*(image_name(layout, n) for n in range(7)))
    assert "each image with 3 prompts" in source.layout
    assert all(entry.mask is None and entry.boxes == () for entry in entries)
    for entry in entries:
        entry.ref.open().close()
    prompts.unlink()  # run.yaml keeps the texts
    again = reopen(json.loads(json.dumps(source.plain())))
    assert (list(again), again.layout, again.decides) == (entries, source.layout, source.decides)


def test_images_without_any_caption_are_an_input(tmp_path, prompts):
    for name in ("b.png", "sub/a.jpg", ".hidden/x.png"):
        write(tmp_path / "in" / name)
    with pytest.raises(UsageError, match="--prompts"):
        open_source(tmp_path / "in")
    source = open_source(tmp_path / "in", prompts=prompts)
    assert (source.name, ids(source)) == ("images", every("b.png", "sub/a.jpg"))
    assert ids(open_source(tmp_path / "in/b.png", prompts=prompts)) == every("b.png")
    moved = reopen(source.plain(), tmp_path / "in/sub")
    assert ids(moved) == every("a.jpg")


def test_what_is_wrong_with_captions_is_no_fault_and_what_is_wrong_with_images_stays_one(tmp_path, prompts):
    """Rows: a bad mask, a blank caption, an id twice, an image twice, one that is not there, and one without a row."""
    root = tmp_path / "in"
    rows = [
        {"file_name": "a.png", "text": "x", "mask": "gone.png"},
        {"file_name": "b.png", "text": " "},
        {"file_name": "c.png", "text": "x", "id": "same"},
        {"file_name": "d.png", "text": "x", "id": "same"},
        {"file_name": "c.png", "boxes": "nonsense"},
        {"file_name": "gone.png", "text": "x"},
    ]
    write(root / "metadata.jsonl", "\n".join(json.dumps(row) for row in rows))
    for name in "abcde":
        write(root / f"{name}.png")
    entries = list(open_source(root, prompts=prompts))
    assert ids(e for e in entries if isinstance(e, Sample)) == every("a.png", "b.png", "c.png", "d.png", "e.png")
    (failure,) = (e for e in entries if isinstance(e, Failure))
    assert "gone.png: does not exist" in failure.error


def test_captions_need_no_column_no_text_and_no_annotation(tmp_path, prompts):
    for name in ("t", "j", "c", "s"):
        write(tmp_path / name / "a.png")
        write(tmp_path / name / "b.png")
    write(tmp_path / "t/list.csv", "path,label\na.png,1\nb.png,2\na.png,3\n")
    write(tmp_path / "j/metadata.jsonl", '{"file_name": "a.png", "label": 1}')
    images = [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate("ab")]
    write(tmp_path / "c/captions.json", {"images": images, "annotations": [{"id": 1, "image_id": 0, "caption": "x"}]})
    write(tmp_path / "s/a.txt", "a caption")
    write_tar(tmp_path / "r/0.tar", [("a.png", PIXEL), ("b.png", PIXEL), ("b.txt", b"\xff")])
    for name, kind in (("t", "table"), ("j", "imagefolder"), ("c", "coco"), ("s", "sidecar"), ("r", "tar")):
        source = open_source(tmp_path / name, prompts=prompts)
        place = "0.tar/" if kind == "tar" else ""
        assert (source.name, ids(source)) == (kind, every(f"{place}a.png", f"{place}b.png"))
    assert open_source(tmp_path / "t", prompts=prompts).layout.startswith("table (list.csv, comma; images by path);")


FAULTY = {
    "no file": (None, "is no file"),
    "not UTF-8": (b"a\n\xff\n", "is not UTF-8"),
    "UTF-16": ("a\n".encode("utf-16"), "UTF-16"),
    "nothing in it": (b"\n \n", "holds no text"),
    "a text twice": (b"a\nb\n\n a \n", r"line 4 repeats line 1 \(a\)"),
    "a NUL": (b"a\nb\0c\n", "line 2"),
    "too long": (b"x\n" * 600_000, "over 1048576 bytes"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_a_file_that_is_no_list_of_prompts_is_refused(tmp_path, case):
    content, says = FAULTY[case]
    write(tmp_path / "in/a.png")
    path = tmp_path / "p.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"p\.txt: .*{says}"):
        open_source(tmp_path / "in", prompts=path)


def test_options_of_captions_are_refused_and_an_archive_alone_names_no_file(tmp_path, prompts):
    picture = write(tmp_path / "in/a.png")
    with pytest.raises(UsageError, match="--caption goes with captions, and --prompts"):
        open_source(picture, caption="x", prompts=prompts)
    with pytest.raises(UsageError, match="--caption-column goes with captions"):
        open_source(tmp_path / "in", caption_column="x", prompts=prompts)
    with pytest.raises(UsageError, match="give the run folder"):
        reopen({"path": str(tmp_path / "in"), "prompts": str(prompts)})

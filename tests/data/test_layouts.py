"""What is recognised and what is refused, in one table: every layout, broken ones too, each with its line."""

import os

import pytest
from layouts import PIXEL, coco, table, tars, write, write_tar

from mmel_cli.data import open_source, reopen
from mmel_cli.errors import UsageError
from mmel_cli.types import Failure, Sample

ONE = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"id": 1, "image_id": 1, "caption": "x"}]}


def folder(root, **files):
    """a.png, and files by name (two underscores are the dot)."""
    write(root / "a.png")
    for name, content in files.items():
        write(root / name.replace("__", "."), content)
    return root


def flickr(root):
    write(root / "flickr30k_images/a.png")
    rows = ['a.png| 0| A "young" dog .', "a.png| 1| A | dog", "a.png| 2| ", "a.png| 4   A dog", "a.png| 3| Dogs ."]
    write(root / "results.csv", "\n".join(["image_name| comment_number| comment", *rows]))
    return root


def broken_coco(root):
    annotations = [*ONE["annotations"], {"image_id": 7, "caption": "x"}]
    return folder(root, c__json={"images": [*ONE["images"], 5], "annotations": annotations})


def torn_coco(root):
    for split in ("train", "val"):
        write(root / split / "a.png")
    return write(root / "c.json", ONE).parent


def linked(root):
    folder(root)
    os.symlink("/etc/passwd", root / "t.csv")
    return root


def cut_tar(root, at):
    path = tars(root) / "00000.tar"
    path.write_bytes(path.read_bytes()[:at])
    (root / "00001.tar").unlink()
    return root


def packed(root):
    write(root / "0.tar.gz", b"\x1f\x8b\x08 packed")
    return root


def disguised(root):
    return write(root / "0.tar", b"\x1f\x8b\x08 packed")


TITLES = "table (captions.csv, tab; images by filepath, captions by title; images in images/)"
TAB = "table (t.csv, tab; images by filepath, captions by title)"
RECOGNISED = {
    "imagefolder": (
        lambda r: folder(r, metadata__csv="file_name,text\na.png,x\n"),
        "HuggingFace imagefolder (metadata.csv)",
        1,
        0,
    ),
    "imagefolder, its file": (
        lambda r: folder(r, metadata__csv="file_name,text\na.png,x\n") / "metadata.csv",
        "HuggingFace imagefolder (metadata.csv)",
        1,
        0,
    ),
    "imagefolder, a .jsonl": (
        lambda r: folder(r, my__jsonl='{"file_name": "a.png", "text": "x"}') / "my.jsonl",
        "HuggingFace imagefolder (my.jsonl)",
        1,
        0,
    ),
    "coco": (coco, "COCO captions (annotations/captions_val2017.json; images in val2017/)", 14, 0),
    "coco, its annotations": (
        lambda r: coco(r) / "annotations",
        "COCO captions (captions_val2017.json; images in val2017/)",
        14,
        0,
    ),
    "coco, its file": (
        lambda r: coco(r) / "annotations/captions_val2017.json",
        "COCO captions (captions_val2017.json; images in val2017/)",
        14,
        0,
    ),
    "coco beside its images": (lambda r: folder(r, c__json=ONE), "COCO captions (c.json)", 1, 0),
    "coco with a broken entry": (broken_coco, "COCO captions (c.json)", 1, 2),
    "table": (table, TITLES, 14, 0),
    "table, its file": (lambda r: table(r) / "captions.csv", TITLES, 14, 0),
    "table with semicolons, CRLF and a BOM": (
        lambda r: folder(r, t__csv="\ufeffimage;caption\r\na.png;x\r\n"),
        "table (t.csv, semicolon; images by image, captions by caption)",
        1,
        0,
    ),
    "table, a .txt file": (
        lambda r: folder(r, captions__txt="image,caption\na.png,x\n") / "captions.txt",
        "table (captions.txt, comma; images by image, captions by caption)",
        1,
        0,
    ),
    "table with JSON lists": (
        lambda r: folder(r, t__csv='file_name,captions\na.png,"[""x"", ""y""]"\n'),
        "table (t.csv, comma; images by file_name, captions by captions)",
        2,
        0,
    ),
    "table with numbered captions": (
        lambda r: folder(r, t__csv="image,caption_0,caption_1\na.png,x,y\n"),
        "table (t.csv, comma; images by image, captions by caption_0, caption_1, ...)",
        2,
        0,
    ),
    "table beside one that is none": (
        lambda r: folder(r, t__csv="filepath\ttitle\na.png\tx\n", scores__csv="id,score\n1,2\n"),
        TAB,
        1,
        0,
    ),
    "table with bad rows": (
        lambda r: folder(r, t__csv="filepath\ttitle\na.png\tx\na.png\ngone.png\ty\n/a.png\tz\n"),
        TAB,
        1,
        3,
    ),
    "flickr30k": (
        flickr,
        "table (results.csv, |; images by image_name, captions by comment; images in flickr30k_images/)",
        2,
        3,
    ),
    "sidecar": (lambda r: folder(r, a__txt="x"), "images with sidecar text files (.caption or .txt)", 1, 0),
    "img2dataset files": (
        lambda r: folder(r, a__txt="x", a__json={"caption": "x", "key": "0"}),
        "images with sidecar text files (.caption or .txt)",
        1,
        0,
    ),
    "tars": (tars, "tar shards (00000.tar and 1 more; .json, .mask.png, .png)", 14, 0),
    "tar, its file": (lambda r: tars(r) / "00001.tar", "tar shards (00001.tar; .json, .mask.png, .png)", 6, 0),
    "tar without an end": (lambda r: cut_tar(r, -10_240), "tar shards (00000.tar; .json, .mask.png, .png)", None, 2),
    "tar with a pickle": (
        lambda r: write_tar(r / "0.tar", [("a.png", PIXEL), ("a.pyd", b"c"), ("a.txt", b"x")]),
        "tar shards (0.tar; .png, .txt; ignored: .pyd (never unpickled))",
        1,
        0,
    ),
}
REFUSED = {
    "nothing": (lambda r: folder(r).parent / "none", "does not exist"),
    "images alone": (folder, "holds images but no captions for them; put a.txt beside a.jpg"),
    "another JSON": (
        lambda r: folder(r, data__json=[{"a": 1}]),
        "data.json is no COCO captions JSON; write it as a table",
    ),
    "a table further down": (
        lambda r: write(folder(r) / "deep/results.csv", "image,caption\na.png,x\n").parents[1],
        "deep/results.csv lies deeper; give it, or its folder, as INPUT",
    ),
    "a table without rows": (
        lambda r: folder(r, t__csv="file_name,caption\n"),
        "t.csv: has a header and no row below it",
    ),
    "videos": (lambda r: write(r / "a.mp4").parent, "holds no images but .mp4 (1)"),
    "imagefolder with other columns": (
        lambda r: folder(r, metadata__csv="img,text\na.png,x\n"),
        "has no column file_name but img, text; name that of images with --image-column",
    ),
    "imagefolder in Parquet": (
        lambda r: folder(r, metadata__parquet="PAR1"),
        "metadata.parquet is Parquet, which is not read",
    ),
    "imagefolder in UTF-16": (
        lambda r: folder(r, metadata__csv="file_name,text\na.png,x".encode("utf-16")),
        "is UTF-16; save it as UTF-8",
    ),
    "Parquet itself": (lambda r: write(r / "a.parquet", "PAR1"), "is Parquet, which is not read"),
    "coco instances": (lambda r: coco(r) / "annotations/instances_val2017.json", "its annotations have no caption"),
    "coco instances in a folder": (
        lambda r: folder(r, i__json={"images": [], "annotations": []}),
        "i.json has annotations without captions",
    ),
    "coco cut off": (lambda r: folder(r, c__json=b'{"images": [{"id": 1') / "c.json", "is not JSON in UTF-8"),
    "coco nested too deep": (lambda r: folder(r, c__json="[" * 100_000) / "c.json", "is not JSON in UTF-8"),
    "coco without images": (
        lambda r: folder(r, c__json={"data": []}) / "c.json",
        "has no list 'images', as COCO captions have; its keys are data",
    ),
    "coco as a list": (lambda r: folder(r, c__json=[]) / "c.json", "is a JSON list; COCO is an object"),
    "two coco files": (
        lambda r: folder(r, c__json=ONE, d__json=ONE),
        "holds several COCO caption files; give one of them: c.json, d.json",
    ),
    "coco with images nowhere": (
        lambda r: write(r / "c.json", ONE),
        "none of its images is there: a.png lies neither beside it nor in images/",
    ),
    "coco with images in two places": (torn_coco, "a.png lies in r/train/ and r/val/"),
    "table with other columns": (
        lambda r: folder(r, captions__csv="img,words\na.png,x\n"),
        "captions.csv has the columns img, words; name one with --image-column and one with --caption-column",
    ),
    "table without captions": (
        lambda r: folder(r, t__tsv="image\twords\na.png\tx\n") / "t.tsv",
        "t.tsv: has the columns image, words; name one with --caption-column",
    ),
    "table with a name twice": (
        lambda r: folder(r, t__csv="image,caption,caption\na.png,x,y\n"),
        "has the column caption more than once",
    ),
    "table in UTF-16": (
        lambda r: folder(r, t__csv="image,caption\na.png,x".encode("utf-16")),
        "t.csv: is UTF-16; save it as UTF-8",
    ),
    "empty table": (lambda r: folder(r, t__csv="") / "t.csv", "t.csv: has the columns without a name"),
    "two tables": (
        lambda r: folder(r, a__csv="image,caption\n", b__tsv="image\tcaption\n"),
        "holds several tables; give one of them: a.csv, b.tsv",
    ),
    "tar.gz": (packed, "0.tar.gz: is compressed; unpack it to a plain .tar first"),
    "gz called tar": (disguised, "0.tar: is compressed; unpack it"),
    "no tar": (
        lambda r: write(r / "0.tar", b"nothing of a tar" * 100),
        "0.tar: holds no images; its members: none that can be read; 0.tar: cannot be read further",
    ),
    "empty tar": (lambda r: write(r / "0.tar", b""), "0.tar: holds no images; its members: none that can be read"),
    "tar of code": (lambda r: write_tar(r / "0.tar", [("a.py", b"x")]), "0.tar: holds no images; its members: .py"),
    "zip": (lambda r: write(r / "a.zip", b"PK"), "is a packed archive; unpack it"),
    "a link out": (linked, "t.csv: is a link that leads out of the folder; refused"),
}


@pytest.mark.parametrize("case", list(RECOGNISED))
def test_what_is_recognised_and_read(tmp_path, case):
    make, layout, good, bad = RECOGNISED[case]
    source = open_source(make(tmp_path / "r"))
    assert source.layout == layout
    entries = list(source)
    failures = [entry for entry in entries if isinstance(entry, Failure)]
    assert len(failures) == bad, failures
    assert good is None or len(entries) == good + bad
    assert len({entry.id for entry in entries}) == len(entries)
    for sample in (entry for entry in entries if isinstance(entry, Sample)):
        with sample.ref.open() as file:
            assert file.read(4) == PIXEL[:4], sample.ref.key
    assert all(failure.error.isprintable() for failure in failures)
    again = reopen(source.plain())
    assert (again.name, again.layout, list(again)) == (source.name, layout, entries)


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_is_refused_says_what_to_do(tmp_path, case):
    make, says = REFUSED[case]
    with pytest.raises(UsageError) as caught:
        open_source(make(tmp_path / "r"))
    assert says in str(caught.value)
    assert str(caught.value).isprintable()
    assert "root:" not in str(caught.value)


@pytest.mark.parametrize("kind", ["coco", "table", "tar"])
def test_options_that_do_not_fit_are_refused(tmp_path, kind):
    data = {"coco": coco, "table": table, "tar": tars}[kind](tmp_path / "r")
    file = data / {"coco": "annotations/captions_val2017.json", "table": "captions.csv", "tar": "00000.tar"}[kind]
    for path in (data, file):
        with pytest.raises(UsageError, match="--caption goes with one image"):
            open_source(path, caption="x")
        if kind != "table":
            with pytest.raises(UsageError, match="--image-column goes with a table"):
                open_source(path, image_column="x")


@pytest.mark.parametrize(("kind", "alone"), [*((k, a) for k in ("coco", "table", "tar") for a in (0, 1)), ("image", 1)])
def test_a_huggingface_cache_is_followed_also_to_a_single_file(tmp_path, kind, alone):
    plain = {"coco": coco, "table": table, "tar": tars, "image": folder}[kind](tmp_path / "plain")
    ours = tmp_path / "hub/datasets--me--photos"
    shelf = ours / "snapshots/0123abc"
    (ours / "blobs").mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in plain.rglob("*") if path.is_file())):
        path.rename(ours / f"blobs/{number}")
        link = shelf / path.relative_to(plain)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(os.path.relpath(ours / f"blobs/{number}", link.parent), link)
    file = {"coco": "annotations/captions_val2017.json", "table": "captions.csv", "tar": "00000.tar", "image": "a.png"}
    source = open_source(shelf / file[kind] if alone else shelf, caption="x" if kind == "image" else None)
    entries = list(source)
    assert len(entries) == {"image": 1, "tar": 8 if alone else 14}.get(kind, 14)
    assert all(isinstance(entry, Sample) for entry in entries), entries
    assert list(reopen(source.plain())) == entries
    for entry in entries:
        entry.ref.open().close()

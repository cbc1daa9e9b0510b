"""COCO files, tables and tars that mean harm or are half broken: what is good is read, the rest is named."""

import io
import json
import os
import tarfile
import tracemalloc

import pytest
from layouts import PIXEL, write, write_tar
from PIL import Image

from mmel_cli.data import open_source
from mmel_cli.data.images import ImageLimits, decode
from mmel_cli.data.truth import read_truth
from mmel_cli.errors import RecordError, UsageError
from mmel_cli.types import Failure, Sample


def read(path, **options):
    entries = list(open_source(path, **options))
    failures = {entry.id: entry.error for entry in entries if isinstance(entry, Failure)}
    assert all(error.isprintable() for error in failures.values())
    json.dumps(list(failures), ensure_ascii=False).encode()
    return {entry.id: entry.caption for entry in entries if isinstance(entry, Sample)}, failures


IMAGE = {"id": 1, "file_name": "a.png"}
NOTE = {"id": 1, "image_id": 1, "caption": "fine"}


@pytest.mark.parametrize(
    ("images", "notes", "says"),
    [
        ([{"file_name": "b.png"}], [], "images[1]: has no id"),
        ([{"id": True, "file_name": "b.png"}], [], "images[1]: has no id"),
        ([{"id": [1], "file_name": "b.png"}], [], "images[1]: has no id"),
        ([{"id": 2}], [], "images[1]: has no file_name"),
        ([{"id": 2, "file_name": 5}], [], "images[1]: has no file_name"),
        ([IMAGE], [], "images[1]: id 1 is not unique"),
        ([{"id": 2, "file_name": "b.png"}], [], "no caption"),
        ([{"id": 2, "file_name": "../b.png"}], [{"image_id": 2, "caption": "x"}], "'..'"),
        ([{"id": 2, "file_name": "/etc/b.png"}], [{"image_id": 2, "caption": "x"}], "absolute"),
        ([{"id": 2, "file_name": "http://b.png"}], [{"image_id": 2, "caption": "x"}], "URLs are refused"),
        ([{"id": 2, "file_name": "b\0.png"}], [{"image_id": 2, "caption": "x"}], "no file name in UTF-8"),
        ([{"id": 2, "file_name": "gone.png"}], [{"image_id": 2, "caption": "x"}], "does not exist"),
        ([{"id": 2, "file_name": "n" * 5000}], [{"image_id": 2, "caption": "x"}], "cannot be resolved"),
        ([{"id": 2, "file_name": "out.png"}], [{"image_id": 2, "caption": "x"}], "leads out"),
        ([], ["x"], "annotations[1]: has no image_id"),
        ([], [{"caption": "x"}], "annotations[1]: has no image_id"),
        ([], [{"image_id": [1], "caption": "x"}], "annotations[1]: has no image_id"),
        ([], [{"image_id": "1", "caption": "x"}], "image_id '1' is of no image"),
        ([], [{"id": 1, "image_id": 1, "caption": "x"}], "annotations[1]: id 1 is not unique"),
        ([], [{"image_id": 1}], "no caption: c.json, annotations[1]"),
        ([], [{"image_id": 1, "caption": ["x"]}], "is list, not text"),
        ([], [{"image_id": 1, "caption": "x\0"}], "NUL"),
        ([], [{"image_id": 1, "caption": "\ud800"}], "surrogate"),
        ([], [{"image_id": 1, "caption": "x" * 10_000_000}], "over 100000 bytes"),
        ([], [{"image_id": 1, "caption": "x", "bbox": [1, 2]}], "bbox must be"),
        ([], [{"image_id": 1, "caption": "x", "bbox": [1, 2, -3, 4]}], "wrong order"),
        ([], [{"image_id": 1, "caption": "x", "bbox": [0, 0, float("nan"), 1]}], "not finite"),
    ],
    ids=lambda value: None if isinstance(value, str) else "entry",
)
def test_a_bad_entry_of_a_coco_file_costs_only_itself(tmp_path, images, notes, says):
    write(tmp_path / "out.png")
    root = tmp_path / "r"
    write(root / "a.png")
    os.symlink(tmp_path / "out.png", root / "out.png")
    write(root / "c.json", {"images": [IMAGE, *images], "annotations": [NOTE, *notes]})
    good, bad = read(root)
    assert good == {"a.png#0": "fine"}
    assert len(bad) == 1
    assert says in next(iter(bad.values()))


def test_two_images_of_one_id_lose_its_captions_and_no_others(tmp_path):
    for name in "abz":
        write(tmp_path / f"{name}.png")
    images = [IMAGE, {"id": 1, "file_name": "b.png"}, {"id": 2, "file_name": "z.png"}]
    write(tmp_path / "c.json", {"images": images, "annotations": [NOTE, {"image_id": 2, "caption": "z"}]})
    good, bad = read(tmp_path)
    assert good == {"z.png#0": "z"}
    assert {"c.json, images[1]: id 1 is not unique", "c.json, annotations[0]: image_id 1 is of several images"} < set(
        bad.values()
    )


def test_a_byte_that_is_not_utf8_costs_its_caption_only(tmp_path):
    write(tmp_path / "a.png")
    text = json.dumps({"images": [IMAGE], "annotations": [NOTE, {"image_id": 1, "caption": "caf?"}]})
    write(tmp_path / "c.json", b"\xef\xbb\xbf" + text.encode().replace(b"?", b"\xe9"))
    good, bad = read(tmp_path)
    assert good == {"a.png#0": "fine"}
    assert "not UTF-8" in bad["a.png#1"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"a.png,caf\xe9", "not UTF-8"),
        (b"a.png,a\0b", "NUL"),
        (b"a.png", "another number of fields"),
        (b"a.png,x,y", "another number of fields"),
        (b'a.png,"x"y', "line 2: is not CSV"),
        (b",x", "no image"),
        (b"a.png,", "no caption"),
        (b"a.png," + b"x" * 10_000_000, "over 100000 bytes"),
        (b"../a.png,x", "'..'"),
        (b"/etc/passwd,x", "absolute"),
        (b"=HYPERLINK(1),x", "does not exist"),
        (b"gone.png,x", "does not exist"),
        (b"\x1b[2J.png,x", r"\x1b[2J"),
    ],
    ids=range(13),
)
def test_a_bad_row_of_a_table_costs_only_itself(tmp_path, line, says):
    for name in "az":
        write(tmp_path / f"{name}.png")
    write(tmp_path / "t.csv", b"image,caption\r\n" + line + b'\r\nz.png,"two\r\nlines, ""quoted"""\r\nz.png,=1+1\r\n')
    good, bad = read(tmp_path)
    assert good == {"z.png#0": 'two\r\nlines, "quoted"', "z.png#1": "=1+1"}
    assert says in next(iter(bad.values()))


def test_duplicate_rows_are_records_of_their_own_and_given_ids_must_differ(tmp_path):
    write(tmp_path / "a.png")
    write(tmp_path / "t.tsv", "image\tcaption\tid\na.png\tx\t\na.png\tx\t\na.png\tx\tme\na.png\ty\tme\n")
    good, bad = read(tmp_path)
    assert good == {"a.png#0": "x", "a.png#1": "x", "me": "x"}
    assert "not unique" in bad["me"]


def test_a_quote_that_never_closes_says_how_much_it_took(tmp_path):
    write(tmp_path / "a.png")
    write(tmp_path / "t.csv", 'image,caption\na.png,fine\na.png,"open\na.png,x\na.png,y\n')
    good, bad = read(tmp_path)
    assert good == {"a.png#0": "fine"}
    assert "t.csv, line 3 to 5: is not CSV" in bad["t.csv, line 3"]


def test_masks_and_boxes_of_a_table_are_found_beside_it_or_its_images(tmp_path):
    Image.new("L", (4, 4), 255).save(write(tmp_path / "images/m.png"))
    for name in ("images/a.png", "masks/a.png"):
        write(tmp_path / name)
    rows = ["a.png|x|masks/a.png|", "a.png|y|m.png|", "a.png|z||[[0, 0, 2, 4]]", "a.png|w||[[0, 0, 2"]
    write(tmp_path / "t.csv", "\n".join(["image|caption|mask|boxes", *rows]))
    first, second, third, fourth = open_source(tmp_path)
    assert not read_truth(first, (4, 4)).any()
    assert read_truth(second, (4, 4)).all()
    assert read_truth(third, (4, 4)).sum() == 8
    assert "boxes must be" in fourth.error


def test_a_long_table_is_streamed(tmp_path):
    write(tmp_path / "a.png")
    rows = 3_000
    write(tmp_path / "t.csv", "image,caption\n" + "".join(f"a.png,{n:1000}\n" for n in range(rows)))
    source = open_source(tmp_path)
    tracemalloc.start()
    entries = iter(source)
    next(entries)
    before = tracemalloc.get_traced_memory()[0]
    assert sum(isinstance(entry, Sample) for entry in entries) == rows - 1
    grown = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert grown / rows < 250  # bytes a row at the peak, of captions with 1000


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([("../b.png", PIXEL)], "'..'"),
        ([("/etc/b.png", PIXEL)], "absolute"),
        ([special("b.png", tarfile.SYMTYPE, "/etc/passwd")], "is a link in the shard; refused"),
        ([special("b.png", tarfile.LNKTYPE, "a.png")], "is a link in the shard; refused"),
        ([special("b.png", tarfile.FIFOTYPE)], "is a special file"),
        ([special("b.png", tarfile.CHRTYPE)], "is a special file"),
        ([("b\udce9.png", PIXEL)], "no file name in UTF-8"),
        ([("b.png", PIXEL)], "no caption: no .caption or .txt or .json of the key b"),
        ([("b.txt", b"alone")], "has no image but .txt"),
        ([("b.heic", b"?"), ("b.txt", b"x")], "has no image but .heic, .txt"),
        ([("b.png", PIXEL), ("b.txt", b"")], "no caption"),
        ([("b.png", PIXEL), ("b.txt", b"\xff\xfe")], "not UTF-8"),
        ([("b.png", PIXEL), ("b.txt", b"a\0b")], "NUL"),
        ([("b.png", PIXEL), ("b.txt", b"x" * 10_000_000)], "over 100000 bytes"),
        ([("b.png", PIXEL), ("b.json", b"{")], "is not JSON"),
        ([("b.png", PIXEL), ("b.json", b"[" * 100_000)], "is not JSON"),
        ([("b.png", PIXEL), ("b.json", b"[]")], "is not a JSON object"),
        ([("b.png", PIXEL), ("b.json", b'{"caption": null}')], "no caption"),
        ([("b.png", PIXEL), ("b.json", b'{"caption": "x", "boxes": 5}')], "boxes must be"),
        ([("b.png", PIXEL), ("b.json", b'{"caption": "' + b"x" * 2_000_000)], "bytes of JSON, over"),
        ([("b.png", PIXEL), ("b.png", PIXEL), ("b.txt", b"x")], "members of the same name"),
        ([("y.png", PIXEL), ("y.txt", b"why"), ("a.txt", b"x")], "do not follow each other"),
    ],
    ids=range(22),
)
def test_a_bad_member_costs_only_its_key(tmp_path, members, says):
    good = [("a.png", PIXEL), ("a.txt", b"fine")]
    write_tar(tmp_path / "0.tar", [*good, *members, ("z/z.png", PIXEL), ("z/z.txt", b"too")])
    found, failed = read(tmp_path)
    assert {key: text for key, text in found.items() if "y.png" not in key} == {
        "0.tar/a.png#0": "fine",
        "0.tar/z/z.png#0": "too",
    }
    assert len(failed) == 1
    assert says in next(iter(failed.values()))


def test_what_is_none_of_a_shards_business_is_passed_over(tmp_path):
    members = [("./a.png", PIXEL), ("./a.txt", b"\xef\xbb\xbffine\r\nmore"), ("._a.png", b"mac"), ("README.md", b"x")]
    write_tar(tmp_path / "0.tar", [special(".", tarfile.DIRTYPE), *members, ("a.depth.png", PIXEL)])
    found, failed = read(tmp_path)
    assert failed == {"0.tar/a": "0.tar/a: its members do not follow each other; sort the names in the tar"}
    assert found == {"0.tar/a.png#0": "fine"}


def test_names_with_dots_keep_their_own_captions(tmp_path):
    members = [
        (f"IMG.{n}.{kind}", PIXEL if kind == "png" else f"number {n}".encode())
        for n in (1, 2)
        for kind in ("png", "txt")
    ]
    write_tar(tmp_path / "0.tar", [*members, ("s.png", PIXEL), ("s.depth.png", PIXEL), ("s.caption", b"one image")])
    found, failed = read(tmp_path)
    assert not failed
    assert found == {"0.tar/IMG.1.png#0": "number 1", "0.tar/IMG.2.png#0": "number 2", "0.tar/s.png#0": "one image"}


def test_a_column_of_json_members_is_what_is_read(tmp_path):
    note = json.dumps({"caption": "short", "alt": ["long", "longer"]}).encode()
    write_tar(tmp_path / "0.tar", [("a.png", PIXEL), ("a.json", note), ("a.txt", b"text")])
    assert read(tmp_path)[0] == {"0.tar/a.png#0": "text"}
    assert read(tmp_path, caption_column="alt")[0] == {"0.tar/a.png#0": "long", "0.tar/a.png#1": "longer"}
    assert "no column 'other'" in read(tmp_path, caption_column="other")[1]["0.tar/a.png#0"]


def test_a_shard_that_is_cut_anywhere_gives_its_whole_keys_and_is_named(tmp_path):
    members = [(f"{n}.{kind}", PIXEL if kind == "png" else b"text") for n in range(4) for kind in ("png", "txt")]
    path = write_tar(tmp_path / "0.tar", members)
    whole, content = read(tmp_path)[0], path.read_bytes()
    end = len(content.rstrip(b"\0")) // 512 * 512 + 512
    for cut in (*range(2048, end, 170), end, end + 100):
        path.write_bytes(content[:cut])
        found, failed = read(tmp_path)
        assert list(found.items()) == list(whole.items())[: len(found)]
        assert len(found) >= cut // 2048 - 1
        assert "write the shard again" in failed["0.tar"], cut
    path.write_bytes(content[: end + 512])  # one block of zeros is an end too
    assert read(tmp_path) == (whole, {})


def test_damage_and_joined_tars_are_never_taken_for_the_end(tmp_path):
    path = write_tar(
        tmp_path / "0.tar", [(f"{n}.{k}", PIXEL if k == "png" else b"x") for n in range(3) for k in ("png", "txt")]
    )
    content = path.read_bytes()
    path.write_bytes(content + content)
    assert "goes on after its end mark" in read(tmp_path)[1]["0.tar"]
    damaged = bytearray(content)
    damaged[2048 + 5] ^= 0xFF  # the header of the second image
    path.write_bytes(damaged)
    found, failed = read(tmp_path)
    assert not found  # the first key may lack members
    assert "is damaged at byte 2048" in failed["0.tar"]


def test_headers_that_ask_for_memory_or_run_in_circles_end_the_shard(tmp_path):
    def header(kind, size, name="x"):
        info = tarfile.TarInfo(name)
        info.type, info.size = kind, size
        return info.tobuf(tarfile.GNU_FORMAT)

    start = write_tar(tmp_path / "0.tar", [("a.png", PIXEL), ("a.txt", b"x"), ("b.png", PIXEL), ("b.txt", b"x")])
    good = start.read_bytes().rstrip(b"\0")
    good += bytes(-len(good) % 512)
    backwards = bytearray(header(tarfile.REGTYPE, 0, "c.png"))
    backwards[124:136] = b"\xff" + (-4096).to_bytes(11, "big", signed=True)  # a negative size in base 256
    backwards[148:156] = b" " * 8
    backwards[148:156] = f"{sum(backwards):06o}\0 ".encode()
    for hostile in (
        header(tarfile.GNUTYPE_LONGNAME, 1 << 33),
        header(tarfile.XHDTYPE, 1 << 33),
        header(tarfile.XGLTYPE, 1 << 33),
        bytes(backwards),
    ):
        start.write_bytes(good + hostile + bytes(4096))
        found, failed = read(tmp_path)
        assert found == {"0.tar/a.png#0": "x"}
        assert set(failed) == {"0.tar", "0.tar/b"}


def test_a_huge_member_is_refused_before_it_is_read(tmp_path):
    size = 3 << 30
    info = tarfile.TarInfo("a.png")
    info.size = size
    with (tmp_path / "0.tar").open("wb") as file:  # a hole, no bytes on the disk
        file.write(info.tobuf())
        file.seek(size, os.SEEK_CUR)
        with io.BytesIO() as rest, tarfile.open(fileobj=rest, mode="w") as tar:
            text = tarfile.TarInfo("a.txt")
            text.size = 1
            tar.addfile(text, io.BytesIO(b"x"))
            tar.close()
            file.write(rest.getvalue())
    (sample,) = open_source(tmp_path)
    with pytest.raises(RecordError, match=r"0\.tar/a\.png: is 3221225472 bytes, over image\.limits\.max_bytes"):
        decode(sample.ref)


def test_a_member_is_the_same_bytes_until_its_shard_changes(tmp_path):
    wide = io.BytesIO()
    Image.new("RGB", (6, 5), "red").save(wide, "PNG")
    path = write_tar(
        tmp_path / "0.tar", [("a.png", wide.getvalue()), ("a.txt", b"x"), ("b.png", PIXEL), ("b.txt", b"y")]
    )
    first, second = open_source(path)
    assert decode(first.ref).size == (6, 5)
    assert decode(second.ref, ImageLimits()).size == (4, 4)
    with first.ref.open() as file:
        assert file.read() == wide.getvalue()
        assert (file.seek(-3, os.SEEK_END), file.read(), file.read()) == (
            len(wide.getvalue()) - 3,
            wide.getvalue()[-3:],
            b"",
        )
    write_tar(path, [("b.png", PIXEL), ("b.txt", b"y"), ("a.png", wide.getvalue()), ("a.txt", b"x")])
    os.utime(path, ns=(1, 1))
    with pytest.raises(RecordError, match="its shard has changed"):
        decode(first.ref)


def test_one_bad_shard_does_not_stop_the_others(tmp_path):
    write(tmp_path / "0.tar", b"nothing of a tar" * 100)
    write(tmp_path / "1.tar", b"\x1f\x8b packed")
    write(tmp_path / "2.tar.gz", b"\x1f\x8b packed")
    os.symlink("/etc/passwd", tmp_path / "3.tar")
    os.mkfifo(tmp_path / "4.tar")
    write_tar(tmp_path / "5/5.tar", [("a.png", PIXEL), ("a.txt", b"x")])
    found, failed = read(tmp_path)
    assert found == {"5/5.tar/a.png#0": "x"}
    assert set(failed) == {"0.tar", "1.tar", "2.tar.gz", "3.tar", "4.tar"}


def test_a_pickle_is_never_opened(tmp_path):
    payload = b"cos\nsystem\n(S'touch " + os.fsencode(tmp_path / "owned") + b"'\ntR."
    write_tar(tmp_path / "0.tar", [("a.png", PIXEL), ("a.pyd", payload), ("a.pkl", payload), ("a.txt", b"x")])
    source = open_source(tmp_path)
    assert "ignored: .pkl, .pyd (never unpickled)" in source.layout
    assert len(list(source)) == 1
    assert not (tmp_path / "owned").exists()


def test_pipes_in_a_folder_are_never_opened(tmp_path):
    write(tmp_path / "a.png")
    for name in ("t.csv", "c.json", "0.tar"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(UsageError, match="is no regular file; refused"):
        open_source(tmp_path)

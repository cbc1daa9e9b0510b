"""Input that means harm, or looks as if it did: one failure each, and the run goes on."""

import inspect
import json
import os
import struct
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmel_cli.data import open_source
from mmel_cli.data.images import decode, read_mask
from mmel_cli.data.paths import file_ref, walk
from mmel_cli.data.scenes.captions import captions_of
from mmel_cli.data.scenes.folder import write_scenes
from mmel_cli.data.scenes.paint import paint
from mmel_cli.data.scenes.sample import sample_scene
from mmel_cli.errors import RecordError, UsageError
from mmel_cli.types import Failure, Sample


def picture(path, image=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or Image.new("RGB", (4, 4))).save(path)


def jsonl(folder, *rows):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def read(path, **options):
    entries = list(open_source(path, **options))
    good = {e.id: e.caption for e in entries if isinstance(e, Sample)}
    return good, [e for e in entries if isinstance(e, Failure)]


@pytest.fixture
def two(tmp_path):
    """Two images, of which the second has a good row in every test."""
    for name in "az":
        picture(tmp_path / f"{name}.png")
    return tmp_path


GOOD = {"file_name": "z.png", "text": "fine"}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('{"file_name": "a.png", "text": "x", "boxes": [[0, 0, 1, 1' + "0" * 400 + "]]}", "boxes must be"),
        ({"file_name": "a.png", "text": "x", "boxes": "[" * 100_000}, "boxes must be"),
        ({"file_name": "a.png", "text": "x", "boxes": ["1256"]}, "boxes must be"),
        ("[" * 100_000, "not a JSON object"),
        ({"file_name": "a.png", "text": "x", "id": [1]}, "id is list"),
        ({"file_name": "a.png", "text": "x", "id": "\ud800"}, "id is not UTF-8"),
        ({"file_name": "\ud800.png", "text": "x"}, "UTF-8"),
        ({"file_name": "n" * 5000 + ".png", "text": "x"}, "cannot be resolved"),
        ({"file_name": "../\x1b[2J\n.png", "text": "x"}, r"\x1b[2J\n"),
        ({"file_name": "..\\out.png", "text": "x"}, "'..'"),
        ({"file_name": ["a.png"], "text": "x"}, "not a path"),
        ({"file_name": "a.png", "text": "", "title": "IMG_0001"}, "no caption"),
    ],
    ids=lambda value: None if isinstance(value, str) and len(value) < 40 else "row",
)
def test_a_hostile_row_costs_only_itself(two, row, says):
    jsonl(two, row, GOOD)
    good, bad = read(two)
    assert good == {"z.png#0": "fine"}
    assert says in bad[0].error
    assert bad[0].error.isprintable()
    json.dumps([failure.id for failure in bad], ensure_ascii=False).encode()


@pytest.mark.parametrize("line", [b"a.png,caf\xe9", b'a.png,"x"y', b"a.png,one,two", b"a.png"])
def test_a_bad_csv_row_costs_only_itself(two, line):
    (two / "metadata.csv").write_bytes(b"file_name,text\n" + line + b"\nz.png,fine\n")
    good, bad = read(two)
    assert good == {"z.png#0": "fine"}
    assert "metadata.csv, line 2" in bad[0].error


def test_an_open_quote_never_becomes_a_caption(two):
    (two / "metadata.csv").write_text('file_name,text\nz.png,fine\na.png,"one\nb.png,two\n')
    assert read(two)[0] == {"z.png#0": "fine"}


def test_any_row_may_bring_the_columns(two):
    picture(two / "s/b.png")
    jsonl(two, {"file_name": "a.png"}, GOOD)
    jsonl(two / "s", {"file_name": "b.png", "alt": "there"})
    assert read(two)[0] == {"z.png#0": "fine"}
    assert read(two, caption_column="alt")[0] == {"s/b.png#0": "there"}


def test_windows_separators_name_the_same_record(tmp_path):
    picture(tmp_path / "s/a.png")
    jsonl(tmp_path, {"file_name": "s\\a.png", "text": "x"})
    assert read(tmp_path) == ({"s/a.png#0": "x"}, [])


def test_file_names_at_the_edge(tmp_path):
    for name in ("x" * 251 + ".png", "a\\b.png", "z.png"):
        picture(tmp_path / name)
    for name in ("a\\b.txt", "z.txt"):
        (tmp_path / name).write_text("fine")
    raw = os.fsencode(tmp_path) + b"/\xe9.png"
    Path(os.fsdecode(raw)).write_bytes((tmp_path / "z.png").read_bytes())
    good, bad = read(tmp_path)
    assert good == {"a\\b.png#0": "fine", "z.png#0": "fine"}
    assert sorted(failure.error[:10] for failure in bad) == ["'\\\\udce9.p", "no caption"]
    json.dumps([failure.id for failure in bad], ensure_ascii=False).encode()


def test_links_and_pipes_are_never_opened(tmp_path):
    picture(tmp_path / "out/a.png")
    (tmp_path / "out/a.txt").write_text("secret")
    picture(tmp_path / "in/z.png")
    (tmp_path / "in/z.txt").write_text("fine")
    (tmp_path / "in/folder").symlink_to(tmp_path / "out")
    (tmp_path / "in/self").symlink_to(tmp_path / "in")
    for name, make in (
        ("b", lambda path: path.symlink_to(tmp_path / "out/a.txt")),
        ("c", os.mkfifo),
        ("d", lambda path: path.symlink_to(path)),
    ):
        picture(tmp_path / f"in/{name}.png")
        make(tmp_path / f"in/{name}.txt")
    good, bad = read(tmp_path / "in")
    assert good == {"z.png#0": "fine"}
    assert {failure.id for failure in bad} == {"folder", "b.png#0", "c.png#0", "d.png#0"}


@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_metadata_must_be_a_file_inside(tmp_path, kind):
    picture(tmp_path / "in/a.png")
    (tmp_path / "secret").write_text("file_name,root:x:0:0\n")
    target = tmp_path / "in/metadata.csv"
    if kind == "fifo":
        os.mkfifo(target)
    else:
        target.symlink_to(tmp_path / "secret")
    with pytest.raises(UsageError, match="refused") as caught:
        open_source(tmp_path / "in")
    assert "root:x" not in str(caught.value)


def test_inputs_that_are_neither_image_nor_folder(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "metadata.csv").write_text("filepath,text\na.png,x\n")
    (tmp_path / "notes.md").write_text("nothing")
    picture(tmp_path / "a.png")
    for path, options, says in (
        (tmp_path / "pipe", {"caption": "x"}, "neither"),
        (tmp_path / ("n" * 300), {}, "cannot be opened"),
        (tmp_path / "metadata.csv", {}, "name that of images with --image-column"),
        (tmp_path / "metadata.csv", {"caption": "x"}, "one image"),
        (tmp_path / "notes.md", {}, "folder that holds it"),
        (tmp_path / "a.png", {"caption": "x", "caption_column": "text"}, "--caption TEXT"),
        (tmp_path / "a.png", {"caption": " "}, "no caption"),
        (tmp_path, {}, "no column file_name"),
    ):
        with pytest.raises(UsageError, match=says):
            open_source(path, **options)


def test_folders_deeper_than_the_stack(tmp_path):
    depth = 150  # and a low limit: a tree deeper than the usual one could not be removed again
    leaf = tmp_path / ("d/" * depth + "leaf")
    leaf.parent.mkdir(parents=True)
    leaf.touch()
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        found = list(walk(tmp_path))
    finally:
        sys.setrecursionlimit(usual)
    assert found == ["d/" * depth + "leaf"]


def test_a_pipe_does_not_block_decoding(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(RecordError, match=r"a\.jpg: is no regular file"):
        decode(file_ref(tmp_path / "a.jpg"))


def fault_of(path):
    try:
        decode(file_ref(path))
    except RecordError as error:
        return error
    return None


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000"])
def test_damage_is_never_another_exception(tmp_path, form):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8))
    noise.save(tmp_path / "whole", form)
    whole = np.frombuffer((tmp_path / "whole").read_bytes(), np.uint8)
    for round_ in range(150):
        data = whole.copy()
        data[rng.integers(0, len(data) if round_ % 2 else min(len(data), 200), 4)] = rng.integers(0, 255, 4)
        (tmp_path / "bad.jpg").write_bytes(data[: rng.integers(1, len(data)) if round_ % 5 == 0 else None].tobytes())
        fault = fault_of(tmp_path / "bad.jpg")
        assert fault is None or (fault.stage == "image" and "bad.jpg" in str(fault) and str(fault).isprintable())


def test_floating_point_error_names_the_file(tmp_path):
    picture(tmp_path / "f.tif", Image.fromarray(np.ones((4, 4), np.float32)))
    with pytest.raises(RecordError, match=r"f\.tif: floating-point"):
        decode(file_ref(tmp_path / "f.tif"))


def test_modes_beyond_png(tmp_path):
    for name, image in {
        "lab.tif": Image.new("LAB", (4, 4), (255, 128, 128)),
        "cmyk.jpg": Image.new("CMYK", (4, 4), (0, 0, 0, 0)),
        "wide.tif": Image.fromarray(np.full((4, 4), 65535, np.int32)),
        "la.png": Image.new("LA", (4, 4), (9, 0)),
    }.items():
        picture(tmp_path / name, image)
        assert min(decode(file_ref(tmp_path / name)).getpixel((1, 1))) >= 250, name
    levels = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    picture(tmp_path / "levels.png", Image.fromarray(levels))
    assert np.asarray(decode(file_ref(tmp_path / "levels.png")))[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("suffix", ["jpg", "tif", "png", "webp"])
def test_orientation_is_applied_once(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / f"a.{suffix}", exif=exif)
    image = decode(file_ref(tmp_path / f"a.{suffix}"))
    assert image.size == (20, 40)
    assert image.getexif().get(0x0112, 1) == 1


def test_a_broken_exif_block_does_not_matter(tmp_path):
    beyond = struct.pack("<2sHIHHHII", b"II", 42, 8, 1, 0x0112, 3, 5000, 10**6)
    for block in (b"Exif\0\0" + beyond, b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"):
        Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=block)
        assert decode(file_ref(tmp_path / "a.jpg")).size == (40, 20)


def test_decoding_in_threads_leaves_warnings_alone(tmp_path):
    picture(tmp_path / "a.png")
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [decode(file_ref(tmp_path / "a.png")) for _ in range(200)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


@pytest.mark.parametrize("kind", ["L", "1", "16 bit", "32 bit", "RGB", "RGBA", "palette", "inverted palette"])
def test_masks_of_every_mode(tmp_path, kind):
    inside = np.zeros((4, 6), bool)
    inside[1, 2] = True
    grey = Image.fromarray(inside.astype(np.uint8))
    hidden = np.full((4, 6, 4), 255, np.uint8)
    hidden[..., 3] = inside * 255  # white everywhere, but transparent outside
    image = {
        "L": grey,
        "1": Image.fromarray(inside),
        "16 bit": Image.fromarray(inside.astype(np.uint16) * 5),
        "32 bit": Image.fromarray(inside.astype(np.int32) * 70000),
        "RGB": Image.merge("RGB", (Image.new("L", (6, 4)), Image.new("L", (6, 4)), grey)),
        "RGBA": Image.fromarray(hidden),
    }.get(kind)
    if image is None:
        image = Image.fromarray((inside if kind == "palette" else ~inside).astype(np.uint8))
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette([0, 0, 0, 128, 0, 0] if kind == "palette" else [255, 255, 255, 0, 0, 0])
    name = "m.tif" if kind == "32 bit" else "m.png"
    image.save(tmp_path / name, **({"transparency": 0} if kind == "palette" else {}))
    assert np.array_equal(read_mask(file_ref(tmp_path / name), (4, 6)), inside)


def test_scenes_are_exactly_what_paint_shows(tmp_path):
    write_scenes(tmp_path, 4, 9, side=64)
    rows = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    for index in range(4):
        scene = sample_scene(9, "test", index)
        said = captions_of(scene, np.random.default_rng([9, 2, 1, index]))
        mine = [row for row in rows if row["file_name"] == f"images/{index:06}.png"]
        assert [row["text"] for row in mine] == [caption.text for caption in said]
        pixels, visible = paint([scene], 64)
        stored = np.asarray(Image.open(tmp_path / mine[0]["file_name"]))
        assert np.array_equal(stored, pixels[0].mul(255).round().byte().permute(1, 2, 0).numpy())
        for caption, row in zip(said, mine, strict=True):
            named = list(caption.about(scene))
            assert np.array_equal(
                read_mask(file_ref(tmp_path / row["mask"]), (64, 64)), visible[0, named].any(0).numpy()
            )
            tight = [np.nonzero(visible[0, k].numpy()) for k in named if visible[0, k].any()]
            assert row["boxes"] == [[min(x), min(y), max(x) + 1, max(y) + 1] for y, x in tight]
            assert (row["objects"], row["kind"], row["split"]) == (len(scene.objects), caption.kind, "test")
            assert row["held_out"] == any(scene.objects[k].held_out for k in named)


def test_half_a_scenes_folder_is_finished_and_never_looks_whole(tmp_path, monkeypatch):
    write_scenes(tmp_path / "whole", 3, 1, side=32)
    whole = {p.relative_to(tmp_path / "whole"): p.read_bytes() for p in (tmp_path / "whole").rglob("*.*")}
    saved = []

    def die(image, *arguments, **options):
        saved.append(image)
        if len(saved) == 4:
            raise KeyboardInterrupt
        return save(image, *arguments, **options)

    save = Image.Image.save
    for folder in ("new", "whole"):  # a first run, and a run again over a whole set
        saved.clear()
        monkeypatch.setattr(Image.Image, "save", die)
        with pytest.raises(KeyboardInterrupt):
            write_scenes(tmp_path / folder, 3, 1, side=32)
        monkeypatch.setattr(Image.Image, "save", save)
        assert not (tmp_path / folder / "metadata.jsonl").exists()
        write_scenes(tmp_path / folder, 3, 1, side=32)
        again = {p.relative_to(tmp_path / folder): p.read_bytes() for p in (tmp_path / folder).rglob("*.*")}
        assert again == whole


@pytest.mark.parametrize("change", [{"split": "dev"}, {"seed": -1}, {"count": 0}])
def test_scene_parameters_are_checked(tmp_path, change):
    arguments = {"count": 1, "seed": 0, "split": "test"} | change
    with pytest.raises(UsageError):
        write_scenes(tmp_path / "s", arguments["count"], arguments["seed"], split=arguments["split"], side=32)
    assert not (tmp_path / "s").exists()


def test_a_foreign_mark_is_refused(tmp_path):
    (tmp_path / "scenes.json").write_text("not JSON")
    with pytest.raises(UsageError, match="new folder"):
        write_scenes(tmp_path, 1, 0)

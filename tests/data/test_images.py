"""Decoding: every mode, every orientation, and every way a file can be bad."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mmel_cli.data.images import ImageLimits, decode, read_mask
from mmel_cli.data.paths import file_ref
from mmel_cli.errors import RecordError

GREY = 128


def png_header(width, height):
    """A PNG that declares a size and holds no such data."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    data = zlib.compress(b"\0" * min(10**6, (width + 1) * height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("image", "name", "expected"),
    [
        (Image.new("1", (8, 6), 1), "a.png", (255, 255, 255)),
        (Image.new("L", (8, 6), GREY), "a.png", (GREY, GREY, GREY)),
        (Image.new("LA", (8, 6), (0, 0)), "a.png", (255, 255, 255)),
        (Image.new("RGBA", (8, 6), (255, 0, 0, 0)), "a.png", (255, 255, 255)),
        (Image.new("RGBA", (8, 6), (255, 0, 0, 128)), "a.png", (255, 127, 127)),
        (Image.new("RGB", (8, 6), (1, 2, 3)).convert("P"), "a.png", None),
        (Image.new("CMYK", (8, 6), (0, 0, 0, 0)), "a.tif", (255, 255, 255)),
        (Image.fromarray(np.full((6, 8), 0x8000, np.uint16)), "a.png", (GREY, GREY, GREY)),
        (Image.fromarray(np.full((6, 8), 65535, np.uint16)), "a.tif", (255, 255, 255)),
    ],
    ids=lambda value: getattr(value, "mode", value) if not isinstance(value, tuple) else "",
)
def test_every_mode_becomes_rgb(tmp_path, image, name, expected):
    image.save(tmp_path / name)
    found = decode(file_ref(tmp_path / name))
    assert found.mode == "RGB"
    assert found.size == (8, 6)
    if expected:
        assert np.abs(np.array(found.getpixel((3, 3))) - expected).max() <= 1


def test_transparent_palette_goes_over_white(tmp_path):
    image = Image.new("P", (8, 6), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(tmp_path / "a.png", transparency=0)
    assert decode(file_ref(tmp_path / "a.png")).getpixel((2, 2)) == (255, 255, 255)


def test_floating_point_is_refused(tmp_path):
    Image.fromarray(np.ones((6, 8), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(RecordError, match="floating-point"):
        decode(file_ref(tmp_path / "a.tif"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = Image.new("RGB", (40, 20), "black")
    upright.paste("red", (0, 0, 12, 8))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the Transpose that stores it turned
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    found = decode(file_ref(tmp_path / "a.jpg"))
    assert found.size == (40, 20)
    assert found.getpixel((4, 3))[0] > 200
    assert found.getpixel((36, 17))[0] < 60


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert decode(file_ref(tmp_path / "a.gif")).getpixel((4, 4)) == (255, 0, 0)


def test_one_pixel_is_an_image(tmp_path):
    Image.new("RGB", (1, 1), "blue").save(tmp_path / "a.png")
    assert decode(file_ref(tmp_path / "a.png")).size == (1, 1)


def jpeg(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    return (tmp_path / "whole.jpg").read_bytes()


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("empty.jpg", lambda _: b"", "is empty"),
        ("page.jpg", lambda _: b"<html><body>404</body></html>", "no image"),
        ("early.jpg", lambda p: jpeg(p)[: len(jpeg(p)) // 100], "early.jpg"),
        ("half.jpg", lambda p: jpeg(p)[: len(jpeg(p)) // 2], "cannot be decoded"),
        ("late.jpg", lambda p: jpeg(p)[:-40], "cannot be decoded"),
        ("thin.png", lambda _: png_header(1, 65000), "max_aspect"),
        ("huge.png", lambda _: png_header(20000, 10000), "pixels"),
        ("script.jpg", lambda _: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "no image"),
    ],
)
def test_bad_files_are_one_line_that_names_them(tmp_path, name, make, says):
    (tmp_path / name).write_bytes(make(tmp_path))
    with pytest.raises(RecordError, match=says) as caught:
        decode(file_ref(tmp_path / name))
    assert caught.value.stage == "image"
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_flipped_png_data_is_refused(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(RecordError):
        decode(file_ref(tmp_path / "a.png"))


def test_limits_are_settings(tmp_path):
    Image.new("RGB", (50, 10)).save(tmp_path / "a.png")
    for limits in (ImageLimits(max_pixels=499), ImageLimits(max_aspect=4.9), ImageLimits(max_bytes=10)):
        with pytest.raises(RecordError, match=r"image\.limits"):
            decode(file_ref(tmp_path / "a.png"), limits)
    assert decode(file_ref(tmp_path / "a.png"), ImageLimits(500, 5.0)).size == (50, 10)


def test_masks_must_fit_their_image(tmp_path):
    mask = np.zeros((6, 8), np.uint8)
    mask[2, 3] = 1
    Image.fromarray(mask).save(tmp_path / "m.png")
    assert np.argwhere(read_mask(file_ref(tmp_path / "m.png"), (6, 8))).tolist() == [[2, 3]]
    with pytest.raises(RecordError, match="8x6"):
        read_mask(file_ref(tmp_path / "m.png"), (8, 6))

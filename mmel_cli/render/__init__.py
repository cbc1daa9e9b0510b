"""Pictures (numpy and Pillow, no torch)."""

from mmel_cli.render.files import THUMBNAIL_SIDE, save_photo, save_picture
from mmel_cli.render.names import ENDINGS, photo_name, picture_name
from mmel_cli.render.options import BY_PART, HeatmapOptions
from mmel_cli.render.overlay import fit, render, thumbnail
from mmel_cli.render.parts import SHARES, Parts, parts_of
from mmel_cli.render.work import draw, drawable, keep_photo

__all__ = [
    "BY_PART",
    "ENDINGS",
    "SHARES",
    "THUMBNAIL_SIDE",
    "HeatmapOptions",
    "Parts",
    "draw",
    "drawable",
    "fit",
    "keep_photo",
    "parts_of",
    "photo_name",
    "picture_name",
    "render",
    "save_photo",
    "save_picture",
    "thumbnail",
]

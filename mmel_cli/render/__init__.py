"""Pictures and the report (numpy and Pillow, no torch)."""

from mmel_cli.render.names import photo_name, picture_name
from mmel_cli.render.options import BY_PART, HeatmapOptions
from mmel_cli.render.overlay import fit, render, thumbnail
from mmel_cli.render.parts import SHARES, Parts, parts_of
from mmel_cli.render.report import ReportRecord, ReportSummary, write_report

__all__ = [
    "BY_PART",
    "SHARES",
    "HeatmapOptions",
    "Parts",
    "ReportRecord",
    "ReportSummary",
    "fit",
    "parts_of",
    "photo_name",
    "picture_name",
    "render",
    "thumbnail",
    "write_report",
]

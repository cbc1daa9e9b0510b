"""Pictures and the report (numpy and Pillow, no torch)."""

from mmel_cli.render.names import picture_name
from mmel_cli.render.overlay import HeatmapOptions, fit, render, thumbnail
from mmel_cli.render.report import ReportRecord, ReportSummary, write_report

__all__ = [
    "HeatmapOptions",
    "ReportRecord",
    "ReportSummary",
    "fit",
    "picture_name",
    "render",
    "thumbnail",
    "write_report",
]

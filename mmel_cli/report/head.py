"""What the page knows before any record: the runs, what they have, the marks, the colours."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mmel_cli.render import SHARES
from mmel_cli.render.colours import table
from mmel_cli.render.parts import PALETTE
from mmel_cli.render.words import FALLS, RISES
from mmel_cli.report import layout
from mmel_cli.report.run import ReportRun
from mmel_cli.report.scale import scale_of
from mmel_cli.report.scripts import numbers, relative
from mmel_cli.runs.folder import RUN
from mmel_cli.trust import MARKS, RECORD_MARKS, of_run

VERSION = 1
FAILURES = 200  # that are told, at most
BELOW, ABOVE = (33, 102, 172), (178, 24, 43)
"""Ends of the scale of signed values: against the caption, for it."""


def head(runs: Sequence[ReportRun], folder: Path) -> dict[str, Any]:
    """The head of a report of one or more runs in `folder`, without what is known of its records."""
    looks = runs[0].heatmap
    told = [(r, failure) for r, run in enumerate(runs) for failure in run.failures][:FAILURES]
    return {
        "version": VERSION,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "runs": [_run(run, folder) for run in runs],
        "records": len(runs[0].rows),
        "sizes": {"records": layout.RECORDS, "maps": layout.MAPS, "details": layout.DETAILS},
        "marks": {mark.name: {"badge": mark.badge, "says": mark.says, "of": mark.of} for mark in MARKS},
        "mark_names": [mark.name for mark in RECORD_MARKS],
        "failures": [{"run": r, "id": f.id, "stage": f.stage, "error": f.error} for r, f in told],
        "failed": [run.failed for run in runs],
        "colormap": {"name": looks.colormap, "colours": table(looks.colormap).round().astype(int).tolist()},
        "diverging": {"below": BELOW, "above": ABOVE},
        "palette": PALETTE,
        "falls": FALLS,
        "rises": RISES,
        "opacity": looks.opacity,
    }


def _run(run: ReportRun, folder: Path) -> dict[str, Any]:
    info, looks = run.info, run.heatmap
    top = scale_of(run.archive, run.places, looks.percentile)
    scale = numbers(np.array([top.top, top.strongest], np.float32))
    noted = run.path / RUN
    files = run.archive.files if run.archive is not None else []
    words = info.config.get("words")
    phrase = words.get("phrase") if isinstance(words, dict) else None
    return {
        "label": run.label,
        "model": info.model,
        "method": info.method,
        "gradient": info.gradient,
        "trained": info.trained,
        "geometry": info.geometry,
        "grid": list(info.grid),
        "layers": list(info.layers),
        "layer_weights": _layer_weights(info.described.get("layer_weights"), len(info.layers)),
        "layer_fields": run.layer_fields,
        "normalise": {"percentile": looks.percentile},
        "has": run.shows,
        "share_says": SHARES.get(str(phrase or "mean"), SHARES["mean"]),
        "links": {
            "run": relative(noted, folder) if noted.is_file() else None,
            "archive": [relative(path, folder) for path in files],
            "folder": relative(run.path, folder),
        },
        "marks": [mark.name for mark in of_run(info)],
        "scale": {"top": scale[0], "strongest": scale[1]},
    }


def _layer_weights(text: str | None, layers: int) -> list[float] | None:
    """As the method describes itself: numbers apart by spaces."""
    try:
        weights = [float(part) for part in (text or "").split()]
    except ValueError:
        return None
    return weights if len(weights) == layers and all(np.isfinite(weights)) else None

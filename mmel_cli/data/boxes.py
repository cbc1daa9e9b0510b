"""Boxes as rows give them."""

import json
import math
from typing import Any

from mmel_cli.errors import RecordError
from mmel_cli.types import Box


def boxes_in(value: Any, where: str) -> tuple[Box, ...]:
    """[[x0, y0, x1, y1], ...] in pixels, or JSON text of it.

    Raises:
        RecordError: stage "pair", if it is neither, or a box is not finite or turned round.
    """
    if value in (None, ""):
        return ()
    try:
        rows = json.loads(value) if isinstance(value, str) else value
        lists = isinstance(rows, list) and all(isinstance(row, list) for row in rows)  # text would unpack too
        boxes = tuple((float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in rows) if lists else None
    except (ValueError, TypeError, OverflowError, RecursionError):
        boxes = None
    if boxes is None:
        raise RecordError("pair", f"{where}: boxes must be [[x0, y0, x1, y1], ...] in pixels")
    if any(not math.isfinite(n) for box in boxes for n in box) or any(b[2] < b[0] or b[3] < b[1] for b in boxes):
        raise RecordError("pair", f"{where}: a box is not finite or its corners are in the wrong order")
    return boxes

"""Values as the text of a script that nothing in them can leave, and paths as URLs."""

import json
import os
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

_PICTURES = ("photo", "thumb")
_FILLED = "for(const n of['photo','thumb'])c[n]=c[n].map(function(i){return i<0?'':p[i]});"
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def call(name: str, *arguments: Any) -> str:
    """A script that calls a function of the page with plain values.

    ASCII alone, and no <, > or & anywhere: neither `</script>` nor `<!--` nor U+2028 nor half of a surrogate pair can
    stand in it.

    Raises:
        ValueError: for NaN and infinities, which JSON does not have.
    """
    return f"mmel.{name}({_plain(arguments)});\n"


def call_with_pictures(number: int, columns: dict[str, Any], stamp: str) -> str:
    """The call for columns of records whose photos are data: URIs: each stands once, however many captions it has.

    Args:
        number: of the file of records.
        columns: as `call` takes them.
        stamp: of the build.
    """
    pictures = list(dict.fromkeys(picture for name in _PICTURES for picture in columns[name] if picture))
    places = {picture: place for place, picture in enumerate(pictures)}
    numbered = {name: [places.get(picture, -1) for picture in columns[name]] for name in _PICTURES}
    function = f"function(p,c,b){{{_FILLED}mmel.records({number},c,b)}}"
    return f"({function})({_plain((pictures, columns | numbered, stamp))});\n"


def _plain(values: Sequence[Any]) -> str:
    """The arguments of a call."""
    text = ",".join(json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")) for value in values)
    for character, escaped in _ESCAPED.items():
        text = text.replace(character, escaped)
    return text


def numbers(values: np.ndarray) -> list[Any]:
    """Float32 of any shape as nested lists of the shortest numbers that give it again; None for what is not finite."""
    values = np.asarray(values, np.float32)
    if values.ndim > 1:
        return [numbers(row) for row in values]
    return [
        float(text) if finite else None for text, finite in zip(values.astype("U16"), np.isfinite(values), strict=True)
    ]


def packed(values: np.ndarray) -> str:
    """Base64 of little-endian float32, in C order."""
    return b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")


def units(caption: str) -> list[int] | None:
    """The place in UTF-16 units of each character of a text and of its end; None where they are the same."""
    if caption.isascii() or all(character <= "\uffff" for character in caption):
        return None
    places = [0]
    for character in caption:
        places.append(places[-1] + (2 if character > "\uffff" else 1))
    return places


def url(path: str | Path) -> str:
    """A relative path as a URL; a file name need not be text."""
    parts = os.fsencode(path).split(os.sep.encode())
    return "/".join(quote(part, safe="") for part in parts)


def relative(path: Path, folder: Path) -> str:
    """The URL of a file or folder, from a page in `folder`."""
    return url(os.path.relpath(path.resolve(), folder.resolve()))

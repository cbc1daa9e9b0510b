"""A report's data as the page reads them, and its maps as arrays."""

import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_CALL = re.compile(r"mmel\.(\w+)\((.*)\);\n", re.DOTALL)


def arguments(text):
    """The function that a data script calls, and what with."""
    name, given = _CALL.fullmatch(text).groups()
    return name, json.loads(f"[{given}]")


def floats(text, *shape):
    values = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    return values.reshape(shape) if shape else values


def single(value):
    """A number of the data as the float32 that it stands for."""
    return np.float32(np.nan if value is None else value)


@dataclass(frozen=True)
class Report:
    folder: Path

    def load(self, name):
        return arguments((self.folder / "report/data" / name).read_text("ascii"))

    @property
    def head(self):
        return self.load("head.js")[1][0]

    @property
    def files(self):
        return sorted(path.name for path in (self.folder / "report/data").iterdir())

    def column(self, name, run=None):
        values = []
        for file in self.files:
            if file.startswith("records-"):
                _, (k, columns, build) = self.load(file)
                assert build == self.head["build"]
                assert k * 5000 == len(values)
                values += (columns if run is None else columns["runs"][run])[name] or []
        return values

    def maps(self, run, record):
        k, row = divmod(record, 64)
        name, (of, number, chunk, build) = self.load(f"maps-{run}-{k:05}.js")
        assert (name, of, number, build) == ("maps", run, k, self.head["build"])
        shape = (-1, *self.head["runs"][run]["grid"])
        return {name: (floats(v, *shape) if name == "map" else v)[row] for name, v in chunk.items()}

    def details(self, run, record):
        k, row = divmod(record, 8)
        name, (of, number, chunk, build) = self.load(f"details-{run}-{k:05}.js")
        assert (name, of, number, build) == ("details", run, k, self.head["build"])
        about = self.head["runs"][run]
        grid, depth = about["grid"], len(about["layers"])
        layers = {name: floats(text, -1, depth, *grid)[row] for name, text in chunk["layers"].items()}
        words, phrases = (
            None if chunk[name][row] is None else floats(chunk[name][row], -1, *grid) for name in ("words", "phrases")
        )
        return {"layers": layers, "words": words, "phrases": phrases, "rests": chunk["rests"][row]}

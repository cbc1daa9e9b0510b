"""Training examples as fixed-size records in one unnamed temporary file: memory does not grow with their number."""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch

from mmel_cli.attribution.hsrm import Evidence, declared
from mmel_cli.training.objectives import Examples
from mmel_cli.types import Explanation


class ExampleStore:
    """Append examples, then read batches of them in any order; the file is gone when the store is closed."""

    def __init__(self, folder: Path, scales: tuple[int, ...]) -> None:
        self._scales = scales
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._count = 0
        self._digest = hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def add(self, record: Explanation, needed: dict[str, np.ndarray]) -> None:
        """Keep a record's evidence and `extra` (truth, images, texts), float32.

        Raises:
            ValueError: if its arrays are not of the shapes of the first record.
        """
        arrays = {field.name: record.fields[field.name] for field in declared(self._scales)} | needed
        shapes = {name: array.shape for name, array in arrays.items()}
        self._shapes = self._shapes or shapes
        if shapes != self._shapes:
            raise ValueError(f"{record.id}: arrays of other shapes than the first record's")
        row = np.concatenate([array.ravel() for array in arrays.values()], dtype=np.float32).tobytes()
        self._file.write(row)
        self._digest.update(record.id.encode() + row)
        self._count += 1

    def sha256(self) -> str:
        """Of everything that was added, in its order."""
        return self._digest.hexdigest()

    def read(self, numbers: Sequence[int], device: torch.device) -> Examples:
        """The examples of these numbers (from 0), in their order."""
        size = sum(int(np.prod(shape)) for shape in self._shapes.values())
        rows = np.empty((len(numbers), size), np.float32)
        for row, number in zip(rows, numbers, strict=True):
            self._file.seek(number * size * rows.itemsize)
            row[:] = np.frombuffer(self._file.read(size * rows.itemsize), np.float32)
        together = torch.from_numpy(rows).to(device)
        parts = together.split([int(np.prod(shape)) for shape in self._shapes.values()], 1)
        values = {n: p.view(-1, *shape) for (n, shape), p in zip(self._shapes.items(), parts, strict=True)}
        evidence = Evidence.of(values, self._scales)
        return Examples(evidence, values.get("truth"), values.get("images"), values.get("texts"))

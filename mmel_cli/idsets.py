"""Names of millions of records or images in little memory: 8 bytes of SHA-256 stand for each.

Two names of a million share their 8 bytes with a chance of 3 in 100 million, so they tell names apart, but who reads a
record by its name looks at the name that it has. Plain Python objects would take over 100 bytes a name.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt

_RECENT = 4096  # names that are kept as Python objects until they are sorted in


def digest(name: str) -> int:
    """The first 8 bytes of a name's SHA-256."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8])


def digests(names: Iterable[str]) -> UInt[np.ndarray, "names"]:
    """The same of many, in their order, uint64."""
    return np.fromiter(map(digest, names), np.uint64)


class NameCounts:
    """A number for each name that was added; 12 bytes a name."""

    def __init__(self) -> None:
        self._recent: dict[int, int] = {}
        self._digests, self._counts = np.zeros(0, np.uint64), np.zeros(0, np.int32)  # sorted by digest
        self._quick = self._digests.data  # the same: plain numbers compare several times faster than numpy's

    def add(self, name: str, more: int = 1) -> int:
        """Count a name `more` times; what it was counted before."""
        key = digest(name)
        place = self._place(key)
        if place is not None:
            before = int(self._counts[place])
            self._counts[place] += more
            return before
        before = self._recent.get(key, 0)
        self._recent[key] = before + more
        if len(self._recent) >= _RECENT:
            self._sort_in()
        return before

    def __getitem__(self, name: str) -> int:
        """What it was counted; 0 for a name that was never added."""
        key = digest(name)
        place = self._place(key)
        return self._recent.get(key, 0) if place is None else int(self._counts[place])

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        key = digest(name)
        return key in self._recent or self._place(key) is not None

    def __len__(self) -> int:
        return len(self._digests) + len(self._recent)

    def digests(self) -> UInt[np.ndarray, "names"]:
        """Of the names, sorted, uint64; not to be written to."""
        self._sort_in()
        return self._digests

    def _place(self, key: int) -> int | None:
        return _find(self._quick, key)

    def _sort_in(self) -> None:
        if not self._recent:
            return
        new = np.fromiter(self._recent, np.uint64, len(self._recent))
        counts = np.fromiter(self._recent.values(), np.int32, len(self._recent))
        order = np.argsort(new)
        places = np.searchsorted(self._digests, new[order])
        self._digests = np.insert(self._digests, places, new[order])
        self._quick = self._digests.data
        self._counts = np.insert(self._counts, places, counts[order])
        self._recent = {}


class IdSet:
    """A growing set of names."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._counts = NameCounts()
        self.update(names)

    def add(self, name: str) -> bool:
        """Put a name in; whether it is new."""
        return self._counts.add(name) == 0

    def update(self, names: Iterable[str]) -> None:
        """Put names in."""
        for name in names:
            self.add(name)

    def __contains__(self, name: object) -> bool:
        return name in self._counts

    def __len__(self) -> int:
        return len(self._counts)

    def digests(self) -> UInt[np.ndarray, "names"]:
        """Of the names, sorted, uint64; not to be written to."""
        return self._counts.digests()


@dataclass(frozen=True)
class IdIndex:
    """Where names stand in an order; 12 bytes a name."""

    digests: UInt[np.ndarray, "names"]  # sorted
    numbers: Int[np.ndarray, "names"]  # the place of each in the order, int32

    @classmethod
    def of(cls, ordered: UInt[np.ndarray, "names"]) -> "IdIndex":
        """From the digests of names in their order."""
        order = np.argsort(ordered, kind="stable").astype(np.int32)
        return cls(ordered[order], order)

    def __len__(self) -> int:
        return len(self.digests)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _find(self.digests, digest(name)) is not None

    def ordered(self) -> UInt[np.ndarray, "names"]:
        """The digests in the order of the names."""
        ordered = np.empty_like(self.digests)
        ordered[self.numbers] = self.digests
        return ordered

    def candidates(self, name: str) -> Iterator[int]:
        """Places of names with this digest, the first first: one, but for names that share it; none if it is not in."""
        key = np.uint64(digest(name))
        start = int(np.searchsorted(self.digests, key))
        while start < len(self.digests) and self.digests[start] == key:
            yield int(self.numbers[start])
            start += 1

    def number(self, name: str) -> int | None:
        """The place of a name; None if it is not in."""
        return next(self.candidates(name), None)

    def numbers_of(self, others: UInt[np.ndarray, "others"]) -> Int[np.ndarray, "others"]:
        """The places of names by their digests, int32; -1 for one that is not in."""
        if not len(self.digests):
            return np.full(len(others), -1, np.int32)
        places = np.searchsorted(self.digests, others).clip(max=len(self.digests) - 1)
        return np.where(self.digests[places] == others, self.numbers[places], -1).astype(np.int32)


def _find(ordered: "np.ndarray | memoryview", key: int) -> int | None:
    place = bisect_left(ordered, key)
    return place if place < len(ordered) and ordered[place] == key else None

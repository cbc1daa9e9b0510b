"""Names by 8 bytes of SHA-256: the same as a set and a dict say, in a tenth of their memory."""

import random
import tracemalloc

import numpy as np
import pytest

from mmel_cli import idsets
from mmel_cli.idsets import IdIndex, IdSet, NameCounts, digests


@pytest.fixture(autouse=True)
def _sorted_in_often(monkeypatch):
    monkeypatch.setattr(idsets, "_RECENT", 7)


def test_counts_are_those_of_a_dict():
    counts, expected = NameCounts(), dict[str, int]()
    rng = random.Random(0)
    for _ in range(500):
        name, more = f"name {rng.randrange(60)}", rng.choice((0, 1, 1, 3))
        assert counts.add(name, more) == expected.get(name, 0)
        expected[name] = expected.get(name, 0) + more
        assert len(counts) == len(expected)
    assert {name: counts[name] for name in expected} == expected
    assert all(name in counts for name in expected)
    assert "name 60" not in counts
    assert counts["name 60"] == 0
    assert 3 not in counts
    assert counts.digests().tolist() == sorted(digests(expected).tolist())


def test_a_set_says_what_is_new():
    names = IdSet(["a", "b", "a"])
    assert len(names) == 2
    assert [names.add(name) for name in ("b", "c", "c", "\ud800 half a pair")] == [False, True, False, True]
    assert "c" in names
    assert "d" not in names
    assert len(names) == 4


def test_an_index_has_the_place_of_every_name():
    names = [f"record {n}" for n in random.Random(1).sample(range(1000), 300)]
    index = IdIndex.of(digests(names))
    assert [index.number(name) for name in names] == list(range(300))
    assert index.ordered().tolist() == digests(names).tolist()
    assert index.number("record") is None
    assert index.numbers_of(digests([*names[::-1], "nobody"])).tolist() == [*range(299, -1, -1), -1]
    assert names[5] in index
    assert "record" not in index
    assert 5 not in index


def test_names_that_share_a_digest_are_all_candidates(monkeypatch):
    monkeypatch.setattr(idsets, "digest", len)
    index = IdIndex.of(digests(["aa", "b", "cc", "dd"]))
    assert list(index.candidates("xx")) == [0, 2, 3]
    assert list(index.candidates("y")) == [1]
    assert list(index.candidates("zzz")) == []


def test_an_empty_index_holds_nothing():
    index = IdIndex.of(digests([]))
    assert "a" not in index
    assert index.number("a") is None
    assert index.numbers_of(digests(["a"])).tolist() == [-1]
    assert len(index) == 0


def test_a_million_names_would_take_megabytes(monkeypatch):
    """Bytes a name that stay, of a set and of counts; a Python set of such texts takes over 100."""
    monkeypatch.setattr(idsets, "_RECENT", 1000)
    for kind, most in ((IdSet, 14), (NameCounts, 14)):
        tracemalloc.start()
        names = kind()
        for n in range(20_000):
            names.add(f"folder/of/images/{n:07}.jpg#0")
        names.digests()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept / 20_000 < most
    assert names.digests().dtype == np.uint64

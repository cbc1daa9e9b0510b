"""Many records at a time, in any order, of files that are checked once and whenever they change."""

import os
from dataclasses import replace

import h5py
import numpy as np
import pytest

from mmel_cli.archive import ArchiveOptions, ShardWriter, load_archive
from mmel_cli.archive import safety as safety_module
from mmel_cli.errors import ArchiveError


@pytest.fixture
def folder(tmp_path, info, make):
    with ShardWriter(tmp_path, info, ArchiveOptions(shard_size=4, dtype="float16")) as writer:
        for n in range(11):
            writer.extend([make(n)])
    return tmp_path


@pytest.mark.parametrize("order", [range(11), (9, 0, 10, 4, 5, 0, 7), (3,), (8, 6, 4, 2, 0), ()])
def test_records_come_in_the_order_asked_for(folder, order):
    with load_archive(folder) as archive:
        ids = [archive.ids[n] for n in order]
        numbers = np.array([archive.number(name) for name in ids], np.int32)
        assert numbers.tolist() == list(order)
        places = archive.places_of(numbers)
        assert places.shape == (len(ids), 2)
        for (file, row), name in zip(places, ids, strict=True):
            assert archive.place(name) == (archive.files[file], row)
        read = archive.take(["id", "map", "words/span", "image_size"], places) if ids else {}
        for row, name in enumerate(ids):
            record = archive[name]
            assert read["id"][row] == name
            np.testing.assert_array_equal(read["map"][row], record.map)  # with its scale
            assert tuple(read["image_size"][row]) == record.image_size
            assert (read["words/span"][row][:, 0] >= 0).sum() == len(record.words)
        for one, record in zip(archive.several(ids), map(archive.__getitem__, ids), strict=True):
            assert replace(one, fields={}) == replace(record, fields={})
            for field, values in record.fields.items():
                np.testing.assert_array_equal(one.fields[field], values)
        for ask in (archive.number, archive.__getitem__, archive.place, lambda name: archive.several([*ids, name])):
            with pytest.raises(KeyError, match="nobody"):
                ask("nobody")
        assert "nobody" not in archive
        assert all(name in archive for name in ids)


def test_what_shards_say_alike_of_their_run_is_in_memory_once(folder):
    """A shard's own copy takes 40 kB, and a million records have thousands of shards."""
    with load_archive(folder) as archive:
        assert len(archive.files) == 3
        assert len({id(checked.info) for checked in archive._checked}) == 1


def test_an_id_with_the_digest_of_another_is_read_by_its_name(folder, monkeypatch):
    """All ids of a shard share one digest: what is read has the name that was asked for."""
    monkeypatch.setattr("mmel_cli.idsets.digest", lambda name: 7)
    with load_archive(folder) as archive:
        assert [record.id for record in archive.several(archive.ids[::-1])] == archive.ids[::-1]
        for number, name in enumerate(archive.ids):
            assert archive.number(name) == number
            assert archive[name].id == name
        assert "nobody" not in archive
        with pytest.raises(KeyError):
            archive.several(["nobody"])


def test_a_file_is_checked_once_and_again_when_it_was_changed(folder, monkeypatch):
    checks, check = [], safety_module.check
    monkeypatch.setattr(safety_module, "check", lambda file, path: checks.append(path.name) or check(file, path))
    with load_archive(folder) as archive:
        for _ in range(3):
            archive.column("score")
        assert checks == [path.name for path in archive.files]
        path = archive.files[0]  # not the one that is open
        os.utime(path)
        archive.column("score")
        assert checks == ["part-00000.h5", "part-00001.h5", "part-00002.h5", "part-00000.h5"]
        with h5py.File(path, "a") as file:
            del file["score"]
            file["score"] = h5py.ExternalLink("/etc/passwd", "score")
        with pytest.raises(ArchiveError, match="link to elsewhere"):
            archive.column("score")


def test_another_file_in_the_place_of_one_that_was_checked_is_checked(folder):
    with load_archive(folder) as archive:
        archive.column("score")
        path = archive.files[0]
        told = path.stat()
        other = path.with_name("other")
        other.write_bytes(b"\0" * told.st_size)
        os.utime(other, ns=(told.st_atime_ns, told.st_mtime_ns))
        other.rename(path)
        with pytest.raises(ArchiveError, match="part-00000"):
            archive.column("score")

"""Real HDF5 files: what goes in comes out, damage is found, two writers cannot meet."""

import dataclasses
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from mmel_cli.archive import (
    ArchiveOptions,
    ShardWriter,
    load_archive,
    merge,
    verify,
)
from mmel_cli.archive import writer as writer_module
from mmel_cli.errors import ArchiveError, UsageError
from mmel_cli.runs import committed_records, fingerprint


def write(folder, info, records, **options):
    with ShardWriter(folder, info, ArchiveOptions(**({"shard_size": 4} | options))) as writer:
        for record in records:
            writer.extend([record])
    return folder


def assert_same(one, other, rtol=0.0):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, dict):
            assert a.keys() == b.keys()
            for key in a:
                np.testing.assert_allclose(
                    b[key], a[key], rtol=0, atol=rtol * np.abs(a[key]).max(initial=0), err_msg=str(key)
                )
        elif isinstance(a, np.ndarray):
            np.testing.assert_allclose(b, a, rtol=0, atol=rtol * np.abs(a).max(), err_msg=field.name)
        else:
            assert a == b, field.name


def test_round_trip_over_shards(tmp_path, info, make):
    records = [make(n) for n in range(10)]
    write(tmp_path, info, records)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"part-0000{n}.h5" for n in range(3)]
    with load_archive(tmp_path) as archive:
        assert archive.info == info
        assert len(archive) == 10
        assert archive.ids == [record.id for record in records]
        for record, found in zip(records, archive, strict=True):
            assert_same(record, found)
        assert_same(records[7], archive[records[7].id])
        assert "nobody" not in archive
        assert archive.column("map").shape == (10, 6, 4)
        np.testing.assert_array_equal(archive.column("score"), np.float32([r.score for r in records]))


def test_float16_keeps_the_relative_size_of_small_gradients(tmp_path, info, make):
    records = [make(n, size=1e-9) for n in range(3)]
    write(tmp_path, info, records, dtype="float16")
    with load_archive(tmp_path) as archive:
        for record, found in zip(records, archive, strict=True):
            assert_same(record, found, rtol=1e-3)
            assert found.map.dtype == np.float32
        np.testing.assert_allclose(archive.column("map")[1], records[1].map, atol=1e-3 * np.abs(records[1].map).max())
    assert not verify(tmp_path).problems


@pytest.mark.parametrize(("channels", "layers", "shared"), [("all", 5, 3), ("layers", 5, 0), ("final", 0, 0)])
def test_channels(tmp_path, info, make, channels, layers, shared):
    kept = ArchiveOptions(channels=channels).kept(info.fields)
    write(tmp_path, dataclasses.replace(info, fields=kept), [make(1)])
    with load_archive(tmp_path) as archive:
        found, whole = next(iter(archive)), make(1)
        assert archive.info.fields == kept
        by_layer = [name for name in found.fields if name.startswith("layers/")]
        assert sum("shared" in name for name in by_layer) == shared
        assert len(by_layer) == layers + shared
        assert_same(dataclasses.replace(whole, fields={name: whole.fields[name] for name in found.fields}), found)


def test_every_dataset_keeps_one_record_a_chunk_with_checksums(tmp_path, info, make):
    write(tmp_path, info, [make(n) for n in range(3)])
    with h5py.File(tmp_path / "part-00000.h5") as file:
        assert file.attrs["format"] == "mmel-maps"
        assert file.attrs["version"] == 2
        assert file["layers/shared_4"].shape == (3, 3, 4, 2, 1)
        for name in ("map", "layers/flow", "layers/shared_1", "score", "box"):
            item = file[name]
            assert item.chunks[0] == 1
            assert (item.compression, item.shuffle, item.fletcher32) == ("gzip", True, True)


def test_merged_file_equals_the_shards(tmp_path, info, make):
    run = write(tmp_path / "archive", info, [make(n) for n in range(10)]).parent
    assert merge(run, tmp_path / "all.h5") == 10
    assert verify(tmp_path / "all.h5").problems == []
    with load_archive(run) as shards, load_archive(tmp_path / "all.h5") as merged:
        assert shards.info == merged.info
        for one, other in zip(shards, merged, strict=True):
            assert_same(one, other)
    with pytest.raises(UsageError, match="exists"):
        merge(run, tmp_path / "all.h5")


def test_merge_and_verify_find_an_id_that_occurs_twice(tmp_path, info, make):
    write(tmp_path / "archive", info, [make(0), make(1)], shard_size=1)
    os.link(tmp_path / "archive/part-00000.h5", tmp_path / "archive/part-00002.h5")
    with pytest.raises(ArchiveError, match="twice"):
        merge(tmp_path, tmp_path / "all.h5")
    assert not (tmp_path / "all.h5").exists()
    assert not list(tmp_path.glob("*.tmp"))
    assert any("also in" in problem for problem in verify(tmp_path).problems)


def test_flipped_bits_are_found_or_change_nothing(tmp_path, info, make):
    """At 100 random places of a shard. What may stay unseen is unused space: the records read back equal."""
    records = [make(n) for n in range(4)]
    path = write(tmp_path / "a", info, records) / "part-00000.h5"
    data, rng, found = path.read_bytes(), np.random.default_rng(0), 0
    for place in rng.integers(0, len(data), 100):
        broken = bytearray(data)
        broken[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        try:
            bad = verify(tmp_path / "a").problems
            if not bad:
                with load_archive(path) as archive:
                    for record, again in zip(records, archive, strict=True):
                        assert_same(record, again)
        except ArchiveError:
            bad = ["refused"]
        found += bool(bad)
    assert found > 60


def test_a_damaged_shard_is_set_aside_and_its_records_are_open_again(tmp_path, info, make):
    write(tmp_path, info, [make(n) for n in range(8)])
    path = tmp_path / "part-00001.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done, damaged = committed_records(tmp_path, tmp_path, info.identity)
    assert damaged == ["part-00001.h5"]
    assert [make(n).id in done for n in range(8)] == [True] * 4 + [False] * 4
    write(tmp_path, info, [make(n) for n in range(4, 8)])
    assert sorted(p.name for p in tmp_path.glob("*")) == ["part-00000.h5", "part-00001.h5.damaged", "part-00002.h5"]
    assert len(committed_records(tmp_path, tmp_path, info.identity)[0]) == 8


def test_another_configuration_is_refused(tmp_path, info, make):
    write(tmp_path, info, [make(0)])
    other = info.identity | {"method.name": "flow", "tokenizer (SHA-256)": "b" * 64}
    with pytest.raises(UsageError, match="--overwrite") as caught:
        committed_records(tmp_path, tmp_path, other)
    assert "method.name was mmel, is now flow; tokenizer (SHA-256) was aaaaaaaaaaaa, is now bbbbbbbbbbbb" in str(
        caught.value
    )


def test_leftovers_of_a_kill_are_removed(tmp_path, info, make):
    (tmp_path / "part-00000.h5.tmp").write_bytes(b"half")
    write(tmp_path, info, [make(0)])
    assert [p.name for p in tmp_path.iterdir()] == ["part-00000.h5"]


@pytest.mark.parametrize("written", [0, 1, 100, 4096, 20000])
def test_a_full_disk_is_one_clean_error_and_loses_nothing_committed(tmp_path, info, make, monkeypatch, written):
    write(tmp_path, info, [make(0)])

    class Full:
        """A file on a disk with room for `written` more bytes."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            self.file.write(data[:written])
            raise OSError(28, "No space left on device")

    real = writer_module.Path.open
    monkeypatch.setattr(
        writer_module.Path,
        "open",
        lambda path, *a, **k: Full(real(path, *a, **k)) if path.suffix == ".tmp" else real(path, *a, **k),
    )
    with pytest.raises(ArchiveError, match="No space left") as caught:
        write(tmp_path, info, [make(1)], shard_size=1)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["part-00000.h5"]
    assert len(committed_records(tmp_path, tmp_path, info.identity)[0]) == 1


def test_nothing_to_read_says_so(tmp_path):
    with pytest.raises(ArchiveError, match="holds no archive"):
        load_archive(tmp_path)


def test_archive_loads_no_torch():
    code = "import sys, mmel_cli.archive; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def replace(file, name, **how):
    del file[name]
    return file.create_dataset(name, **how)


def external(file, secret):
    replace(file, "map", shape=(2, 6, 4), dtype="f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def virtual(file, secret):
    layout = h5py.VirtualLayout((2, 6, 4), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "map", (2, 6, 4))
    del file["map"]
    file.create_virtual_dataset("map", layout)


def external_link(file, secret):
    del file["map"]
    file["map"] = h5py.ExternalLink(str(secret), "/map")


def soft_link(file, _secret):
    del file["layers/flow"]
    file["layers/flow"] = h5py.SoftLink("/layers/loosened")


def shape_bomb(file, _secret):
    for name in ("id", "map"):
        dtype = file[name].dtype
        replace(
            file, name, shape=(10**9, *file[name].shape[1:]) if name == "map" else (10**9,), dtype=dtype, chunks=True
        )


def gzip_bomb(file, _secret):
    replace(file, "map", shape=(2, 60000, 60000), dtype="f4", chunks=(1, 60000, 60000), compression="gzip")


def absurd_grid(file, _secret):
    file.attrs["grid"] = (10**6, 10**6)


def other_version(file, _secret):
    file.attrs["version"] = 3


def stranger(file, _secret):
    file.create_dataset("extra", data=[1.0, 2.0], chunks=(1,))


def text_for_numbers(file, _secret):
    replace(file, "score", data=["a", "b"], dtype=h5py.string_dtype(), chunks=(1,))


@pytest.mark.parametrize(
    "attack",
    [
        external,
        virtual,
        external_link,
        soft_link,
        shape_bomb,
        gzip_bomb,
        absurd_grid,
        other_version,
        stranger,
        text_for_numbers,
    ],
    ids=lambda attack: attack.__name__,
)
def test_hostile_files_are_refused_before_data_is_read(tmp_path, info, make, attack):
    path = write(tmp_path / "a", info, [make(0), make(1)]) / "part-00000.h5"
    (tmp_path / "secret").write_text("password")
    with h5py.File(path, "r+") as file:
        attack(file, tmp_path / "secret")
    with pytest.raises(ArchiveError, match=r"part-00000\.h5") as caught:
        load_archive(path)
    assert "\n" not in str(caught.value)
    assert verify(path).problems


def test_merge_on_a_full_disk_is_one_clean_error(tmp_path, info, make):
    """In a process of its own whose files may not grow: HDF5 itself would crash there."""
    run = write(tmp_path / "archive", info, [make(n) for n in range(10)]).parent
    code = """if True:
        import resource, signal, sys
        from pathlib import Path
        from mmel_cli.archive import merge
        from mmel_cli.errors import ArchiveError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
        try:
            merge(Path(sys.argv[1]), Path(sys.argv[2]))
        except ArchiveError as error:
            print(error)
    """
    for limit in (100, 5000, 40000):
        command = [sys.executable, "-c", code, run, tmp_path / "all.h5", limit]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
        assert "cannot be written" in done.stdout
        assert sorted(p.name for p in tmp_path.iterdir()) == ["archive"]


def test_only_damage_is_set_aside_and_not_before_the_run_is_known_to_be_the_same(tmp_path, info, make):
    identity = info.identity | {"dtype": "bfloat16"}
    other = dataclasses.replace(info, identity=identity, config_sha256=fingerprint(identity))
    write(tmp_path, other, [make(0)])
    (tmp_path / "part-00000.h5").rename(tmp_path / "part-00009.h5")
    (tmp_path / "part-00001.h5").write_bytes(b"damaged")
    with pytest.raises(UsageError, match="--overwrite"):
        committed_records(tmp_path, tmp_path, info.identity)
    with h5py.File(tmp_path / "part-00009.h5", "r+") as file:
        file.attrs["version"] = 3
    with pytest.raises(ArchiveError, match="version 1 or 2"):
        committed_records(tmp_path, tmp_path, info.identity)
    assert not list(tmp_path.glob("*.damaged"))


@pytest.mark.parametrize("name", ["config", "model_sha256", "grid", "torch_version"])
def test_changed_root_attributes_are_found(tmp_path, info, make, name):
    path = write(tmp_path, info, [make(0)]) / "part-00000.h5"
    with h5py.File(path, "r+") as file:
        value = file.attrs[name]
        file.attrs[name] = '{"b":[1]}' if name == "config" else "x" if isinstance(value, str) else value[::-1]
    assert verify(path).problems
    with pytest.raises(ArchiveError):
        load_archive(path)


def test_many_shards_need_one_open_file(tmp_path, info, make):
    import resource

    write(tmp_path, info, [make(n) for n in range(60)], shard_size=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 12, hard))
    try:
        with load_archive(tmp_path) as archive:
            assert [e.id for e in archive] == archive.ids
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_shards_with_other_datasets_are_no_archive(tmp_path, info, make):
    write(tmp_path, info, [make(0)])
    write(tmp_path, dataclasses.replace(info, fields=ArchiveOptions(channels="final").kept(info.fields)), [make(1)])
    with pytest.raises(ArchiveError, match="another run"):
        load_archive(tmp_path)

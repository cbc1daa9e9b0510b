"""Archives that declare more than they hold, or hold the same bytes many times; and honest ones that look like it."""

import dataclasses
import struct
import zlib

import h5py
import numpy as np
import pytest

from mmel_cli import load_archive
from mmel_cli.archive import ArchiveOptions, ShardWriter, merge, verify
from mmel_cli.errors import ArchiveError
from mmel_cli.fields import MAP, TOKEN_MAP, Field

GRID = (512, 512)


def write(folder, info, records, **options):
    with ShardWriter(folder, info, ArchiveOptions(**options)) as writer:
        for record in records:
            writer.extend([record])
    return folder / "part-00000.h5"


@pytest.fixture
def large(tmp_path, info, make):
    """An archive of 40 records whose maps are 512x512 and zero, and whose first caption is long."""
    zeros = {"map": np.zeros(GRID, np.float32)}
    records = [dataclasses.replace(make(n), fields=zeros) for n in range(40)]
    records[0] = dataclasses.replace(records[0], caption="x" * 90_000)
    return write(tmp_path / "archive", dataclasses.replace(info, grid=GRID, fields=(MAP,)), records)


def new_map(file, shape, *codes):
    """An empty dataset `map` with deflate filters of these levels, one record a chunk, indexed by a plain B-tree."""
    del file["map"]
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((1, *shape[1:]))
    for level in codes:
        made.set_deflate(level)
    return h5py.h5d.create(file.id, b"map", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple(shape), made)


def stacked_gzip(path):
    with h5py.File(path, "r+") as file:
        item = new_map(file, (40, *GRID), 9, 9)
        item.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros((40, *GRID), np.float32))


def declared_but_not_stored(path):
    with h5py.File(path, "r+") as file:
        item = new_map(file, (40, *GRID), 9)
        for row in range(40):
            item.write_direct_chunk((row, 0, 0), zlib.compress(b""))


def inflates_for_ever(path):
    with h5py.File(path, "r+") as file:
        item = new_map(file, (40, *GRID), 9)
        pump = zlib.compressobj(9)
        stream = b"".join(pump.compress(bytes(1 << 24)) for _ in range(18)) + pump.flush()
        assert 1 << 18 < len(stream) < 1 << 20
        for row in range(40):
            item.write_direct_chunk((row, 0, 0), stream if row == 17 else zlib.compress(bytes(1 << 20)))


def one_chunk_for_all_records(path):
    noise = zlib.compress(np.random.default_rng(0).bytes(4 * 512 * 512))
    small = b"12345678"
    with h5py.File(path, "r+", libver="earliest") as file:
        item = new_map(file, (40, *GRID), 9)
        for row in range(40):
            item.write_direct_chunk((row, 0, 0), small if row else noise)
        places = [item.get_chunk_info(row).byte_offset for row in range(40)]
    data = path.read_bytes()
    for row in range(1, 40):
        was = struct.pack("<IIQQQQQ", len(small), 0, row, 0, 0, 0, places[row])
        assert data.count(was) == 1
        data = data.replace(was, struct.pack("<IIQQQQQ", len(noise), 0, row, 0, 0, 0, places[0]))
    path.write_bytes(data)


def one_text_for_all_records(path):
    with h5py.File(path, "r+") as file:
        item = file["caption"].id
        reference = item.read_direct_chunk((0,))[1]
        for row in range(1, 40):
            item.write_direct_chunk((row,), reference)


def many_texts_in_an_attribute(path):
    with h5py.File(path, "r+") as file:
        file.attrs["torch_version"] = ["x" * 1000] * 1000


@pytest.mark.parametrize(
    ("bomb", "says"),
    [
        (stacked_gzip, "map has filters"),
        (declared_but_not_stored, "map stores 8 bytes as 1048576"),
        (inflates_for_ever, "map holds more data than it declares"),
        (one_chunk_for_all_records, "map uses the same stored bytes"),
        (one_text_for_all_records, "caption uses the same stored bytes"),
        (many_texts_in_an_attribute, "attribute torch_version"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bomb_is_refused_before_a_value_is_read(large, monkeypatch, bomb, says):
    bomb(large)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("a value was read"))
    with pytest.raises(ArchiveError, match=says) as caught:
        load_archive(large)
    assert str(large) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_honest_archive_of_constant_maps_opens(tmp_path, info, make, dtype):
    """Nothing shrinks further than zeros, and nothing less than noise; both are fine, apart and in one file."""
    noise = np.random.default_rng(0).normal(size=(3, *GRID)).astype(np.float32)
    zeros = {"map": np.zeros(GRID, np.float32), "layers/flow": np.zeros((3, *GRID), np.float32)}
    records = [dataclasses.replace(make(n), fields=zeros) for n in range(7)]
    records[2] = dataclasses.replace(records[2], fields=zeros | {"layers/flow": noise})
    flow = Field("layers/flow", ("layers", "rows", "columns"), "evidence by layer")
    info = dataclasses.replace(info, grid=GRID, fields=(MAP, flow))
    path = write(tmp_path / "archive", info, records, dtype=dtype)
    assert path.stat().st_size < 0.3 * 7 * 4 * 4 * 512 * 512
    assert verify(path).problems == []
    merge(path.parent, tmp_path / "all.h5")
    assert verify(tmp_path / "all.h5").problems == []
    with load_archive(tmp_path / "all.h5") as archive:
        assert not archive.column("map").any()


def test_many_tokens_and_none_open(tmp_path, info, make):
    info = dataclasses.replace(info, max_tokens=75, fields=(MAP, TOKEN_MAP))
    records = []
    for n, count in enumerate((0, 75, 1)):
        fields = {"map": make(n).map, "tokens/map": np.ones(count, np.float32)}
        records.append(dataclasses.replace(make(n), tokens=("ü",) * count, words=(), fields=fields))
    assert verify(write(tmp_path, info, records)).problems == []

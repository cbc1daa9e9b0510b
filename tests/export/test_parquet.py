"""`mmel export --to parquet`, opened by pyarrow and pandas."""

import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from export.conftest import write_photos
from made_runs import record, write_run
from PIL import Image

from mmel_cli import load_archive


def test_every_record_is_a_row_with_what_the_archive_has(spoken, tmp_path, mmel):
    code, out, err = mmel("export", spoken, "--to", "parquet", "--out", tmp_path / "maps.parquet")
    assert code == 0, err
    table = pq.read_table(tmp_path / "maps.parquet")
    assert table.schema.field("map").type == pa.list_(pa.list_(pa.float32(), 4), 4)
    assert json.loads(table.schema.metadata[b"mmel"])["method"] == "mmel"
    rows = table.to_pylist()
    with load_archive(spoken) as archive:
        for row, one in zip(rows, archive, strict=True):
            assert (row["id"], row["image"], row["caption"]) == (one.id, one.image, one.caption)
            assert (row["height"], row["width"]) == one.image_size
            assert row["score"] == one.score
            assert row["box"] == list(one.box)
            np.testing.assert_array_equal(np.array(row["map"], np.float32), one.map)
            assert row["words"] == [word.text for word in one.words]
            np.testing.assert_array_equal(np.array(row["word_values"], np.float32), one.word_values)
            assert row["phrases"] == [phrase.text for phrase in one.phrases]
            assert len(row["phrase_shares"]) == len(one.phrases)
            photo = Image.open(io.BytesIO(row["thumbnail"]))
            assert photo.format == "JPEG"
            assert photo.size == (row["width"], row["height"])  # small ones stay as they are, and are upright
    assert rows[-1]["image"] == "turned.jpg"
    assert f"{len(rows)} records in" in out


def test_pandas_reads_maps_and_ranks(tmp_path, mmel):
    run = write_run(tmp_path / "run", [record(n) for n in range(300)], shard_size=70)
    code, _, err = mmel("export", run, "--to", "parquet", "--out", tmp_path / "m.parquet")
    assert code == 0
    assert "300 records have no photo any more" in err
    frame = pd.read_parquet(tmp_path / "m.parquet")
    assert frame.shape[0] == 300
    assert frame["rank"].tolist() == [1] * 300
    assert frame["thumbnail"].isna().all()
    assert frame["phrases"].isna().all()
    assert np.stack([np.stack(rows) for rows in frame["map"]]).shape == (300, 6, 4)
    assert frame.sort_values("score")["id"].iloc[-1] == "photos/299.jpg#0"
    assert pq.ParquetFile(tmp_path / "m.parquet").num_row_groups == 2


def test_thumbnails_of_the_run_come_first_and_moved_photos_are_found(spoken, tiny, tmp_path, mmel):
    from mmel_cli import explain, load_config
    from mmel_cli.render import picture_name

    source = write_photos(tmp_path, [{"file_name": f"{n}.png", "text": "a dog"} for n in range(3)])
    run = tmp_path / "run"
    options = {"model": str(tiny), "device": "cpu", "heatmaps": False}
    explain(source, run, load_config(options=options))
    kept = (run / "thumbnails" / picture_name("1.png")).with_suffix(".jpg")
    kept.parent.mkdir()
    Image.new("RGB", (32, 16), "blue").save(kept)
    source.rename(tmp_path / "moved")

    def sizes(*more):
        code, _, err = mmel("export", run, "--to", "parquet", "--out", tmp_path / "m", "--overwrite", *more)
        assert code == 0
        column = pq.read_table(tmp_path / "m")["thumbnail"].to_pylist()
        return [small and Image.open(io.BytesIO(small)).size for small in column], err

    found, err = sizes()
    assert found == [None, (32, 16), None]
    assert "2 records have no photo any more, so no thumbnail; --data" in err
    found, err = sizes("--data", tmp_path / "moved")
    assert found == [(160, 80), (32, 16), (160, 80)]
    assert "no photo" not in err
    found, err = sizes("--no-thumbnails")
    assert found == [None] * 3
    assert "no photo" not in err


def test_without_pyarrow_one_line_names_the_extra(spoken, tmp_path, mmel, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = mmel("export", spoken, "--to", "parquet", "--out", tmp_path / "m")
    assert code == 2
    assert err == (
        "Error: --to parquet needs pyarrow, which is not installed; pip install '.[export]' in a clone of mmel\n"
    )
    assert mmel("export", spoken, "--to", "coco", "--out", tmp_path / "b.json")[0] == 0


@pytest.mark.parametrize("geometry", ["native", "letterbox"])
def test_the_box_is_that_of_the_grid(geometry, placed, tmp_path, mmel):
    assert mmel("export", placed[geometry], "--to", "parquet", "--out", tmp_path / "m")[0] == 0
    expected = {"native": [40.0, 0.0, 120.0, 80.0], "letterbox": [0.0, -40.0, 160.0, 120.0]}
    assert pq.read_table(tmp_path / "m")["box"].to_pylist() == [expected[geometry]] * 5

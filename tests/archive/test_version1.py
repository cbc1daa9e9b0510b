"""An archive that mmel 0.1 wrote (mmel, scales 1 and 2, the last two of four layers) opens, verifies and merges."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from mmel_cli.archive import load_archive, merge, verify
from mmel_cli.attribution.hsrm import declared
from mmel_cli.errors import ArchiveError
from mmel_cli.render.words import Piece, pieces

OLD = Path(__file__).parent / "assets" / "version1.h5"


def test_version_1_is_read_as_what_it_holds():
    with load_archive(OLD) as archive, h5py.File(OLD, locking=False) as raw:
        records = list(archive)
        assert [record.id for record in records] == ["0.png#0", "1.png#0", "2.png#0"]
        assert archive.info.trained == "untrained"
        assert archive.info.gradient == "plain"
        assert {f.name for f in archive.info.fields} == {"map", "tokens/map", *(f.name for f in declared((1, 2)))}
        for number, record in enumerate(records):
            assert np.isnan(record.logit)
            assert record.words == ()
            assert record.word_values is None
            assert pieces(record.caption, record.words, record.word_values) == [Piece(record.caption)]
            for field in archive.info.fields:
                stored = raw[field.name][number]
                if field.ragged:
                    stored = stored[: len(record.tokens)]
                np.testing.assert_array_equal(record.fields[field.name], stored)
    assert verify(OLD).problems == []


def test_version_1_merges_and_its_checksum_still_counts(tmp_path):
    run = tmp_path / "run" / "archive"
    run.mkdir(parents=True)
    (run / "part-00000.h5").write_bytes(OLD.read_bytes())
    assert merge(run.parent, tmp_path / "all.h5") == 3
    assert verify(tmp_path / "all.h5").problems == []
    with h5py.File(tmp_path / "all.h5", "r+") as file:
        file.attrs["model"] = "another"
    with pytest.raises(ArchiveError, match="checksum"):
        load_archive(tmp_path / "all.h5")

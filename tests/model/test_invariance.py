"""Maps, caption maps and scores of every method depend neither on the batch nor on the order of the input."""

import json
import random
import shutil

import numpy as np
import pytest
import quick

from mmel_cli import explain, load_archive, load_config
from mmel_cli.attribution import METHODS
from mmel_cli.data.scenes.folder import write_scenes

CASES = [(name, quick.settings(name)) for name in METHODS]
CASES += [("grad-eclip", {"method.heads": "single"}), ("flow", {"method.shifts": 3})]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The same 23 pairs twice: in order, and with the rows of all images shuffled."""
    plain, mixed = (tmp_path_factory.mktemp("scenes") / name for name in ("plain", "mixed"))
    write_scenes(plain, 6, 3, split="test", side=64)
    rows = [json.loads(line) for line in (plain / "metadata.jsonl").read_text().splitlines()][:23]
    kept = [row | {"text": row["text"] + " on the grass" * (n % 3)} for n, row in enumerate(rows)]
    write(plain, kept)
    shutil.copytree(plain, mixed)
    order = list(range(len(kept)))
    random.Random(4).shuffle(order)
    write(mixed, [kept[n] for n in order])
    return plain, mixed


def write(folder, rows):
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def records(source, out, tiny, method, settings, size):
    given = {"model": str(tiny), "device": "cpu", "heatmaps": False, "method.name": method, "batch_size": size}
    explain(source, out, load_config(None, (), given | settings))
    with load_archive(out) as archive:
        return {(record.image, record.caption): record for record in archive}


@pytest.mark.parametrize(("method", "settings"), CASES)
def test_batches_and_order_do_not_matter(scenes, tiny, tmp_path, method, settings):
    plain, mixed = scenes
    wanted = records(plain, tmp_path / "1", tiny, method, settings, 1)
    assert len({len(record.tokens) for record in wanted.values()}) > 2  # so batches pad their captions
    for source, size in ((plain, 5), (plain, 16), (mixed, 5)):
        found = records(source, tmp_path / f"{source.name}-{size}", tiny, method, settings, size)
        assert found.keys() == wanted.keys()
        for key, record in wanted.items():
            again = found[key]
            assert (again.tokens, again.words, again.truncated) == (record.tokens, record.words, record.truncated)
            assert again.score == pytest.approx(record.score, abs=1e-5)
            assert again.logit == pytest.approx(record.logit, abs=1e-4)
            if "seeds" in METHODS[method].needs and source is mixed:
                continue  # drawn from the record's id, which counts an image's captions in order
            for name, values in record.fields.items():
                scale = max(float(np.abs(values).max(initial=0)), 1e-6)
                np.testing.assert_allclose(again.fields[name], values, rtol=0, atol=1e-4 * scale, err_msg=name)

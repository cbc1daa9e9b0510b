"""Marks: every sentence is literally so of the records that have it, and of no other record."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from made_runs import INFO, record, write_run

from mmel_cli import load_archive
from mmel_cli.archive import ShardWriter
from mmel_cli.archive.schema import ArchiveOptions
from mmel_cli.attribution import METHODS
from mmel_cli.config import load_config
from mmel_cli.fields import HIGH_NORM, MAP, MATCH, RESIDUAL, Field
from mmel_cli.trust import CAPTION_BLIND, CONTROLS, MARKS, RECORD_MARKS, find_mark, of_records, of_run
from mmel_cli.types import Explanation, RunInfo

GRID = (6, 4)
OLD = Path(__file__).parent / "archive/assets/version1.h5"


@pytest.fixture
def info():
    return RunInfo(
        model="m", model_sha256="a" * 64, method="exclip", layers=(1,), grid=GRID, patch=8, image_size=(48, 32),
        geometry="letterbox", max_tokens=2, device="cpu", dtype="float32", config={"against": {"other": True}},
        config_sha256="c", versions={}, fields=(MAP, RESIDUAL, *MATCH, HIGH_NORM),
    )  # fmt: skip


def draw(number):
    """A record of which any mark may be."""
    rng = np.random.default_rng(number)
    size = (int(rng.integers(20, 60)), int(rng.integers(20, 60)))
    above, left = rng.uniform(-10, 4, 2)
    box = (left, above, size[1] - left, size[0] + 3.0)
    values = rng.normal(rng.choice([-9, 0, 0, 0, 1]), 1, GRID) * rng.choice([0.01, 1, 1])
    among = int(rng.integers(1, 40))
    fields = {
        "map": values.astype(np.float32) * (number != 3),
        "interaction/residual": np.float32(rng.normal(0, 2)),
        "match/rank": np.int32(rng.integers(1, among + 1)),
        "match/among": np.int32(among),
        "high_norm": rng.random(GRID) < rng.choice([0.1, 0.25]),
    }
    return Explanation(
        id=f"{number}.png#0", image=f"{number}.png", caption="a", truncated=bool(rng.random() < 0.3),
        score=float(np.float32(rng.normal(0.1, 0.2))), image_size=size, box=box,
        fields=fields, logit=0.0, against="b", against_score=float(np.float32(rng.normal())),
    )  # fmt: skip


def written(records, info, folder):
    folder.mkdir()
    with ShardWriter(folder, info, ArchiveOptions(shard_size=100)) as writer:
        for record in records:
            writer.extend([record])
    return folder


def outside(record):
    """The part of absolute evidence outside the image, by counting points of each row and column of cells."""
    x0, y0, x1, y1 = np.float32(record.box)
    points = (np.arange(12000) + 0.5) / 12000
    down, across = y0 + (y1 - y0) * points, x0 + (x1 - x0) * points
    rows = ((down > 0) & (down < record.image_size[0])).reshape(GRID[0], -1).mean(1)
    columns = ((across > 0) & (across < record.image_size[1])).reshape(GRID[1], -1).mean(1)
    magnitude = np.abs(np.float64(record.map))
    inside = sum(rows[i] * columns[j] * magnitude[i, j] for i in range(GRID[0]) for j in range(GRID[1]))
    return 1 - inside / magnitude.sum() if magnitude.any() else 0.0


def literal(record, median):
    """Names of the sentences that are so."""
    values = np.float64(record.map)
    total, positive = np.abs(values).sum(), values[values > 0].sum()
    rank, among = int(record.fields["match/rank"]), int(record.fields["match/among"])
    long = np.abs(values)[record.fields["high_norm"]].sum()
    so = {
        "prefers-others": among > 8 and (rank - 1) / (among - 1) >= 1 / 8,
        "low-evidence": 0 < positive < median / 4,
        "no-evidence": not (values > 0).any(),
        "negative-score": record.score < 0,
        "against-higher": record.against_score > record.score,
        "residual": abs(record.fields["interaction/residual"]) > total / 10,
        "outside-image": outside(record) > 0.1,
        "high-norm": total > 0 and long / total > 1 / 4,
        "truncated": record.truncated,
    }
    return {name for name, is_so in so.items() if is_so}


def test_a_record_has_the_marks_whose_sentence_is_so_and_no_other(info, tmp_path):
    records = [draw(number) for number in range(523)]  # blocks of 256, shards of 100
    with load_archive(written(records, info, tmp_path / "archive")) as archive:
        marked = of_records(archive)
    sums = [np.float64(record.map).clip(min=0).sum() for record in records]
    np.testing.assert_allclose(marked.evidence, sums, rtol=1e-6)
    np.testing.assert_allclose(marked.against_evidence, [np.abs(np.float64(r.map).clip(max=0)).sum() for r in records])
    assert (marked.evidence.dtype, marked.against_evidence.dtype, marked.marks.dtype) == ("f4", "f4", "u4")
    seen = dict.fromkeys([mark.name for mark in RECORD_MARKS], 0)
    for each, bits in zip(records, marked.marks, strict=True):
        names = {mark.name for n, mark in enumerate(RECORD_MARKS) if bits >> n & 1}
        assert names == literal(each, np.median(sums)) or abs(outside(each) - 0.1) < 1e-3, each.id
        for name in names:
            seen[name] += 1
    assert all(5 < number < 500 for number in seen.values()), seen
    assert marked.counts() == seen


def test_what_an_archive_lacks_gives_no_mark(info, tmp_path):
    bare = dataclasses.replace(info, fields=(MAP,), config={})
    with load_archive(written([draw(n) for n in range(120)], bare, tmp_path / "archive")) as archive:
        without = set(of_records(archive).counts())
    assert without == {"low-evidence", "no-evidence", "negative-score", "outside-image", "truncated"}
    with load_archive(written([draw(n) for n in range(7)], bare, tmp_path / "few")) as archive:
        assert "low-evidence" not in of_records(archive).counts()  # a median of seven says little
    with load_archive(OLD) as archive:
        assert len(of_records(archive).marks) == 3
        assert [mark.name for mark in of_run(archive.info)] == ["untrained"]


def test_marks_are_named_once_and_badges_are_short():
    assert len({mark.name for mark in MARKS}) == len({mark.badge for mark in MARKS}) == len(MARKS)
    for mark in MARKS:
        assert len(mark.badge) <= 24
        assert mark.says.endswith(".")
        assert mark.says.count(". ") == 0
        assert find_mark(mark.name) is mark


@pytest.mark.parametrize("name", METHODS)
def test_runs_of_each_method(info, name):
    config = load_config(None, [f"method.name={name}"]).plain()
    names = {mark.name for mark in of_run(dataclasses.replace(info, method=name, config=config))}
    assert names & {"control", "caption-blind"} == (
        {"control"} if name in CONTROLS else {"caption-blind"} if METHODS[name].caption_blind else set()
    )
    assert ("untrained" in names) == (name == "mmel")
    assert (name in CONTROLS) == (METHODS[name].source == "control")
    assert (name in {*CONTROLS, *CAPTION_BLIND}) == METHODS[name].caption_blind


def test_runs_by_model_weights_and_type(info):
    def names(**changes):
        return {mark.name for mark in of_run(dataclasses.replace(info, **changes))}

    assert names() == set()
    assert names(dtype="bfloat16") == {"bfloat16"}
    assert names(model="builtin") == {"builtin"}
    assert names(model="builtin", described={"own_scenes": "yes"}) == set()
    config = load_config(None, []).plain()
    assert names(config=config) == {"untrained"}
    assert names(config=config, trained="shipped") == names(config=config, trained="file") == set()


def test_a_residual_that_is_no_number_makes_no_mark(tmp_path):
    grid = Field("mine/residual", ("rows", "columns"), "of an outside method, on the grid")
    records = [record(n, fields={"mine/residual": np.full(INFO.grid, 9.0, np.float32)}) for n in range(3)]
    with load_archive(write_run(tmp_path / "run", records, dataclasses.replace(INFO, fields=(MAP, grid)))) as archive:
        assert "residual" not in of_records(archive).counts()

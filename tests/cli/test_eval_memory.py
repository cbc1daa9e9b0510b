"""Evaluation and training read an archive by streaming: what stays of a record are numbers, no Python objects."""

import csv
import hashlib
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import yaml
from made_runs import record, write_run

from mmel_cli import idsets
from mmel_cli.archive import load_archive, reader
from mmel_cli.config import load_eval_config
from mmel_cli.evaluation import compare
from mmel_cli.pipelines import scores
from mmel_cli.pipelines.evaluate import evaluate
from mmel_cli.pipelines.rivals import RivalTexts
from mmel_cli.pipelines.subjects import Siblings

CAPTIONS = 3  # an image
FEW, MANY = 60, 460


def make(folder: Path, count: int, *, seed: int = 0, order: str = "together") -> Path:
    """A run of `count` records with boxes; captions of an image follow each other, or lie as far apart as can be."""
    source = folder / "in"
    images = -(-count // CAPTIONS)
    places = range(count) if order == "together" else [m for k in range(CAPTIONS) for m in range(k, count, CAPTIONS)]
    records, lines = [], []
    for place in places:
        image, k = f"{place // CAPTIONS:05}.png", place % CAPTIONS
        name, box = f"{image}#{k}-of-its-captions", [10.0 * k, 0.0, 10.0 * k + 9, 30.0]
        lines.append(json.dumps({"id": name, "file_name": image, "text": f"dog {k}", "boxes": [box]}) + "\n")
        records.append(record(place + seed, id=name, image=image, caption=f"dog {k}"))
    run = write_run(folder / f"run-{seed}", records, shard_size=70)
    if not source.is_dir():
        source.mkdir()
        for number in range(images):
            (source / f"{number:05}.png").touch()  # no metric of these opens an image
        (source / "metadata.jsonl").write_text("".join(lines))
    notes = {"format": "mmel-run", "input": {"source": "imagefolder", "path": str(source)}}
    (run / "run.yaml").write_text(yaml.safe_dump(notes))
    return run


def peak(work) -> int:
    """The most bytes that Python and numpy hold at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def _small_buffers(monkeypatch):
    """What is bounded stays below what is not, at the few records of a test."""
    monkeypatch.setattr(idsets, "_RECENT", 50)
    monkeypatch.setattr(scores, "_TOGETHER", 50)
    monkeypatch.setattr(reader, "_BLOCK", 20)
    monkeypatch.setattr(compare, "_LARGE", 10)


@pytest.mark.usefixtures("_small_buffers")
def test_what_stays_of_a_record_are_numbers(tmp_path):
    """Of two runs with differences and siblings with truth: some 200 bytes of numbers; 2,270 as Python objects."""
    metrics = ("sparseness", "caption-contrast")
    config = load_eval_config(None, (), {"metrics": metrics, "plots": False, "report": False})
    peaks = {}
    for count in (FEW, FEW, MANY):  # the first for what is loaded once
        folder = tmp_path / f"{len(peaks)}-{count}"
        runs = [make(folder, count, seed=seed) for seed in (0, count)]
        peaks[count] = peak(lambda runs=runs, folder=folder: evaluate(runs, config, folder / "eval"))
        assert json.loads((folder / "eval/metrics.json").read_text())["records"] == count
    assert (peaks[MANY] - peaks[FEW]) / (MANY - FEW) < 1000


def rows(folder: Path) -> dict[str, list[str]]:
    with (folder / "per_record.csv").open(newline="") as file:
        return {row[1]: row for row in csv.reader(file)}


def test_captions_that_lie_apart_have_the_siblings_of_those_that_lie_together(tmp_path, monkeypatch):
    """Also where a batch is of one image, and where an evaluation goes on after a part of it."""
    given = {"metrics": ("caption-change", "caption-contrast"), "plots": False, "report": False, "batch_size": 4}
    config, held = load_eval_config(None, (), given), []
    made = Siblings._apart.func

    def watched(siblings):
        held.append(made(siblings))
        return held[-1]

    monkeypatch.setattr(Siblings._apart, "func", watched)
    found = []
    for order in ("together", "apart"):
        evaluate([make(tmp_path / order, 50, order=order)], config, tmp_path / order / "eval")
        found.append(rows(tmp_path / order / "eval"))
    assert found[0] == found[1]
    assert sum(row[-1] != "" for row in found[0].values()) > 40
    assert [len(apart) for apart in held] == [50]  # together none is asked for
    run = tmp_path / "together/run-0"
    log = next((tmp_path / "together/eval/scores").glob("*contrast*"))
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:3]))
    evaluate([run], config, tmp_path / "together/eval")
    assert rows(tmp_path / "together/eval") == found[0]


def test_of_many_common_captions_only_the_rivals_are_kept(tmp_path):
    """Those that all captions at once would give, by the images that they are of."""
    names = [f"caption {n % 400}" for n in range(900)]
    records = [record(n, caption=name, image=f"{n}.png", id=f"{n}") for n, name in enumerate(names)]
    run = write_run(tmp_path / "run", records, shard_size=90)
    config = load_eval_config(None, (), {"rivals": 5})
    with load_archive(run) as archive:
        rivals = RivalTexts.of(archive, config)
    expected = sorted(set(names), key=lambda text: hashlib.sha256(text.encode()).digest())[:5]
    assert list(rivals.texts) == expected
    for text, images in zip(rivals.texts, rivals.images, strict=True):
        assert [f"{n}.png" in images for n in range(900)] == [name == text for name in names]


def test_images_are_numbered_by_their_sorted_names(tmp_path):
    names = ["b/é.png", "b/e.png", "a.png", "b/e.png", "Z.png", "\U0001f600.png", "\uffee.png", "a.png"]
    run = write_run(tmp_path / "run", [record(n, image=name, id=f"{n}") for n, name in enumerate(names)])
    chosen = np.array([6, 0, 5, 3, 1, 7])
    with load_archive(run) as archive:
        found = scores.images_of(archive, chosen)
    assert found.tolist() == np.unique(np.array([names[n] for n in chosen], object), return_inverse=True)[1].tolist()

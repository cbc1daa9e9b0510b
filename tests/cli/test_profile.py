"""`mmel explain --profile`: where the time went adds up, is told on stderr alone, and names what holds the run up."""

import json
import re
import time

import numpy as np
import pytest

from mmel_cli import load_archive
from mmel_cli.pipelines import batches
from mmel_cli.render import work
from mmel_cli.runs.clock import Beside, Clock, Part
from mmel_cli.runs.profile import Ran, profile

ROW = re.compile(r"^  (\S.*?)  +([\d.]+) +(\d+) %(?: +([\d.]+))?$", re.MULTILINE)
PARTS = [
    "starting (model, input, folder)",
    "waiting for images",
    "to the device",
    "model (forward and backward)",
    "method (evidence and maps)",
    "words and marks",
    "waiting for pictures",
    "waiting for the archive",
    "everything else",
    "ending (marks and report)",
]


def explain(mmel, photos, out, tiny, *more):
    given = ("--model", tiny, "--device", "cpu", "--batch-size", 5, "--workers", 2, "--set", "archive.shard_size=7")
    code, printed, err = mmel("explain", photos, "--out", out, *given, *more)
    assert code == 0, err
    return printed, err


def rows(err):
    return {name: (float(seconds), int(share), rate) for name, seconds, share, rate in ROW.findall(err)}


def test_the_parts_add_up_to_the_run_and_change_nothing(mmel, photos, tmp_path, tiny):
    printed, err = explain(mmel, photos, tmp_path / "timed", tiny, "--profile", "--json")
    assert json.loads(printed)["done"] == 24  # stdout is one document
    told = rows(err)
    assert list(told) == PARTS
    total, pairs = re.search(r"Where the time went: ([\d.]+) s, (\d+) pairs", err).groups()
    assert pairs == "24"
    assert sum(seconds for seconds, _, _ in told.values()) == pytest.approx(float(total), abs=0.11)
    assert 94 <= sum(share for _, share, _ in told.values()) <= 106
    seconds, _, rate = told["model (forward and backward)"]
    assert float(rate) == pytest.approx(24 / seconds, rel=0.1)
    assert re.search(
        r"added up over 2 workers and .*: reading, decoding .* s, drawing and writing pictures [\d.]+ s, ", err
    )
    assert err.count("Bottleneck: ") == 1
    _, quiet = explain(mmel, photos, tmp_path / "plain", tiny)
    assert "Where the time went" not in quiet
    with load_archive(tmp_path / "timed") as timed, load_archive(tmp_path / "plain") as plain:
        assert len(timed.ids) == 24
        for one, other in zip(timed, plain, strict=True):
            assert (one.id, one.score) == (other.id, other.score)
            assert all(np.array_equal(one.fields[name], other.fields[name], equal_nan=True) for name in other.fields)


def slow(function, seconds):
    def slowly(*given, **more):
        time.sleep(seconds)
        return function(*given, **more)

    return slowly


def test_slow_images_are_named_and_what_to_do(mmel, photos, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(batches, "decode", slow(batches.decode, 1.0))
    monkeypatch.setattr("os.cpu_count", lambda: 9)
    _, err = explain(mmel, photos, tmp_path / "run", tiny, "--profile", "--set", "report=false", "--limit", 12)
    line = next(line for line in err.splitlines() if line.startswith(("Bottleneck: waiting", "Of the rest: waiting")))
    assert line.startswith(("Bottleneck: waiting for images, ", "Of the rest: waiting for images, "))
    assert "more --workers (now 2) take more of the 9 cores" in line
    assert rows(err)["waiting for images"][0] > 2


def test_slow_pictures_are_named_with_the_way_to_draw_them_later(mmel, photos, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(work, "render", slow(work.render, 0.5))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    _, err = explain(mmel, photos, tmp_path / "run", tiny, "--profile", "--set", "report=false", "--limit", 12)
    line = next(line for line in err.splitlines() if "waiting for pictures," in line)
    assert "--no-heatmaps draws none, and mmel report --heatmaps draws them later" in line
    assert "--workers 2 are all that 2 cores can use" in line
    busy = float(re.search(r"drawing and writing pictures ([\d.]+) s", err)[1])
    assert busy > rows(err)["waiting for pictures"][0]  # two threads, behind the model


def test_several_methods_and_a_run_that_is_done_are_told_too(mmel, photos, tmp_path, tiny):
    more = ("--method", "flow,gae", "--profile", "--set", "heatmaps=false", "--limit", 6)
    _, err = explain(mmel, photos, tmp_path / "several", tiny, *more)
    assert "6 pairs, " in err
    _, err = explain(mmel, photos, tmp_path / "several", tiny, *more)
    assert re.search(r"Where the time went: [\d.]+ s, 0 pairs; \d+ core", err)
    assert err.count("Bottleneck: ") == 1


def test_a_clock_that_is_off_measures_nothing():
    clock = Clock()
    with clock.part(Part.MODEL), clock.aside(Beside.DRAW):
        pass
    assert list(clock.each(Part.READ, [1, 2])) == [1, 2]
    assert (clock.spent, clock.beside, clock.first) == ({}, {}, None)
    assert clock.part(Part.MODEL) is clock.part(Part.READ)  # made once


def test_a_clock_waits_for_the_device_in_the_part_that_asked():
    asked = []
    clock = Clock(on=True, settle=lambda: (time.sleep(0.02), asked.append(1)))
    with pytest.raises(ValueError, match="broken"), clock.part(Part.MODEL):
        raise ValueError("broken")
    for item in clock.each(Part.READ, iter("ab")):
        assert item in "ab"
    clock.end()
    assert clock.spent[Part.MODEL] >= 0.02
    assert len(asked) == 4  # the model; two items, and that there is no third
    assert "waiting for images" in profile(clock, Ran(2, 1))[3]

"""What `mmel explain` ends with: which records to look at, and the next command."""

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest
from made_runs import INFO, MATCH, record, write_run

from mmel_cli.fields import MAP, WORD_VALUE
from mmel_cli.runs.highlights import highlights


def ids(records):
    return [int(one.id[7:10]) for one in records]


def test_highest_lowest_and_oddest_by_rank(tmp_path):
    records = [record(n) for n in (4, 1, 9, 3, 7, 2, 8, 0, 5, 6)]
    for n, rank, among in ((2, 3, 9), (5, 9, 9), (6, 2, 2), (3, 5, 1)):
        fields = next(r.fields for r in records if r.id == f"photos/{n:03}.jpg#0")
        fields.update({"match/rank": np.int32(rank), "match/among": np.int32(among)})
    told = highlights(write_run(tmp_path / "run", records))
    assert ids(told.highest) == [9, 8, 7]
    assert ids(told.lowest) == [0, 1, 2]
    assert ids(told.oddest) == [5, 6, 2]  # 8 of 8, then 1 of 1 later in the archive, then 2 of 8
    assert [one.why for one in told.oddest] == [
        "8 of 8 other captions score as high or higher",
        "1 of 1 other captions score as high or higher",
        "2 of 8 other captions score as high or higher",
    ]
    assert told.odd == "by what part of the other captions compared score as high or higher on the image"
    assert told.first == "photos/005.jpg#0"


def test_without_ranks_the_word_that_lowers_the_score_most(tmp_path):
    records = [record(n) for n in range(9)]
    for n, value in ((3, -0.05), (6, -0.3), (7, np.nan)):
        records[n].fields["words/value"] = np.array([0.1, value], np.float32)
    told = highlights(write_run(tmp_path / "old", records, replace(INFO, fields=(MAP, WORD_VALUE))))
    assert ids(told.oddest) == [6, 3]
    assert told.oddest[0].why == 'without "6" the score rises by 0.300'
    # a run where every caption comes first goes on to words
    assert highlights(write_run(tmp_path / "new", records)).oddest == told.oddest


def test_without_both_the_map_that_is_most_against(tmp_path):
    maps = {n: np.full(INFO.grid, 1.0, np.float32) for n in range(8)}
    maps[5][:3] = -3.0
    records = [record(n, fields={"map": values}) for n, values in maps.items()]
    told = highlights(write_run(tmp_path / "run", records, replace(INFO, fields=(MAP, *MATCH))))
    assert ids(told.oddest) == [5]
    assert told.oddest[0].why == "75% of its evidence is against the caption"


@pytest.mark.parametrize("many", range(1, 9))
def test_small_runs_have_no_record_both_high_and_low_and_still_say_which_are_odd(many, tmp_path):
    records = [record(n, fields={"words/value": np.array([0.1, -0.1 * (n + 1)], np.float32)}) for n in range(many)]
    told = highlights(write_run(tmp_path / "run", records))
    named = ids(told.highest) + ids(told.lowest)
    assert len(named) == len(set(named)) == min(6, max(1, many // 2 * 2))
    assert len(told.oddest) == min(3, many)


def test_a_score_that_is_no_number_is_neither_high_nor_low(tmp_path):
    records = [record(n, score=float("nan") if n == 3 else n / 100) for n in range(8)]
    told = highlights(write_run(tmp_path / "run", records))
    assert ids(told.highest + told.lowest) == [7, 6, 5, 0, 1, 2]


def test_explain_ends_with_them_and_with_commands_that_run(photos, tiny, tmp_path, mmel):
    run = tmp_path / "my run"
    common = ("--model", tiny, "--device", "cpu", "--set", "heatmaps=false")
    code, out, err = mmel("explain", photos, "--out", run, *common)
    assert code == 0
    told = highlights(run)
    for title, records in (("Highest scores:", told.highest), ("Lowest scores:", told.lowest)):
        block = out.split(title)[1].splitlines()[1:4]
        assert [line.split()[1] for line in block] == [one.id for one in records]
    assert f"Oddest ({told.odd}):" in out
    commands = [line.removeprefix("Next: ") for line in err.splitlines() if line.startswith("Next: ")]
    assert [shlex.split(command)[:3] for command in commands] == [["mmel", verb, str(run)] for verb in ("show", "eval")]
    code, shown, _ = mmel(*shlex.split(commands[0])[1:])
    assert code == 0
    assert shown.startswith(f"{told.first}: ")
    code, listed, _ = mmel("show", run)
    assert code == 0
    assert listed in out
    code, out, err = mmel("explain", photos, "--out", run, *common, "--json")
    said = json.loads(out)["highlights"]
    assert "Next:" not in err
    assert [one["id"] for one in said["lowest"]] == [one.id for one in told.lowest]
    assert said["next"] == commands
    assert "highlights" not in json.loads((run / "summary.json").read_text())


def test_several_methods_end_with_them_once(photos, tiny, tmp_path, mmel):
    common = ("--model", tiny, "--device", "cpu", "--set", "heatmaps=false", "--limit", 5)
    code, out, err = mmel("explain", photos, "--out", tmp_path / "runs", "--method", "flow,attention", *common)
    assert code == 0
    assert out.count("Highest scores:") == 1
    assert f"Next: mmel eval {tmp_path}/runs/flow {tmp_path}/runs/attention" in err
    both = next(line for line in err.splitlines() if line.startswith("Next: mmel report"))
    assert mmel(*shlex.split(both.removeprefix("Next: mmel ")))[0] == 0
    assert (tmp_path / "runs/report/index.html").exists()
    said = json.loads(
        mmel("explain", photos, "--out", tmp_path / "runs", "--method", "flow,attention", *common, "--json")[1]
    )
    assert {name: len(run["highlights"]["highest"]) for name, run in said.items()} == {"flow": 2, "attention": 2}


def test_a_run_without_records_ends_without_them(tiny, tmp_path, mmel):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/metadata.jsonl").write_text('{"file_name": "gone.png", "text": "a dog"}\n')
    arguments = ("explain", tmp_path / "in", "--out", tmp_path / "run", "--model", tiny, "--device", "cpu")
    code, out, err = mmel(*arguments)
    assert code == 3
    assert "scores" not in out
    assert "Next" not in err
    assert json.loads(mmel(*arguments, "--json")[1])["highlights"] is None

"""`mmel show`: one record in the terminal, from a run folder, a shard or a merged file."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from made_runs import INFO, MATCH, record, write_run

from mmel_cli import load_archive

ANSI = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Eleven records with known maps, in shards of four."""
    values = np.zeros(INFO.grid, np.float32)
    values[1, 2], values[5, 0], values[3, 3] = 2.0, 1.0, -4.0
    known = record(7, caption="dog 7", fields={"map": values, "words/value": np.array([0.25, -0.125], np.float32)})
    records = [record(n) if n != 7 else known for n in range(11)]
    records[7].fields["match/rank"] = np.int32(3)
    return write_run(tmp_path_factory.mktemp("made") / "run", records)


@pytest.fixture(scope="module")
def explained(photos, tiny, tmp_path_factory):
    """A real run with words x regions."""
    from pathlib import Path

    from mmel_cli import explain, load_config

    out = tmp_path_factory.mktemp("real") / "run"
    options = {"model": str(tiny), "device": "cpu", "words.regions": True, "words.texts": 20, "limit": 7}
    explain(Path(photos), out, load_config(options=options))
    return out


def test_a_record_with_all_that_is_known_of_it(run, mmel):
    code, out, err = mmel("show", run, "photos/007.jpg#0")
    assert (code, err) == (0, "")
    assert "photos/007.jpg#0: dog 7" in out
    assert "Score 0.0700 (cosine), logit 0.700, rank 3 of 9 captions on this image" in out
    assert re.search(r"dog  \+0\.250  \+{20}\n  7    -0\.125  -{10}\n", out), out
    assert "in the 40 x 60 pixels of the image" in out
    assert "evidence for 3, against 4" in out
    assert "18 8 32 22: 56% of the evidence for it, strongest 2\n" in out
    assert "part-00001.h5, row 3" in out
    assert "Image: photos/007.jpg" in out


def test_json_has_all_of_it_and_nothing_else_is_on_stdout(run, mmel):
    code, out, _ = mmel("show", run, "007", "--json")
    said = json.loads(out)
    with load_archive(run) as archive:
        one = archive["photos/007.jpg#0"]
    assert code == 0
    assert np.array_equal(np.array(said["map"], np.float32), one.map)
    assert (said["rank"], said["among"], said["score"], said["row"]) == (3, 9, one.score, 3)
    assert [word["value"] for word in said["words"]] == [0.25, -0.125]
    assert said["regions"][0]["box"] == pytest.approx([17.5, 7.5, 32.5, 22.5])
    assert said["positive_evidence"] == 3.0
    assert said["negative_evidence"] == 4.0
    assert (said["picture"], said["photo"], said["phrases"]) == (None, None, [])


def test_an_id_may_be_a_part_that_no_other_has_and_near_ones_are_named(run, mmel):
    assert "photos/010.jpg#0: dog 10" in mmel("show", run, "10.jpg")[1]
    assert "photos/000.jpg#0: dog 0" in mmel("show", run, "photos/000")[1]
    code, _, err = mmel("show", run, "photos/00")
    assert code == 2
    assert "10 records could be meant: photos/000.jpg#0" in err
    assert "and 5 more" in err
    code, _, err = mmel("show", run, "foto/003.jpg#0")
    assert code == 2
    assert "no such record; the nearest: photos/003.jpg#0" in err
    code, out, err = mmel("show", run, "nothing like it", "--json")
    assert json.loads(out)["error"]["exit_code"] == code == 2


@pytest.mark.parametrize("columns", [30, 80])
def test_the_map_in_shades_and_in_colours_fits_the_terminal(run, columns, mmel, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = mmel("show", run, "007")[1]
    drawn = out[out.index("+--") :].split("Archive")[0].splitlines()
    assert max(map(len, drawn)) <= columns
    assert drawn[0] == drawn[-1]
    inside = [line[1:-1] for line in drawn[1:-1]]
    height, width = len(inside), len(inside[0])
    assert inside[int(1.5 / 6 * height)][int(2.5 / 4 * width)] == "█"
    assert inside[int(3.5 / 6 * height)][int(3.5 / 4 * width)] == " "
    signed = mmel("show", run, "007", "--signed")[1]
    inside = [line[1:-1] for line in signed[signed.index("+--") :].splitlines()[1 : height + 1]]
    assert inside[int(3.5 / 6 * height)][int(3.5 / 4 * width)] == "="
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = mmel("show", run, "007")[1]
    lines = [line for line in out.splitlines() if "▀" in line]
    assert lines
    assert all(len(ANSI.sub("", line)) <= columns for line in lines)
    assert "\x1b[38;2;252;255;164;" in out  # the end of inferno
    assert "\x1b[38;2;120;170;255;" in mmel("show", run, "007", "--signed")[1]


def test_a_terminal_that_knows_no_blocks_gets_ascii(run):
    command = [sys.executable, "-m", "mmel_cli", "show", str(run), "007"]
    shown = subprocess.run(command, capture_output=True, env={"PYTHONIOENCODING": "ascii", "PATH": ""}, check=True)
    assert b"#" in shown.stdout
    assert shown.stdout.isascii()


def test_a_shard_and_a_merged_file_say_the_same(run, tmp_path, mmel):
    assert mmel("merge", run, "--out", tmp_path / "one.h5")[0] == 0
    whole = json.loads(mmel("show", run, "006", "--json")[1])
    for place in (run / "archive", run / "archive/part-00001.h5", tmp_path / "one.h5"):
        other = json.loads(mmel("show", place, "006", "--json")[1])
        assert {k: v for k, v in other.items() if k not in ("archive", "row")} == {
            k: v for k, v in whole.items() if k not in ("archive", "row")
        }
    assert (other["archive"], other["row"]) == (str(tmp_path / "one.h5"), 6)


def test_hostile_texts_are_not_parsed_and_send_no_escapes(tmp_path, mmel):
    bad = record(1, id="a\x1b[31m[red]/x#0", caption="[bold]hi\x1b]0;title\x07 \u202eabc")
    run = write_run(tmp_path / "run", [bad])
    for arguments in (("show", run, "a"), ("show", run)):
        code, out, _ = mmel(*arguments)
        assert code == 0
        assert "\x1b" not in out
        assert "\x07" not in out
        assert "[bold]hi" in out


def test_a_real_run_with_words_says_where_its_picture_and_photo_lie(explained, photos, mmel):
    code, out, err = mmel("show", explained, "00.png#0")
    assert code == 0, err
    assert "Phrases (share of the score, strongest region):\n  a red dog  " in out
    assert f"Image: {photos}/00.png" in out
    assert re.search(r"Picture: .*/heatmaps/00\.png_0\.[0-9a-f]{8}\.jpg", out)
    said = json.loads(mmel("show", explained, "00.png#0", "--json")[1])
    assert len(said["phrases"][0]["map"]) == 4
    assert all(word["share"] is not None for word in said["words"])
    near = json.loads(mmel("show", explained / "archive/part-00000.h5", "00.png#0", "--json")[1])
    assert near["picture"] == said["picture"]


def test_a_run_without_words_x_regions_shows_neither_shares_nor_phrases(run, mmel):
    code, out, _ = mmel("show", run, "007")
    assert code == 0
    assert "share" not in out
    assert "hrases" not in out


def test_an_archive_without_ranks_and_values_is_shown_too(tmp_path, mmel):
    from dataclasses import replace

    old = replace(INFO, fields=INFO.fields[:1])
    run = write_run(tmp_path / "run", [record(n, logit=float("nan")) for n in range(3)], old)
    code, out, _ = mmel("show", run, "001")
    assert code == 0
    assert "Score 0.0100 (cosine)\n" in out
    assert "Words" not in out
    assert MATCH[0].name not in out
    assert json.loads(mmel("show", run, "001", "--json")[1])["logit"] is None


def test_what_is_no_run_is_refused_in_a_line(tmp_path, mmel):
    code, _, err = mmel("show", tmp_path, "x")
    assert code == 1
    assert "holds no archive" in err
    assert len(err.splitlines()) == 1


def test_showing_loads_no_torch(run):
    code = (
        "import sys; from mmel_cli.cli import app; import mmel_cli.cli.show as s; from pathlib import Path; "
        f"s.show(Path({str(run)!r}), '007', False, None, True); s.show(Path({str(run)!r}), None, False, "
        "None, False); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

"""The metrics of words as a user runs them: explain --words on scenes, then eval --metrics words."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mmel_cli import explain, load_archive, load_config
from mmel_cli.data.scenes.folder import write_scenes
from mmel_cli.evaluation import named, select

QUICK = [part for setting in ("comparison.resamples=99",) for part in ("--set", setting)]
ONE_MAP = "the one map of the caption, the same for every phrase"


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Scenes, and runs of two methods with words x regions and of one without."""
    root = tmp_path_factory.mktemp("words")
    write_scenes(root / "in", 6, 3)
    write(root / "in", [row for row in inputs(root) if row["kind"] in ("object", "pair")])
    for name, method, words in (("flow", "flow", True), ("mmel", "mmel", True), ("plain", "flow", False)):
        settings = {"model": "builtin", "method.name": method, "heatmaps": False, "words.regions": words}
        explain(root / "in", root / name, load_config(None, (), settings | {"words.texts": 16, "word_values": False}))
    return root


def write(folder, rows):
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_of(out):
    with (out / "per_record.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {run: {row["id"]: row for row in rows if row["run"] == run} for run in ("flow", "mmel", "plain")}


def inputs(root):
    return [json.loads(line) for line in (root / "in/metadata.jsonl").read_text().splitlines()]


def test_phrases_of_three_runs(scored, tmp_path, mmel):
    runs, out = [scored / name for name in ("flow", "mmel", "plain")], tmp_path / "out"
    names = "phrase-pointing,phrase-energy,phrase-choice"
    code, shown, err = mmel("eval", *runs, "--metrics", names, "--out", out, *QUICK)
    assert code == 0, err
    assert f"plain: has no maps of words or phrases; in {names.replace(',', ', ')} {ONE_MAP}, stands" in err
    assert "flow: has no maps" not in err
    assert "phrase-energy (up is better)" in shown
    report, rows = json.loads((out / "metrics.json").read_text()), rows_of(out)
    assert {run["label"]: run["map of a phrase"] for run in report["runs"]} == {
        "flow": "phrases/map (words.phrase: mean)",
        "mmel": "phrases/map (words.phrase: mean)",
        "plain": ONE_MAP,
    }
    given = inputs(scored)
    with load_archive(scored / "flow") as archive:
        for record in archive:
            phrases = next(
                row["phrases"] for row in given if row["text"] == record.caption and row["file_name"] == record.image
            )
            assert [(p["start"], p["end"]) for p in phrases] == [(p.start, p.end) for p in record.phrases]
            masks = [np.asarray(Image.open(scored / "in" / p["mask"])) > 0 for p in phrases]
            row = rows["flow"][record.id]
            energies = [energy(values, mask) for values, mask in zip(record.fields["phrases/map"], masks, strict=True)]
            assert float(row["phrase-energy"]) == pytest.approx(np.mean(energies), abs=0.02)  # enlarged otherwise
            assert bool(row["phrase-choice"]) == (len(phrases) == 2)
    means = {name: {run: e["mean"] for run, e in m["runs"].items()} for name, m in report["metrics"].items()}
    assert means["phrase-choice"]["plain"] == 0.5
    assert means["phrase-choice"]["flow"] > 0.75
    assert means["phrase-energy"]["flow"] > means["phrase-energy"]["plain"]
    difference = report["metrics"]["phrase-energy"]["differences"]["mmel"]
    paired = [
        float(rows["mmel"][name]["phrase-energy"]) - float(row["phrase-energy"]) for name, row in rows["flow"].items()
    ]
    assert difference["mean"] == pytest.approx(np.mean(paired))
    assert difference["records"] == len(rows["flow"])
    assert (out / "plots/pairs-phrase-energy.svg").stat().st_size > 1000


def energy(values, mask):
    """Energy inside, the map enlarged by PIL."""
    large = np.asarray(Image.fromarray(values).resize(mask.shape[::-1], Image.Resampling.BILINEAR)).clip(min=0)
    return large[mask].sum() / large.sum()


def test_phrases_that_cannot_be_scored_are_refused_by_name(scored, tmp_path, mmel):
    shutil.copytree(scored / "in", tmp_path / "in")
    rows = inputs(scored)
    first = next(k for k, row in enumerate(rows) if row["kind"] == "pair")
    phrase = rows[first]["phrases"][0]
    rows[first]["phrases"][0] = phrase | {"start": phrase["start"] + 2, "text": phrase["text"][2:]}
    write(tmp_path / "in", rows)
    command = ["eval", scored / "flow", "--metrics", "phrase-energy", "--data", tmp_path / "in", *QUICK]
    code, _, err = mmel(*command, "--out", tmp_path / "one")
    assert code == 3, err
    (failure,) = [json.loads(line) for line in (tmp_path / "one/failures.jsonl").read_text().splitlines()]
    text = repr(rows[first]["phrases"][0]["text"])
    assert failure["error"] == f"its phrase {text} in the input is none that was explained; explain again"
    write(tmp_path / "in", [{key: value for key, value in row.items() if key != "phrases"} for row in rows])
    code, out, err = mmel(*command, "--out", tmp_path / "none", "--json")
    assert code == 3, err
    why = "the input gives no phrases with masks or boxes for these records"
    assert json.loads(out)["refused"] == {"flow": {"phrase-energy": why}}


@pytest.fixture(scope="module")
def whole(scored):
    """The group without recognition, of three runs, and what was said meanwhile."""
    names = [name for name, (metric, _) in named().items() if metric.group == "words" and "method" not in metric.needs]
    arguments = ["eval", *(scored / name for name in ("flow", "mmel", "plain")), "--metrics", ",".join(names), *QUICK]
    arguments += ["--out", scored / "whole", "--set", "modalities.permutations=2", "--set", "faithfulness.steps=5"]
    command = [sys.executable, "-m", "mmel_cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr  # some are refused that were asked for by name
    report = json.loads((scored / "whole/metrics.json").read_text())
    return report, rows_of(scored / "whole"), done.stderr


def test_the_whole_group(whole, scored):
    report, _, said = whole
    without = {"word-insertion", "word-deletion", "word-insertion-deletion", "words-residual"}
    for name, metric in report["metrics"].items():
        given = {"flow", "mmel", "plain"} - ({"plain"} if name in without else set())
        given = set() if name == "interaction-residual" else given
        assert set(metric["runs"]) == given, name
        assert set(metric["differences"]) == given - {"flow"}
        low, high = named()[name][1].span
        for estimate in metric["runs"].values():
            assert low <= estimate["mean"] <= high
            assert estimate["records"] > 0
        for difference in metric["differences"].values():
            assert difference["mean"] is not None
    curves = "word-insertion, word-deletion, word-insertion-deletion"
    assert f"plain: refused {curves}: the run has no words/map; explain again with --words" in said
    why = "the run has no words/share, words/map, words/rest; explain again with --words"
    assert f"plain: refused words-residual: {why}" in said
    assert "flow: refused interaction-residual: flow archives no interaction/residual" in said
    assert (scored / "whole/plots/curves-words.svg").stat().st_size > 1000
    assert (scored / "whole/plots/pairs-word-insertion-deletion.png").stat().st_size > 1000


def test_what_the_whole_group_finds(whole, scored):
    report, rows, _ = whole
    means = {name: {run: e["mean"] for run, e in m["runs"].items()} for name, m in report["metrics"].items()}
    assert means["words-residual"]["flow"] < 1e-5
    assert means["word-insertion-deletion"]["flow"] > 0.05
    assert means["region-agreement"]["flow"] > means["region-agreement"]["plain"]
    curve = report["curves"]["flow"]["word-insertion"]["mean"]
    assert len(curve) == 6
    with load_archive(scored / "flow") as archive:
        scores = [record.score for record in archive]
    assert curve[-1] == pytest.approx(np.mean(scores), abs=1e-5)
    assert report["curves"]["flow"]["word-deletion"]["mean"][0] == pytest.approx(np.mean(scores), abs=1e-5)
    for name in ("image-share", "interaction-share"):  # of the pair, whatever the method
        assert all(rows["mmel"][key][name] == row[name] for key, row in rows["flow"].items())
        assert report["metrics"][name]["better"] == "neither"
    pairs = {row["text"] for row in inputs(scored) if row["kind"] == "pair"}
    for row in rows["flow"].values():
        assert bool(row["region-agreement"]) == (row["caption"] in pairs)


def test_the_group_is_not_standard():
    words = [name for name, (metric, _) in named().items() if metric.group == "words"]
    assert words
    assert not set(words) & set(select(["standard"]))
    assert set(words) <= set(select(["all"]))


@pytest.mark.slow
def test_recognition_on_mosaics_of_the_runs_own_images(scored, tmp_path, mmel):
    runs, out = [scored / "flow", scored / "plain"], tmp_path / "out"
    names = ",".join(f"recognition-{n}" for n in (1, 2, 3, 4))
    code, _, err = mmel("eval", *runs, "--metrics", names, "--out", out, *QUICK)
    assert code == 0, err
    assert f"plain: has no maps of words or phrases; in {names.replace(',', ', ')} {ONE_MAP}, stands" in err
    report, rows = json.loads((out / "metrics.json").read_text()), rows_of(out)
    one = {row["text"]: len(row["phrases"]) == 1 for row in inputs(scored)}
    for run in ("flow", "plain"):
        for row in rows[run].values():
            given = [bool(row[name]) for name in names.split(",")]
            assert given == [one[row["caption"]]] * 4
    means = {name: {run: e["mean"] for run, e in m["runs"].items()} for name, m in report["metrics"].items()}
    assert means["recognition-4"]["flow"] > means["recognition-4"]["plain"]
    assert means["recognition-1"]["flow"] == pytest.approx(means["recognition-1"]["plain"])  # the name is all there is
    assert means["recognition-1"]["plain"] > means["recognition-4"]["plain"]  # one map for all cannot tell them apart

"""`mmel eval` as a user runs it: run folders in; metrics.json, per_record.csv, plots and exit codes out."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from mmel_cli import load_archive
from mmel_cli.evaluation import named

QUICK = ["--set", "comparison.resamples=99", "--set", "sanity.samples=2", "--set", "faithfulness.steps=4"]
QUICKER = [p for s in ("sanity.depths=2", "sanity.draws=2", "aid.points=5", "rivals=4") for p in ("--set", s)]


@pytest.fixture(scope="module")
def scored(tmp_path_factory, tiny):
    """Scenes of our own, and runs of four methods on them."""
    from mmel_cli import explain, load_config
    from mmel_cli.data.scenes.folder import write_scenes

    root = tmp_path_factory.mktemp("scored")
    write_scenes(root / "in", 5, 3, side=64)
    for method in ("grad-eclip", "mmel", "random", "mask"):
        settings = {"model": str(tiny), "method.name": method, "heatmaps": False, "device": "cpu"}
        explain(root / "in", root / method, load_config(None, (), settings))
    return root


def test_every_metric_of_four_runs(scored, tmp_path, mmel):
    runs = [scored / name for name in ("grad-eclip", "mmel", "random", "mask")]
    code, out, err = mmel("eval", *runs, "--metrics", "all", "--out", tmp_path / "out", *QUICK, *QUICKER)
    assert code == 0, err
    report = json.loads((tmp_path / "out/metrics.json").read_text())
    with load_archive(runs[0]) as archive:
        assert report["records"] == len(archive)
        assert f"grad-eclip: {len(archive)} records, {len(archive)} in common" in err
    assert list(report["metrics"]) == list(named())
    for name, metric in report["metrics"].items():
        needs = named()[name][0].needs
        given = {"grad-eclip", "mmel", "random"} | (set() if "tokens" in needs else {"mask"})
        given = set() if needs & {"regions", "shares", "residual"} else given  # made without --words
        assert set(metric["runs"]) == given, name
        low, high = named()[name][1].span
        for label, estimate in metric["runs"].items():
            if estimate["mean"] is not None:
                assert low <= estimate["low"] <= estimate["mean"] <= estimate["high"] <= high, (name, label)
        assert set(metric["differences"]) == given - {"grad-eclip"}
        assert name in out
    means = {name: {run: e["mean"] for run, e in m["runs"].items()} for name, m in report["metrics"].items()}
    localised = ("pointing-game", "energy-inside", "pixel-ap", "iou-best", "iou-area", "caption-contrast")
    for name in (*localised, "quadrant-recognition"):
        assert means[name]["mask"] > means[name]["random"]
    assert means["quadrant-recognition"]["mask"] == 1
    assert means["max-sensitivity"]["random"] == 0  # it looks at nothing
    assert means["randomisation"]["random"] == pytest.approx(1)
    assert set(report["metrics"]["pixel-ap"]["by_size"]) <= {"small", "medium", "large"}
    plots = {path.name for path in (tmp_path / "out/plots").iterdir()}
    assert {"curves-fine.png", "pairs-insertion-deletion-fine.png"} <= plots
    assert {"curves.png", "curves.svg", "layers.png", "pairs-pixel-ap.svg"} <= plots
    assert Image.open(tmp_path / "out/plots/curves.png").size[0] > 500


def test_the_table_is_safe_and_complete(tiny, tmp_path, mmel):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "=a.png")
    rows = [{"file_name": "=a.png", "text": text} for text in ("=1+1", "@dog", "a cat", "a cat")]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mmel("explain", folder, "--out", tmp_path / "run", "--model", tiny, "--set", "heatmaps=false")
    code, _, err = mmel("eval", tmp_path / "run", "--metrics", "sparseness,token-deletion")
    assert code == 0, err
    with (tmp_path / "run/eval/per_record.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["caption"] for row in table] == ["'=1+1", "'@dog", "a cat", "a cat"]
    assert [row["id"] for row in table] == [f"'=a.png#{k}" for k in range(4)]
    assert table[2]["sparseness"] == table[3]["sparseness"]  # duplicate captions are records of their own
    assert all(0 <= float(row["sparseness"]) <= 1 for row in table)


def test_an_interrupted_evaluation_goes_on_and_equals_a_whole_one(scored, tmp_path, mmel):
    command = ["eval", scored / "mmel", "--metrics", "localisation,insertion", "--batch-size", 4, *QUICK]
    assert mmel(*command, "--out", tmp_path / "whole")[0] == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    logs = sorted((tmp_path / "part/scores").iterdir())
    assert [log.name.split("-")[1] for log in logs] == ["localisation", "pixel"]  # one a family
    lines = [log.read_bytes().splitlines(keepends=True) for log in logs]
    assert len(lines[0]) > 2
    logs[0].write_bytes(lines[0][0] + lines[0][1])
    logs[1].write_bytes(lines[1][0] + lines[1][1][:50])  # killed while it wrote the second batch
    (tmp_path / "part/metrics.json").unlink()
    code, _, err = mmel(*command, "--out", tmp_path / "part")
    assert code == 0
    assert " scored before" in err
    for name in ("per_record.csv", "metrics.json"):
        assert (tmp_path / "part" / name).read_text() == (tmp_path / "whole" / name).read_text()
    code, _, err = mmel(*command[:2], scored / "random", *command[2:], "--out", tmp_path / "part")
    assert code == 0
    assert "mmel: " in err  # what was scored stays when a run is added
    assert err.count(" scored before") == 1
    code, _, err = mmel(*command, "--set", "faithfulness.baseline=black", "--out", tmp_path / "part")
    assert code == 2
    assert 'faithfulness.baseline was "blur", is now "black" (of pixel-curves)' in err


def test_fine_curves_join_an_earlier_evaluation_and_change_nothing_in_it(scored, tmp_path, mmel):
    runs, out = [scored / "mmel", scored / "mask"], tmp_path / "out"
    command = ["eval", *runs, "--out", out, "--limit", 7, "--json", *QUICK]
    code, text, err = mmel(*command, "--metrics", "insertion-deletion")
    assert code == 0, err
    before = json.loads(text)
    assert before["curves_at"] == {}
    chosen = ["--set", "faithfulness.fractions=[0, 0.02, 0.1, 0.4, 1]"]
    code, text, err = mmel(*command, "--metrics", "insertion-deletion-fine,insertion-log", *chosen)
    assert code == 0, err
    report = json.loads(text)
    assert list(report["metrics"]) == ["insertion-deletion", "insertion-deletion-fine", "insertion-log"]
    for label in ("mmel", "mask"):
        same = [r["metrics"]["insertion-deletion"]["runs"][label] for r in (before, report)]
        assert same[0] == same[1]  # to the bit
    # the table's numbers are areas under the curves that are reported
    code, text, err = mmel(*command, "--metrics", "insertion-fine,insertion", *chosen)
    assert code == 0, err
    report = json.loads(text)
    at = report["curves_at"]["insertion-fine"]
    assert at == [0, 0.02, 0.1, 0.4, 1]
    cuts = [round(fraction * 32 * 32) / 32**2 for fraction in at]
    for label in ("mmel", "mask"):
        curve = report["curves"][label]["insertion-fine"]["mean"]
        mean = report["metrics"]["insertion-fine"]["runs"][label]["mean"]
        assert mean == pytest.approx(np.trapezoid(curve, cuts), rel=1e-9)
        logs = report["metrics"]["insertion-log"]["runs"][label]["mean"]
        assert logs == pytest.approx(np.trapezoid(curve[1:], np.log(cuts[1:])) / -np.log(cuts[1]), rel=1e-9)
    assert (out / "plots/curves-fine.svg").stat().st_size > 1000
    code, _, err = mmel(*command, "--metrics", "deletion-fine")
    assert code == 2
    assert "faithfulness.fractions was [0.0,0.02,0.1,0.4,1.0], is now" in err
    assert "(of fine-curves)" in err
    assert mmel(*command, "--metrics", "deletion")[0] == 0  # the other curves do not depend on them


def test_metrics_that_cannot_be_given_are_refused_by_name(photos, tmp_path, mmel):
    from tiny_clip import make_tiny

    shutil.copytree(photos, tmp_path / "in")
    model = make_tiny(tmp_path / "model")
    run = tmp_path / "run"
    mmel("explain", tmp_path / "in", "--out", run, "--model", model, "--limit", 4, "--set", "heatmaps=false")
    command = ["eval", run, "--overwrite", "--json", *QUICK]
    code, out, _ = mmel(*command)
    assert code == 0  # the default asks for whatever there is
    report = json.loads(out)
    assert set(report["refused"]["run"]) == {
        n for n, (m, _) in named().items() if "truth" in m.needs and m.group != "quadrants"
    }
    assert "no masks" in report["refused"]["run"]["pixel-ap"]
    assert report["metrics"]["insertion"]["runs"]["run"]["records"] == 4
    make_tiny(tmp_path / "model", seed=5)
    code, out, _ = mmel(*command, "--metrics", "insertion,sparseness")
    assert code == 3  # asked for by name
    report = json.loads(out)
    assert "SHA-256" in report["refused"]["run"]["insertion"]
    assert report["metrics"]["sparseness"]["runs"]["run"]["records"] == 4
    shutil.rmtree(tmp_path / "in")
    code, out, _ = mmel(*command, "--metrics", "insertion,sparseness")
    assert code == 3
    assert "input cannot be read" in json.loads(out)["refused"]["run"]["insertion"]


def test_metrics_of_tokens_are_refused_where_a_method_explains_the_image_alone(scored, tmp_path, mmel):
    """A map of zeros that nobody made is not scored."""
    command = ["eval", scored / "mask", scored / "mmel", "--out", tmp_path / "out", "--json", "--limit", 3, *QUICK]
    code, out, err = mmel(*command, "--metrics", "aid,token-deletion,sparseness")
    assert code == 3, err  # asked for by name
    report = json.loads(out)
    why = "mask explains the image alone, so the run has no tokens/map"
    assert report["refused"] == {"mask": {"aid": why, "token-deletion": why}}
    assert {name: set(metric["runs"]) for name, metric in report["metrics"].items()} == {
        "token-deletion": {"mmel"},
        "aid": {"mmel"},
        "sparseness": {"mask", "mmel"},
    }


def test_new_maps_are_refused_when_the_mathematics_is_another_now(scored, tmp_path, mmel, monkeypatch):
    monkeypatch.setattr("mmel_cli.pipelines.provenance.METHOD_VERSION", "next")
    command = ["eval", scored / "mmel", "--out", tmp_path / "out", "--json", "--limit", 3, *QUICK]
    code, out, err = mmel(*command, "--metrics", "max-sensitivity,sparseness")
    assert code == 3, err
    report = json.loads(out)
    assert report["refused"]["mmel"]["max-sensitivity"] == "version of METHOD was 2, is now next; explain again"
    assert report["metrics"]["sparseness"]["runs"]["mmel"]["records"] == 3


def test_a_caption_file_gives_the_rivals_and_belongs_to_the_evaluation(scored, tmp_path, mmel):
    file = tmp_path / "captions.txt"
    command = ["eval", scored / "mmel", "--metrics", "insertion-probability", "--captions", file, "--json"]
    command += ["--limit", 4, "--out", tmp_path / "out", *QUICK]
    means = []
    for lines in ("a dog\n", "a dog\na cat\n\na cat\n", "\n".join(f"a thing {n}" for n in range(40))):
        file.write_text(lines)
        code, out, err = mmel(*command)
        if means and means[-1] is not None:
            assert code == 2  # other captions, other numbers
            assert "--overwrite" in err
            code, out, err = mmel(*command, "--overwrite")
        assert code == (3 if lines == "a dog\n" else 0), err
        report = json.loads(out)
        means.append(report["metrics"]["insertion-probability"]["runs"].get("mmel", {}).get("mean"))
    assert means[0] is None  # one caption cannot be told from another
    assert means[1] > means[2] > 0  # more rivals, less probability each


def test_sigint_ends_an_evaluation_and_keeps_what_was_scored(scored, tmp_path):
    command = [sys.executable, "-m", "mmel_cli", "eval", scored / "grad-eclip", "--metrics", "insertion,stability"]
    command += ["--batch-size", "1", "--out", tmp_path / "out", "--set", "faithfulness.steps=200"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    logs = tmp_path / "out/scores"
    while process.poll() is None and not (logs.exists() and any(log.stat().st_size for log in logs.iterdir())):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    report = json.loads((tmp_path / "out/metrics.json").read_text())
    lines = [line for log in logs.iterdir() for line in log.read_text().splitlines()]
    assert 1 <= report["records"] == len({score["id"] for line in lines for score in json.loads(line)["scores"]})


def test_a_changed_image_fails_its_record_alone(photos, tiny, tmp_path, mmel):
    shutil.copytree(photos, tmp_path / "in")
    mmel(
        "explain", tmp_path / "in", "--out", tmp_path / "run", "--model", tiny, "--limit", 8, "--set", "heatmaps=false"
    )
    size = Image.open(photos / "01.png").size
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)).save(tmp_path / "in/01.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "in/02.png")
    code, out, _ = mmel("eval", tmp_path / "run", "--metrics", "insertion", "--json", *QUICK)
    assert code == 3
    failures = [json.loads(line) for line in (tmp_path / "run/eval/failures.jsonl").read_text().splitlines()]
    assert json.loads(out)["records"] == 8 - len(failures)
    assert {f["id"].split("#")[0] for f in failures} == {"01.png", "02.png"}
    assert any("when explained: another image" in f["error"] for f in failures)
    assert any("9x9 now" in f["error"] for f in failures)


def test_the_mask_method_needs_ground_truth(photos, tiny, tmp_path, mmel):
    code, out, _ = mmel("explain", photos, "--out", tmp_path / "run", "--model", tiny, "--method", "mask", "--limit", 2)
    assert code == 3
    assert "2 failed (2 pair" in out


def test_random_maps_depend_on_the_record_and_not_on_the_batch(photos, tiny, tmp_path, mmel):
    for size in (1, 5):
        command = ["explain", photos, "--out", tmp_path / f"{size}", "--model", tiny, "--method", "random"]
        assert mmel(*command, "--limit", 6, "--batch-size", size, "--set", "heatmaps=false")[0] == 0
    with load_archive(tmp_path / "1") as one, load_archive(tmp_path / "5") as five:
        for a, b in zip(one, five, strict=True):
            np.testing.assert_array_equal(a.map, b.map)
            np.testing.assert_array_equal(a.token_map, b.token_map)
        assert len({a.map.tobytes() for a in one}) == 6


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{run}", "--metrics", "magic"], "magic"),
        (["{run}", "{run}"], "given twice"),
        (["{run}", "--set", "faithfulness.stepz=3"], "did you mean steps"),
        (["{run}", "--captions", "{run}/none.txt"], "--captions"),
        (["{run}/archive/part-00000.h5"], "--out"),
        (["{run}", "--out", "{run}/archive"], "no mmel evaluation"),
    ],
)
def test_usage_errors(scored, mmel, arguments, says):
    code, _, err = mmel("eval", *(a.format(run=scored / "mmel") for a in arguments))
    assert code == 2
    assert says in err.splitlines()[-1]


def test_help_lists_every_metric(mmel):
    _, out, _ = mmel("eval", "--help")
    flat = " ".join(out.split())
    for name in named():
        assert f"{name} (" in flat


def test_a_folder_of_another_command_is_never_taken(scored, mmel):
    before = (scored / "mmel/failures.jsonl").read_bytes()
    code, _, err = mmel("eval", scored / "mmel", "--out", scored / "mmel", "--overwrite", "--metrics", "sparseness")
    assert code == 2
    assert "holds no mmel evaluation" in err
    assert (scored / "mmel/failures.jsonl").read_bytes() == before


def test_more_metrics_go_into_the_same_folder(scored, tmp_path, mmel):
    command = ["eval", scored / "mmel", "--out", tmp_path / "out", *QUICK]
    assert mmel(*command, "--metrics", "sparseness")[0] == 0
    first = json.loads((tmp_path / "out/metrics.json").read_text())["metrics"]["sparseness"]
    code, _, err = mmel(*command, "--metrics", "pixel-ap", "--batch-size", 3)
    assert code == 0, err
    found = json.loads((tmp_path / "out/metrics.json").read_text())["metrics"]
    assert list(found) == ["pixel-ap", "sparseness"]  # nothing that was there is dropped
    assert found["sparseness"] == first
    with (tmp_path / "out/per_record.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["sparseness"] and row["pixel-ap"] for row in rows)
    code, _, err = mmel(*command, "--metrics", "sparseness", "--limit", 3)
    assert code == 2
    assert "records was " in err


def test_maps_made_anew_are_scored_anew(scored, tiny, tmp_path, mmel):
    """The same command after `explain --overwrite` on other images of the same names never gives the old numbers."""
    shutil.copytree(scored / "in", tmp_path / "in")
    run = ["explain", tmp_path / "in", "--out", tmp_path / "run", "--model", tiny, "--set", "heatmaps=false"]
    look = ["eval", tmp_path / "run", "--metrics", "sparseness", "--json", *QUICK]
    assert mmel(*run)[0] == 0
    first = json.loads(mmel(*look)[1])["metrics"]["sparseness"]["runs"]["run"]["mean"]
    for path in (tmp_path / "in/images").iterdir():
        Image.fromarray(np.asarray(Image.open(path).convert("RGB"))[::-1]).save(path)
    assert mmel(*run, "--overwrite")[0] == 0
    assert json.loads(mmel(*look)[1])["metrics"]["sparseness"]["runs"]["run"]["mean"] != first


def test_records_of_two_datasets_with_the_same_names_are_not_compared(scored, tiny, tmp_path, mmel):
    shutil.copytree(scored / "in", tmp_path / "in")
    rows = [json.loads(line) for line in (tmp_path / "in/metadata.jsonl").read_text().splitlines()]
    rows[0] |= {"text": "something else", "phrases": []}
    (tmp_path / "in/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mmel("explain", tmp_path / "in", "--out", tmp_path / "run", "--model", tiny, "--set", "heatmaps=false")
    code, out, err = mmel("eval", scored / "mmel", tmp_path / "run", "--out", tmp_path / "out", "--metrics",
                          "sparseness", "--json", *QUICK)  # fmt: skip
    assert code == 0
    assert "1 record has another caption" in err
    assert json.loads(out)["records"] == len(rows) - 1


def test_new_maps_are_refused_when_the_weights_file_changed(scored, tiny, tmp_path, mmel):
    from mmel_cli import load_archive as load
    from mmel_cli.attribution import Target
    from mmel_cli.attribution.weights import save_weights, untrained

    with load(scored / "mmel") as archive:
        info = archive.info
    file = tmp_path / "w.safetensors"
    weights = untrained(len(info.layers), (1, 2, 4))
    save_weights(file, weights, Target(str(tiny), info.model_sha256, info.layers))
    run = ["explain", scored / "in", "--out", tmp_path / "run", "--model", tiny, "--weights", file, "--limit", 4]
    assert mmel(*run, "--set", "heatmaps=false")[0] == 0
    weights.layer[0] += 1
    save_weights(file, weights, Target(str(tiny), info.model_sha256, info.layers))
    code, out, err = mmel("eval", tmp_path / "run", "--metrics", "max-sensitivity,sparseness", "--json", *QUICK)
    assert code == 3
    assert "weights_sha256 changed" in err
    assert json.loads(out)["metrics"]["max-sensitivity"]["runs"] == {}


def test_a_truncated_model_is_refused_and_the_rest_scored(scored, tiny, tmp_path, mmel):
    shutil.copytree(tiny, tmp_path / "model")
    weights = tmp_path / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    command = ["eval", scored / "mmel", "--out", tmp_path / "out", "--model", tmp_path / "model", "--json", *QUICK]
    code, out, err = mmel(*command, "--metrics", "insertion,sparseness")
    assert code == 3, err
    assert "cannot be loaded" in err
    assert "sparseness" in json.loads(out)["metrics"]


def test_a_folder_that_cannot_be_made_is_one_line(scored, tmp_path, mmel):
    (tmp_path / "file").write_text("")
    code, _, err = mmel("eval", scored / "mmel", "--out", tmp_path / "file/eval", "--metrics", "sparseness")
    assert code == 1
    assert "file" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_model_is_loaded_once_for_all_runs_that_share_it(scored, tmp_path, monkeypatch):
    from mmel_cli.config import load_eval_config
    from mmel_cli.pipelines import evaluate, models

    loaded, load = [], models.load_model
    monkeypatch.setattr(models, "load_model", lambda name, *more: loaded.append(name) or load(name, *more))
    given = {"metrics": ("insertion-deletion",), "plots": False, "report": False, "device": "cpu", "limit": 3}
    runs = [scored / name for name in ("grad-eclip", "mmel", "random")]
    found = evaluate.evaluate(runs, load_eval_config(None, QUICK[1::2], given), tmp_path / "out")
    assert found.report["failed"] == {"grad-eclip": 0, "mmel": 0, "random": 0}
    assert len(loaded) == 1
    copied = shutil.copytree(loaded[0], tmp_path / "elsewhere")
    given |= {"model": str(copied)}
    evaluate.evaluate(runs[:2], load_eval_config(None, QUICK[1::2], given), tmp_path / "again")
    assert loaded[1:] == [str(copied)]

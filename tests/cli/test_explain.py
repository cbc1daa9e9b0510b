"""`mmel explain` as a user runs it: folders in, archive, heatmaps, report and exit codes out."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import yaml
from data.test_images import png_header
from PIL import Image
from report_data import Report

from mmel_cli import load_archive


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    """Fifty good pairs, one with a hostile caption, and one of each fault."""
    root = tmp_path_factory.mktemp("messy")
    folder, rng = root / "in", np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for i in range(51):
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(folder / f"good{i:02}.jpg")
        rows.append({"file_name": f"good{i:02}.jpg", "text": f"a red dog {i}" if i else "a dog [/b] <script>"})
    whole = (folder / "good01.jpg").read_bytes()
    bad = {
        "empty.jpg": b"",
        "page.jpg": b"<html></html>",
        "half.jpg": whole[: len(whole) // 2],
        "thin.png": png_header(1, 65000),
        "huge.png": png_header(20000, 10000),
        "silent.jpg": whole,
    }
    for name, data in bad.items():
        (folder / name).write_bytes(data)
        rows.append({"file_name": name, "text": "" if name == "silent.jpg" else "a cat"})
    (root / "outside.jpg").write_bytes(whole)
    os.symlink(root / "outside.jpg", folder / "link.jpg")
    rows += [{"file_name": "../outside.jpg", "text": "x"}, {"file_name": "link.jpg", "text": "x"}]
    rng.shuffle(rows)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_one_of_each_fault_among_fifty_good_pairs(messy, tiny, tmp_path, mmel):
    code, out, err = mmel("explain", messy, "--out", tmp_path / "run", "--model", tiny, "--device", "cpu")
    assert code == 3, err
    with load_archive(tmp_path / "run") as archive:
        assert len(archive) == 51
        assert "a dog [/b] <script>" in {record.caption for record in archive}
    failures = [json.loads(line) for line in (tmp_path / "run/failures.jsonl").read_text().splitlines()]
    names = {"empty.jpg", "page.jpg", "half.jpg", "thin.png", "huge.png", "silent.jpg", "outside.jpg", "link.jpg"}
    assert len(failures) == len(names)
    assert {name for name in names for f in failures if name in f["id"]} == names
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["done"], summary["failed"], summary["without_caption"]) == (51, 8, 1)
    assert summary["failed_by_stage"] == {"image": 5, "pair": 3}
    assert "8 failed (5 image, 3 pair" in out
    assert "1 image had no caption" in out
    assert len(list((tmp_path / "run/heatmaps").rglob("*.jpg"))) == 51
    report = Report(tmp_path / "run")
    assert "a dog [/b] <script>" in report.column("caption")
    assert report.head["failed"] == [8]
    assert mmel("verify", tmp_path / "run")[0] == 0


def test_files_of_a_run(photos, tiny, tmp_path, mmel):
    run = tmp_path / "run"
    code, _, err = mmel(
        "explain",
        photos,
        "--out",
        run,
        "--model",
        tiny,
        "--device",
        "cpu",
        "--batch-size",
        5,
        "--set",
        "archive.shard_size=7",
    )
    assert code == 0
    assert "HuggingFace imagefolder (metadata.jsonl)" in err
    assert [p.name for p in sorted((run / "archive").iterdir())] == [f"part-0000{n}.h5" for n in range(3)]
    content = yaml.safe_load((run / "run.yaml").read_text())
    assert content["config"]["method"]["name"] == "mmel"
    assert content["model"]["image_processor"]["class"] == "CLIPImageProcessorPil"
    with h5py.File(run / "archive/part-00000.h5") as file:
        assert file["map"].shape == (10, 4, 4)
        assert file["layers/flow"].shape == (10, 4, 4, 4)
        assert file["layers/shared_2"].shape == (10, 4, 4, 2, 2)
        assert file.attrs["model_sha256"] == content["model"]["sha256"]
        assert list(file["tokens/text"].asstr()[0][:4]) == ["a", "red", "dog", ""]
    assert json.loads((run / "summary.json").read_text())["complete"] is True
    assert mmel("merge", run, "--out", tmp_path / "all.h5")[0] == 0
    with load_archive(run) as shards, load_archive(tmp_path / "all.h5") as merged:
        assert shards.ids == merged.ids == [f"{i:02}.png#{k}" for i in range(12) for k in (0, 1)]


@pytest.mark.parametrize("method", ["grad-eclip", "flow", "mmel", "random"])
@pytest.mark.parametrize("geometry", ["native", "squash", "letterbox"])
def test_every_method_and_geometry(photos, tiny, tmp_path, mmel, method, geometry):
    run = tmp_path / "run"
    settings = ["--set", f"image.geometry={geometry}", "--set", "heatmaps=false", "--limit", 3]
    code, _, err = mmel("explain", photos, "--out", run, "--model", tiny, "--method", method, *settings)
    assert code == 0, err
    with load_archive(run) as archive:
        assert archive.info.geometry == geometry
        for record in archive:
            assert np.isfinite(record.map).all()
            assert record.map.any() or method == "grad-eclip"  # a random model may have only evidence against
            if method == "flow":
                np.testing.assert_allclose(record.map, record.fields["layers/flow"].sum(0), rtol=1e-5, atol=1e-7)
    assert not (run / "heatmaps").exists()


def test_json_is_the_only_thing_on_stdout(photos, tiny, tmp_path, mmel):
    code, out, _ = mmel("explain", photos, "--out", tmp_path / "run", "--model", tiny, "--limit", 2, "--json")
    assert code == 0
    assert json.loads(out)["done"] == 2


def test_one_image_with_a_caption(photos, tiny, tmp_path, mmel):
    code, _, err = mmel(
        "explain", photos / "00.png", "--caption", "a blue cat", "--out", tmp_path / "run", "--model", tiny
    )
    assert code == 0, err
    with load_archive(tmp_path / "run") as archive:
        assert archive["00.png#0"].caption == "a blue cat"


def test_a_caption_longer_than_the_context_is_recorded(photos, tiny, tmp_path, mmel):
    text = "a red dog on the grass " * 5
    code, out, _ = mmel("explain", photos / "00.png", "--caption", text, "--out", tmp_path / "run", "--model", tiny)
    assert code == 0
    assert "1 caption longer" in out
    with load_archive(tmp_path / "run") as archive:
        record = next(iter(archive))
    assert record.truncated
    assert len(record.tokens) == 14


def test_dry_run_counts_and_writes_nothing(messy, tmp_path, mmel):
    code, out, _ = mmel("explain", messy, "--out", tmp_path / "run", "--model", "builtin", "--dry-run", "--json")
    assert code == 0
    assert {k: json.loads(out)[k] for k in ("pairs", "failures", "without_caption")} == {
        "pairs": 56, "failures": 3, "without_caption": 1,
    }  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_the_same_command_goes_on_and_another_is_refused(photos, tiny, tmp_path, mmel):
    command = ["explain", photos, "--out", tmp_path / "run", "--model", tiny, "--set", "archive.shard_size=5"]
    assert mmel(*command, "--limit", 7)[0] == 0
    code, _, err = mmel(*command, "--batch-size", 4, "--workers", 2)  # these may differ
    assert code == 0
    assert "Going on: 7 records done" in err
    with load_archive(tmp_path / "run") as archive:
        assert len(archive) == len(set(archive.ids)) == 24
    for change in (["--method", "flow"], ["--set", "archive.channels=final"], ["--dtype", "bfloat16"]):
        code, _, err = mmel(*command, *change)
        assert code == 2
        assert "--overwrite" in err
    code, _, _ = mmel(*command, "--method", "flow", "--overwrite", "--limit", 2)
    with load_archive(tmp_path / "run") as archive:
        assert archive.info.method == "flow"
        assert len(archive) == 2


def test_other_weights_under_the_same_name_are_refused(photos, tmp_path, mmel):
    from tiny_clip import make_tiny

    command = ["explain", photos, "--out", tmp_path / "run", "--model", make_tiny(tmp_path / "m"), "--limit", 2]
    assert mmel(*command)[0] == 0
    make_tiny(tmp_path / "m", seed=9)
    code, _, err = mmel(*command)
    assert code == 2
    assert "weights (SHA-256) was " in err


def test_failures_are_tried_again(photos, tiny, tmp_path, mmel):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    (folder / "a.txt").write_text("a red dog")
    assert mmel("explain", folder, "--out", tmp_path / "run", "--model", tiny)[0] == 3
    (folder / "a.png").write_bytes((photos / "00.png").read_bytes())
    assert mmel("explain", folder, "--out", tmp_path / "run", "--model", tiny)[0] == 0
    assert (tmp_path / "run/failures.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{photos}"], "--out"),
        (["{tmp}/gone", "--out", "{tmp}/r"], "does not exist"),
        (["{photos}", "--out", "{photos}"], "holds no mmel run"),
        (["{photos}", "--out", "{tmp}/r", "--model", "{tiny}", "--method", "magic"], "grad-eclip"),
        (["{photos}", "--out", "{tmp}/r", "--model", "{tiny}", "--set", "method.layers=9.5"], "method.layers"),
        (["{photos}", "--out", "{tmp}/r", "--model", "{tiny}", "--weights", "{tmp}/none"], "weights"),
        (["{photos}", "--out", "{tmp}/r", "--model", "{tiny}", "--device", "tpu"], "device"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(photos, tiny, tmp_path, mmel, arguments, says):
    code, _, err = mmel("explain", *(a.format(photos=photos, tmp=tmp_path, tiny=tiny) for a in arguments))
    lines = [line for line in err.splitlines() if not line.startswith("Input:")]
    assert code == 2
    assert len(lines) == 1
    assert says in lines[0]


def test_help_loads_no_torch():
    code = "import sys; sys.argv = ['mmel', '--help']\nfrom mmel_cli.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\nassert not {'torch', 'transformers', 'h5py'} & set(sys.modules)"
    text = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    for command in ("explain", "eval", "verify", "merge", "scenes", "methods"):
        assert command in text


def test_ids_and_captions_are_never_read_as_markup_or_terminal_codes(tiny, tmp_path, mmel):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "[red]x[.png").write_bytes(b"")
    (folder / "b\x1b[31m.png").write_bytes(b"")
    (folder / "[red]x[.txt").write_text("[b]bold \x1b[31m")
    code, out, err = mmel("explain", folder, "--out", tmp_path / "run", "--model", tiny)
    assert code == 3
    assert "\x1b" not in out + err

"""The value of a word is what the score really loses without it, and pictures and report say nothing else."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from report_data import Report, single
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from mmel_cli import load_archive
from mmel_cli.model import LeftOut
from mmel_cli.model.adapter import BUILTIN_FOLDER
from mmel_cli.model.two_towers import TwoTowers
from mmel_cli.render.words import colour, scale_of

KINDS = ("object", "attributes", "pair", "relation", "count")
ODD = [
    "café cafe\u0301 of a RED  circle",
    "😀😀 a circle 👩‍👩‍👧",
    "一只红色的狗 と circle",
    "a <|endoftext|> red <|startoftext|> circle",
    "?! ...",
    "circle",
    " ".join(["a red circle and a blue square"] * 29),
]


def strength(levels):
    """A colour as a reader takes it: above 0 orange, below 0 blue, at 0 white."""
    red, _, blue = levels
    return (255 - blue) / 215 if red > blue else -(255 - red) / 135


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Scenes of the test split with all kinds of captions, and odd captions, explained once."""
    from typer.testing import CliRunner

    from mmel_cli.cli.app import app

    folder = tmp_path_factory.mktemp("words")
    source, out, runner = folder / "scenes", folder / "run", CliRunner()
    assert runner.invoke(app, ["scenes", str(source), "--count", "36", "--seed", "5"]).exit_code == 0
    rows = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()]
    rows += [{"file_name": rows[0]["file_name"], "text": text} for text in ODD]
    (source / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["--out", str(out), "--model", "builtin", "--method", "flow", "--batch-size", "7", "--device", "cpu"]
    result = runner.invoke(app, ["explain", str(source), *given, "--set", "heatmaps=false"])
    assert result.exit_code == 0, result.output
    return source, out


@pytest.mark.slow
def test_values_of_seven_hundred_words_are_the_change_of_the_score_on_leaving_them_out(run):
    source, out = run
    model = CLIPModel.from_pretrained(BUILTIN_FOLDER).eval()
    tokenizer = AutoTokenizer.from_pretrained(BUILTIN_FOLDER)
    processor = CLIPImageProcessorPil.from_pretrained(BUILTIN_FOLDER)
    length = model.config.text_config.max_position_embeddings
    total, images = 0, {}
    with load_archive(out) as archive, torch.no_grad():
        kinds = {json.loads(line).get("kind") for line in (source / "metadata.jsonl").read_text().splitlines()}
        assert kinds == {*KINDS, None}
        for record in archive:
            if record.image not in images:
                pixels = processor(Image.open(source / record.image).convert("RGB"), return_tensors="pt")
                images[record.image] = model.get_image_features(**pixels).pooler_output
            cut = [record.caption[: w.start] + record.caption[w.end :] for w in record.words]
            texts = [record.caption, *(re.sub(r"\s+", " ", text).strip() for text in cut)]
            options = {"padding": True, "truncation": True, "max_length": length, "split_special_tokens": True}
            encoded = tokenizer(texts, return_tensors="pt", **options)
            embeds = model.get_text_features(**encoded).pooler_output
            scores = torch.cosine_similarity(images[record.image], embeds).numpy()
            assert record.score == pytest.approx(scores[0], abs=1e-5)
            np.testing.assert_allclose(record.word_values, scores[0] - scores[1:], atol=1e-5, err_msg=record.caption)
            total += len(record.words)
    assert total >= 700


@pytest.mark.slow
def test_every_word_of_the_report_has_its_number(run):
    _, out = run
    report = Report(out)
    assert report.head["runs"][0]["has"]["words"] is True
    with load_archive(out) as archive:
        assert report.column("id") == archive.ids
        for n, record in enumerate(archive):
            shown, caption = report.maps(0, n), record.caption.encode("utf-16-le")
            words = [caption[2 * start : 2 * end].decode("utf-16-le") for start, end in shown["words"]]
            assert words == [word.text for word in record.words]
            assert [single(value) for value in shown["values"]] == list(record.word_values)


@pytest.mark.slow
def test_pictures_paint_the_same(run, tmp_path, mmel):
    source, _ = run
    given = ("--model", "builtin", "--method", "flow", "--limit", 12, "--set", "heatmap.format=png")
    assert mmel("explain", source, "--out", tmp_path / "run", *given)[0] == 0
    seen = 0
    with load_archive(tmp_path / "run") as archive:
        for record, path in zip(archive, sorted((tmp_path / "run/heatmaps").rglob("*.png")), strict=True):
            row = [tuple(int(n) for n in pixel) for pixel in np.asarray(Image.open(path))[394]]  # above the letters
            painted = [c for n, c in enumerate(row) if c != (255, 255, 255) and c != row[n - 1]]
            scale = scale_of(record.word_values)
            wanted = [c for c in (colour(float(v) / scale) for v in record.word_values) if c != (255, 255, 255)]
            if painted != wanted:  # a caption of two lines has the first here
                assert painted == wanted[: len(painted)], record.caption
                assert len(record.caption) > 35
            seen += 1
    assert seen == 12


def values_of(mmel, source, out, *options):
    code, _, err = mmel("explain", source, "--out", out, "--set", "heatmaps=false", *options)
    assert code == 0, err
    with load_archive(out) as archive:
        return {(record.image, record.caption): record.word_values for record in archive}


@pytest.mark.parametrize(
    "options",
    [
        ("--method", "random"),
        ("--method", "grad-eclip", "--set", "method.heads=single"),
        ("--method", "flow", "--set", "method.shifts=3"),
        ("--method", "mmel", "--set", "archive.channels=final"),
    ],
)
def test_they_belong_to_the_model_and_the_pair_whatever_the_method(photos, tiny, tmp_path, mmel, options):
    wanted = values_of(mmel, photos, tmp_path / "flow", "--model", tiny, "--method", "flow")
    found = values_of(mmel, photos, tmp_path / "other", "--model", tiny, *options, "--batch-size", 5)
    assert found.keys() == wanted.keys()
    for pair, values in wanted.items():
        assert len(values) == 3
        np.testing.assert_allclose(found[pair], values, atol=2e-6)
    assert mmel("verify", tmp_path / "other")[0] == 0
    assert mmel("merge", tmp_path / "other", "--out", tmp_path / "one.h5")[0] == 0
    with load_archive(tmp_path / "one.h5") as merged:
        assert all(np.array_equal(r.word_values, found[r.image, r.caption]) for r in merged)


def test_no_image_goes_through_the_model_for_them(photos, tiny, tmp_path, mmel, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("an image forward")

    monkeypatch.setattr(TwoTowers, "embed_images", refuse)
    assert values_of(mmel, photos, tmp_path / "run", "--model", tiny, "--method", "flow")


def test_switched_off_nothing_is_computed_shown_or_claimed(photos, tiny, tmp_path, mmel, monkeypatch):
    def refuse(*_args):
        raise AssertionError("word values")

    monkeypatch.setattr(LeftOut, "embeds", refuse)
    out = tmp_path / "run"
    code, _, err = mmel("explain", photos, "--out", out, "--model", tiny, "--set", "word_values=false", "--limit", 3)
    assert code == 0, err
    with load_archive(out) as archive:
        assert [record.word_values for record in archive] == [None] * 3
        assert [word.text for word in archive["00.png#0"].words] == ["a", "red", "dog"]
    report = Report(out)
    assert report.column("caption")[0] == "a red dog"
    assert report.head["runs"][0]["has"]["words"] is False
    assert [report.maps(0, n)["values"] for n in range(3)] == [None] * 3
    code, _, err = mmel("explain", photos, "--out", out, "--model", tiny, "--limit", 3)
    assert code == 2
    assert "word_values was false, is now true" in err.replace("\n", " ")


def test_fuse_copies_them_and_eval_does_not_pay_for_them(photos, tiny, tmp_path, mmel, monkeypatch):
    run, fused = tmp_path / "run", tmp_path / "fused"
    wanted = values_of(mmel, photos, run, "--model", tiny, "--limit", 6)
    monkeypatch.setattr(LeftOut, "embeds", lambda *_: pytest.fail("computed again"))
    code, _, err = mmel("fuse", run, "--weights", "untrained", "--out", fused)
    assert code == 0, err
    with load_archive(fused) as archive:
        assert all(np.array_equal(r.word_values, wanted[r.image, r.caption]) for r in archive)
        assert archive.info.config["word_values"] is True
    report = Report(fused)
    pairs = zip(report.column("image"), report.column("caption"), strict=True)
    assert len(report.column("id")) == 6
    for n, pair in enumerate(pairs):
        assert [single(value) for value in report.maps(0, n)["values"]] == list(wanted[pair])
    assert [len(report.maps(0, n)["words"]) for n in range(6)] == [3] * 6
    code, _, err = mmel("eval", run, "--metrics", "max-sensitivity,randomisation", "--limit", 2)
    assert code == 0, err


def test_memory_that_runs_out_for_good_is_a_failure_of_its_pair(photos, tiny, tmp_path, mmel, monkeypatch):
    real = TwoTowers.embed_texts

    def small(self, captions):
        if any("blue" in token for tokens in captions.tokens for token in tokens):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, captions)

    monkeypatch.setattr(TwoTowers, "embed_texts", small)
    code, out, _ = mmel("explain", photos, "--out", tmp_path / "run", "--model", tiny, "--limit", 4, "--json")
    assert code == 3
    assert (json.loads(out)["done"], json.loads(out)["failed_by_stage"]) == (2, {"model": 2})

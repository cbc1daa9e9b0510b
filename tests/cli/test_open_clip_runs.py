"""The commands on open_clip checkpoints: archived scores are those of a literal forward, and every command runs."""

import json

import numpy as np
import pytest
import torch
from open_clip_zoo import CAPTIONS, CONTEXT, KINDS, make_open_clip
from oracles.open_clip_forward import encode_image, encode_text, literal_pixels
from PIL import Image
from transformers import AutoTokenizer

from mmel_cli import load_archive

SIZES = [(44, 61), (43, 40), (40, 47), (333, 40), (39, 100)]  # after the resize: margins of 3 and 7, and none at all


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Every caption once, on images of several sizes."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(3)
    for number, (width, height) in enumerate(SIZES):
        values = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")
    rows = [{"file_name": f"{n % len(SIZES)}.png", "text": caption} for n, caption in enumerate(CAPTIONS)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("quick", [False, True], ids=["gelu", "quick-gelu"])
@pytest.mark.parametrize("kind", KINDS)
def test_archived_scores_are_those_of_a_literal_forward(pairs, tmp_path, mmel, kind, quick):
    folder, tensors, config = make_open_clip(tmp_path / "m", kind, quick=quick, prefix="text." if quick else "")
    command = ["explain", pairs, "--out", tmp_path / "run", "--model", folder, "--method", "flow", "--batch-size", 7]
    code, _, err = mmel(*command, "--set", "heatmaps=false")
    assert code == 0, err
    state = {name: tensor.double() for name, tensor in tensors.items()}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = [literal_pixels(Image.open(pairs / f"{n}.png"), config) for n in range(len(SIZES))]
    images = [encode_image(state, config, pixels)[0] for pixels in images]
    with load_archive(tmp_path / "run") as archive:
        assert len(archive) == len(CAPTIONS)
        for record in archive:
            if kind == "unigram" and "<end_of_text>" in record.caption:
                continue  # its vocabulary holds special tokens as pieces: what they are in a text is another test
            row = tokenizer(record.caption, split_special_tokens=True, truncation=True, max_length=CONTEXT)["input_ids"]
            text = encode_text(state, config, row)[0]
            image = images[int(record.id.split(".")[0])]
            expected = torch.cosine_similarity(image, text, dim=0).item()
            assert record.score == pytest.approx(expected, abs=1e-5), record.caption
            assert record.logit == pytest.approx(np.exp(2.3) * expected, abs=2e-4)


@pytest.mark.slow
def test_every_command_runs_on_one(photos, tmp_path, mmel):
    folder, _, _ = make_open_clip(tmp_path / "m", "pieces", quick=True, prefix="text.", bias=-3.0)
    run, weights, fused = tmp_path / "run", tmp_path / "w.safetensors", tmp_path / "fused"
    command = ["explain", photos, "--out", run, "--model", folder, "--batch-size", 5, "--weights", "untrained"]
    code, _, err = mmel(*command, "--limit", 9)
    assert code == 0, err
    assert mmel("verify", run)[0] == 0
    assert len(list((run / "heatmaps").glob("*"))) > 0
    settings = ["--set", "training.epochs=2", "--set", "training.validation=0.4", "--set", "training.batch=7"]
    command = ["train-weights", run, "--out", weights, "--set", "training.objective=faithfulness", *settings]
    code, _, err = mmel(*command)
    assert code == 0, err
    code, _, err = mmel("fuse", run, "--weights", weights, "--out", fused)
    assert code == 0, err
    metrics = ("insertion", "token-deletion", "sparseness", "randomisation")
    code, out, err = mmel("eval", run, fused, "--metrics", ",".join(metrics), "--limit", 6, "--json")
    assert code == 0, err
    report = json.loads(out)["metrics"]
    assert [report[name]["runs"]["fused"]["records"] for name in metrics] == [6] * 4
    with load_archive(fused) as two, load_archive(run) as one:
        assert one.info.model_sha256 == two.info.model_sha256
        for a, b in zip(one, two, strict=True):
            assert a.logit == b.logit == pytest.approx(np.exp(2.3) * a.score - 3.0, abs=1e-4)
            assert b.map.std() > 0


def test_a_model_that_is_not_standard_is_one_line_of_the_command(photos, tmp_path, mmel):
    folder, _, config = make_open_clip(tmp_path / "m")
    config["model_cfg"]["text_cfg"]["hf_model_name"] = "roberta-base"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    code, out, err = mmel("explain", photos, "--out", tmp_path / "run", "--model", folder)
    assert (code, out) == (1, "")
    assert 'text_cfg.hf_model_name = "roberta-base"' in err.replace("\n", " ")
    assert not list((tmp_path / "run").rglob("*.h5"))

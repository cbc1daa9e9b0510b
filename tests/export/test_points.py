"""`mmel export --to points`, given to SAM as transformers has it."""

import json

import pytest
from export.conftest import BOXES
from PIL import Image
from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("geometry", BOXES)
def test_points_lie_in_the_evidence_and_the_other_outside(geometry, placed, tmp_path, mmel):
    code, out, err = mmel(
        "export", placed[geometry], "--to", "points", "--out", tmp_path / "p.jsonl", "--threshold", 0.5
    )
    assert code == 0, err
    assert "5 records, 5 prompts, 0 prompts without a point" in out
    x0, y0, x1, y1 = BOXES[geometry]
    for line in lines(tmp_path / "p.jsonl"):
        (prompt,) = line["prompts"]
        assert prompt["labels"] == [1, 0]
        (x, y), (other_x, other_y) = prompt["points"]
        assert x0 < x < x1
        assert y0 < y < y1
        assert not (x0 <= other_x <= x1 and y0 <= other_y <= y1)
        assert 0 <= other_x < line["width"]
        assert 0 <= other_y < line["height"]
        assert prompt["box"] == [x0, y0, x1, y1]


def test_a_prompt_for_the_caption_and_each_phrase(spoken, tmp_path, mmel):
    assert mmel("export", spoken, "--to", "points", "--out", tmp_path / "p.jsonl", "--points", 2)[0] == 0
    first = lines(tmp_path / "p.jsonl")[0]
    assert [(p["kind"], p["text"]) for p in first["prompts"]] == [
        ("caption", "a red dog and a blue cat"),
        ("phrase", "a red dog"),
        ("phrase", "a blue cat"),
    ]
    for line in lines(tmp_path / "p.jsonl"):
        for prompt in line["prompts"]:
            assert len(prompt["points"]) == len(prompt["labels"]) == len(prompt["values"])
            assert prompt["labels"].count(1) <= 2
            meant = [value for value, label in zip(prompt["values"], prompt["labels"], strict=True) if label]
            assert meant == sorted(meant, reverse=True)
            assert all(value > 0 for value in meant)
    hostile = lines(tmp_path / "p.jsonl")[1]["prompts"][0]
    assert hostile["text"].startswith("a cat \u2028 </script>")


def test_sam_takes_them_as_they_are(placed, tmp_path, mmel):
    """A random SAM: what it makes of the prompts is not the point, that it takes them is."""
    run = placed["native"]
    assert mmel("export", run, "--to", "points", "--out", tmp_path / "p.jsonl", "--threshold", 0.5)[0] == 0
    line = lines(tmp_path / "p.jsonl")[3]
    prompt = line["prompts"][0]
    image = Image.open(run.parent / "in" / line["image"])
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "output_channels": 16}
    small |= {"image_size": 64, "patch_size": 8, "global_attn_indexes": [0], "num_pos_feats": 8, "mlp_dim": 32}
    prompts = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "image_embedding_size": 8}
    decoder = {
        "hidden_size": 16,
        "mlp_dim": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
    }
    config = SamConfig(vision_config=small, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    processor = SamProcessor(SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}))
    inputs = processor(
        image,
        input_points=[[prompt["points"]]],
        input_labels=[[prompt["labels"]]],
        input_boxes=[[prompt["box"]]],
        return_tensors="pt",
    )
    masks = processor.post_process_masks(
        SamModel(config)(**inputs).pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
    )
    assert masks[0].shape[-2:] == (line["height"], line["width"])
    scale = 64 / 160  # SAM's pixels: the longer side is 64
    assert inputs["input_points"][0, 0, 0].tolist() == pytest.approx([v * scale for v in prompt["points"][0]])

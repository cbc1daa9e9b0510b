"""Lengths of patches are those of transformers' own hidden states, where the last attention reads them."""

import pytest
import torch
from open_clip_zoo import make_open_clip
from PIL import Image
from tiny_clip import make_tiny
from zoo import make_model

from mmel_cli.model import CaptureRequest, load_model

MADE = {"tiny": make_tiny, "open_clip": lambda folder: make_open_clip(folder)[0]}
BEHIND = {"siglip": -1}  # the probe reads the output of the last encoder layer, a class token that of the last but one


@pytest.mark.parametrize("family", ["tiny", "clip", "siglip", "altclip", "chinese_clip", "open_clip"])
@pytest.mark.parametrize(("layers", "gradient", "whole"), [((1, 3), "balanced", True), ((2,), "none", False)])
def test_they_are_of_what_the_last_attention_reads(tmp_path, family, layers, gradient, whole):
    folder = tmp_path / "m"
    folder = MADE[family](folder) if family in MADE else make_model(folder, family)
    model = load_model(str(folder), "cpu", "float32")
    images = [Image.effect_mandelbrot((50, 40), (-2, -1, 1, 1), n).convert("RGB") for n in (20, 90)]
    pixels = [model.preprocess(image, "native") for image in images]
    request = CaptureRequest(layers, (2,), gradient=gradient, whole=whole)
    capture = model.capture(pixels, model.tokenize(["a red dog", "cat"]), [(1, 0), (0, 1), (1, 1)], request)
    states = model._model.vision_model(
        torch.stack([one.values for one in pixels]), output_hidden_states=True
    ).hidden_states  # of the encoder: its input, then the output of each layer
    read = states[BEHIND.get(family, -2)]
    lengths = read.norm(dim=-1)[:, -capture.norms.shape[1] :]
    torch.testing.assert_close(capture.norms, lengths[[1, 0, 1]])
    assert not capture.norms.requires_grad
    assert "norms" in model.spec.gives

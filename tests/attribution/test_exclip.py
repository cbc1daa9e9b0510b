"""exCLIP against its published form in float64, and what its sums leave over."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles.exclip_jacobians import image_side, interactions, text_side
from PIL import Image
from tiny_clip import make_tiny
from transformers import AutoModel
from zoo import ARCHITECTURES, make_model

from mmel_cli import load_archive
from mmel_cli.attribution import METHODS, exclip
from mmel_cli.fields import HIGH_NORM, MAP, MATCH, RESIDUAL, TOKEN_MAP, WORD_MAP, WORD_VALUE
from mmel_cli.model import load_model
from mmel_cli.model.tails import resumed
from mmel_cli.pipelines.engine import Engine

CAPTIONS = ["a red dog", "a photo of the cat"]
PAIRS = [(0, 1), (1, 0), (1, 1)]
NEUTRAL = {"clip": "<pad>", "metaclip_2": "<pad>", "altclip": "<unk>", "chinese_clip": "[UNK]", "siglip": "<pad>"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    made = {}

    def get(family):
        if family not in made:
            folder = tmp_path_factory.mktemp("exclip") / family
            made[family] = make_tiny(folder) if family == "tiny" else make_model(folder, family)
        return made[family], load_model(str(made[family]), "cpu", "float32")

    return get


def explained(model, pairs=PAIRS, captions=CAPTIONS, **params):
    noise = np.random.default_rng(3).integers(0, 255, (2, 44, 61, 3), dtype=np.uint8)
    pixels = [model.preprocess(Image.fromarray(one), "native") for one in noise]
    words = model.tokenize(captions)
    engine = Engine.build(model, METHODS["exclip"], exclip.Params(**params))
    capture = model.capture(pixels, words, pairs, engine.request)
    return pixels, words, capture, exclip.explain(capture, engine.params, None).fields


@pytest.mark.parametrize(
    ("family", "neutral", "blocks"),
    [
        ("tiny", 0, {}),  # padding and the unknown token are the end there, as in OpenAI's CLIP
        ("tiny", 0, {"block": 1, "text_block": 2}),
        ("siglip", 2, {}),
        ("chinese_clip", 1, {"block": -3}),
    ],
)
def test_it_is_the_published_form_with_a_backward_for_each_dimension(models, family, neutral, blocks):
    folder, model = models(family)
    pixels, words, capture, found = explained(model, steps=3, **blocks)
    assert model._parts.text.neutral == neutral
    raw = AutoModel.from_pretrained(folder).double().eval().requires_grad_(False)
    asked = [blocks.get(name, -2) for name in ("block", "text_block")]
    totals = [model.spec.layers, model.spec.text_layers]
    block, text_block = (n if n > 0 else total + 1 + n for n, total in zip(asked, totals, strict=True))
    kind = "clip" if family == "tiny" else family
    for pair, (image, row) in enumerate(PAIRS):
        ids = words.ids[row] if family == "siglip" else words.ids[row][words.mask[row].bool()]
        keys = words.places[row][words.places[row] >= 0]
        sides = (
            image_side(raw, kind, pixels[image].values, block),
            text_side(raw, kind, ids, keys, neutral, text_block),
        )
        matrix, change = interactions(*sides, 3)
        both = matrix[keys][:, 0 if family == "siglip" else 1 :]
        assert both.abs().max() > 1e-3
        expected = {
            MAP.name: both.sum(0).view(capture.grid),
            TOKEN_MAP.name: both.sum(1),
            WORD_MAP.name: torch.stack(
                [both[words.owners[row][: len(keys)] == word].sum(0) for word in range(len(words.words[row]))]
            ).view(-1, *capture.grid),
            RESIDUAL.name: matrix.sum() - change,
        }
        assert expected[RESIDUAL.name].abs() > 1e-4
        for name, values in expected.items():
            mine = found[name][pair][: len(values)] if name in (TOKEN_MAP.name, WORD_MAP.name) else found[name][pair]
            torch.testing.assert_close(mine.double(), values.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_the_residual_goes_to_zero_with_the_square_of_the_steps(models, family):
    _, model = models(family)
    left = [explained(model, steps=steps)[3][RESIDUAL.name].abs().max().item() for steps in (12, 48)]
    assert 11 < left[0] / left[1] < 22
    assert left[1] < 2e-4


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_what_follows_a_block_makes_of_its_output_what_the_model_makes(models, family):
    """And of the reference what it makes of an image of the mean colour, and of a caption that says nothing."""
    _, model = models(family)
    pixels, words, capture, _ = explained(model, steps=1)
    values = torch.stack([one.values for one in pixels])
    tails, text = capture.tails, model._parts.text
    assert text.tokenizer.convert_ids_to_tokens(text.neutral) == NEUTRAL[family]
    silent = words.ids.clone()
    for row, places in zip(silent, words.places, strict=True):
        row[places[places >= 0]] = text.neutral
    silent = replace(words, ids=silent)
    blanks = [model.embed_images(torch.zeros_like(values)), model.embed_texts(silent)]
    wholes = [model.embed_images(values), model.embed_texts(words)]
    sides = [(tails.of_image, tails.layers), (tails.of_text, tails.text_layers)]
    for embeds, blank, (of, layers) in zip(wholes, blanks, sides, strict=True):
        for block in range(1, layers):
            for number in (0, 1):
                tail = of(number, block)
                with torch.no_grad():
                    mine = tail.embed(torch.stack([tail.output, tail.reference]))
                torch.testing.assert_close(mine, torch.stack([embeds[number], blank[number]]), rtol=0, atol=1e-6)
                assert (tail.output - tail.reference).abs().max() > 1e-2
        assert (embeds - blank).abs().max() > 1e-2


def test_blocks_are_what_they_were_also_after_an_error(models):
    _, model = models("clip")
    pixels, _, capture, _ = explained(model, steps=1)
    values, before = pixels[0].values[None], model.embed_images(pixels[0].values[None])
    layers = model._parts.vision.attentions[:2]
    tokens = torch.zeros(1, 26, 32)
    with pytest.raises(ZeroDivisionError), resumed(layers, tokens):
        1 / float((model.embed_images(values) - before).abs().max() < 1e-3)
    assert torch.equal(model.embed_images(values), before)
    assert not any("forward" in vars(layer.block) for layer in model._parts.vision.attentions)
    with pytest.raises(RuntimeError):  # of another width
        capture.tails.of_image(0, 1).embed(torch.zeros(1, 26, 31))
    assert torch.equal(model.embed_images(values), before)


def test_passes_are_as_many_as_it_says(models, monkeypatch):
    _, model = models("clip")
    seen = {"image": [], "text": []}
    for name, counts in seen.items():
        real = getattr(model._model, f"get_{name}_features")
        monkeypatch.setattr(
            model._model,
            f"get_{name}_features",
            lambda real=real, counts=counts, **given: (
                counts.append(len(next(iter(given.values())))), real(**given))[1],
        )  # fmt: skip
    steps = 5
    _, words, _, _ = explained(model, pairs=[(0, 0), (0, 1), (1, 1), (0, 0)], steps=steps)
    counts = [len(tokens) for tokens in words.tokens]  # with the reference: at the block, and behind it
    assert sum(seen["image"]) == 2 + 2 * (2 + steps + 2)
    assert sum(seen["text"]) == 2 + sum(2 + steps * (count + 1) + 2 for count in counts)


def test_a_caption_without_text_has_no_interactions(models):
    _, model = models("clip")
    _, _, _, found = explained(model, pairs=[(0, 0), (0, 1)], captions=["", "a red dog"], steps=2)
    assert not found[MAP.name][0].any()
    assert found[RESIDUAL.name][0].abs() < 1e-6
    assert found[MAP.name][1].any()


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("block=-1", "method.block: -1 is no layer of the tower that another follows; these are layers 1 to 3 (or -2"),
        ("block=4", "method.block: 4 is no layer"),
        ("text_block=0", "method.text_block: 0 is no layer of the tower that another follows; these are layers 1 to 2"),
        ("text_block=-4", "method.text_block: -4"),
        ("steps=0", "method.steps must be at least 1"),
    ],
)
def test_what_there_is_not_is_one_line_of_the_command(photos, tiny, tmp_path, mmel, setting, says):
    given = ("--method", "exclip", "--set", f"method.{setting}")
    code, _, err = mmel("explain", photos, "--out", tmp_path / "run", "--model", tiny, *given)
    assert code == 2
    assert says in " ".join(err.split())
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_run_archives_a_number_a_record_and_refuses_words(photos, tiny, tmp_path, mmel, dtype):
    common = ["explain", photos, "--model", tiny, "--method", "exclip", "--batch-size", 5, "--limit", 11]
    common += ["--set", "method.steps=3", "--set", f"archive.dtype={dtype}", "--set", "heatmaps=false"]
    assert mmel(*common, "--out", tmp_path / "run")[0] == 0
    assert mmel("verify", tmp_path / "run")[0] == 0
    assert mmel("merge", tmp_path / "run", "--out", tmp_path / "all.h5")[0] == 0
    with load_archive(tmp_path / "all.h5") as archive:
        assert archive.info.fields == (MAP, TOKEN_MAP, WORD_MAP, RESIDUAL, WORD_VALUE, *MATCH, HIGH_NORM)
        left = archive.column(RESIDUAL.name)
        assert left.shape == (11,)
        assert len(set(left.tolist())) == 11
        for record, value in zip(archive, left, strict=True):
            assert record.fields[RESIDUAL.name].shape == ()
            assert float(record.fields[RESIDUAL.name]) == float(value)
            assert record.fields[WORD_MAP.name].shape == (len(record.words), 4, 4)
            close = {"rtol": 0, "atol": 1e-6 if dtype == "float32" else 2e-3 * np.abs(record.map).max()}
            np.testing.assert_allclose(record.fields[WORD_MAP.name].sum(0), record.map, **close)
            np.testing.assert_allclose(record.token_map.sum(), record.map.sum(), rtol=0, atol=20 * close["atol"])
    code, _, err = mmel(*common, "--out", tmp_path / "words", "--words")
    assert code == 2
    assert "--words: exclip gives words x regions of its own; leave --words out" in " ".join(err.split())

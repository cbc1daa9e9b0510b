"""SigLIP's own slow tokenizer: its ids, and where its tokens and words lie, although it lowercases and strips."""

import pytest
import sentencepiece
import torch
from PIL import Image
from transformers import SiglipModel, SiglipTokenizer
from zoo import CAPTIONS, CONTEXT, make_model

from mmel_cli.model import CaptureRequest, load_model
from mmel_cli.model.tokens import read


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    text = folder / "text.txt"
    text.write_text("\n".join(f"{caption.lower()} a photo of the red dog" for caption in CAPTIONS) + "\n")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "spiece"), vocab_size=150, character_coverage=0.98,
        pad_id=-1, bos_id=-1, eos_id=1, unk_id=2, normalization_rule_name="nmt_nfkc", hard_vocab_limit=False,
        control_symbols=["<ctrl>"], minloglevel=2,
    )  # fmt: skip
    return SiglipTokenizer(str(folder / "spiece.model"), model_max_length=CONTEXT)


@pytest.fixture(scope="module")
def model_folder(tokenizer, tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("siglip") / "m", "siglip", tokenizer=tokenizer)


def test_ids_are_the_tokenizers_own_and_spans_lie_in_the_caption(tokenizer):
    spans_known = 0
    for caption, reading in zip(CAPTIONS, read(tokenizer, CAPTIONS), strict=True):
        own = tokenizer(caption, split_special_tokens=True)["input_ids"]
        assert [*reading.before, *reading.ids, *reading.after] == own, caption
        assert all(0 <= start <= end <= len(caption) for start, end in reading.spans)
        ends = [end for start, end in reading.spans if end > start]
        assert ends == sorted(ends)
        spans_known += bool(ends) or not reading.ids
    assert spans_known >= 28


def test_words_are_those_of_the_caption_with_what_the_tokenizer_drops(tokenizer):
    def words(caption):
        reading = read(tokenizer, [caption])[0].cut(CONTEXT)
        return [word.text for word in reading.words]

    assert words("A Red DOG on the grass.") == ["A", "Red", "DOG", "on", "the", "grass."]
    assert words("it's the dog's photo") == ["it's", "the", "dog's", "photo"]
    assert words("...") == []
    assert words("a photo   of") == ["a", "photo", "of"]


def test_scores_equal_transformers_with_padding_to_the_length_of_training(model_folder, tokenizer):
    model, raw = load_model(str(model_folder), "cpu", "float32"), SiglipModel.from_pretrained(model_folder).eval()
    pixels = [model.preprocess(Image.effect_mandelbrot((50, 40), (-2, -1, 1, 1), 60).convert("RGB"), "native")]
    captions = model.tokenize(CAPTIONS)
    pairs = [(0, n) for n in range(len(CAPTIONS))]
    capture = model.capture(pixels, captions, pairs, CaptureRequest((4,), (2,)))
    ids = tokenizer(
        CAPTIONS, padding="max_length", truncation=True, max_length=CONTEXT, split_special_tokens=True,
        return_tensors="pt",
    )["input_ids"]  # fmt: skip
    with torch.no_grad():
        out = raw(input_ids=ids, pixel_values=pixels[0].values[None])
    expected = (out.image_embeds @ out.text_embeds.T)[0]
    torch.testing.assert_close(capture.score, expected, rtol=0, atol=1e-5)
    logits = torch.tensor([model.spec.scoring.logit(float(score)) for score in capture.score])
    torch.testing.assert_close(logits, out.logits_per_image[0], rtol=0, atol=1e-3)
    assert model.spec.scoring.kind == "sigmoid"
    assert captions.query.tolist() == [CONTEXT - 1] * len(CAPTIONS)


def test_a_caption_without_words_has_no_keys_but_a_score(model_folder):
    captions = load_model(str(model_folder), "cpu", "float32").tokenize(["...", "", "a dog"])
    assert (captions.places >= 0).sum(1).tolist()[:2] == [0, 0]
    assert captions.ids.shape == (3, CONTEXT)

"""Embeddings of captions without each word: independent of what else is asked for, kept within bounds, in halves."""

import copy

import numpy as np
import pytest
import torch

from mmel_cli.model import BUILTIN, LeftOut, load_model
from mmel_cli.model.words import without

WIDTH = 128
CAPTIONS = [
    "a red circle",
    "a small striped blue square above a green ring",
    "dog",
    "一只狗 é 👩‍👩‍👧 x",
    "a " * 40,
    "...",
]


@pytest.fixture(scope="module")
def builtin():
    return load_model(BUILTIN, "cpu", "float32")


def said(model, captions):
    return list(zip(captions, model.tokenize(list(captions)).words, strict=True))


def counting(model, most=None):
    """The same model, which notes how many texts go through it at once."""
    other, sizes = copy.copy(model), []

    def embed_texts(captions):
        sizes.append(len(captions.ids))
        if most is not None and len(captions.ids) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return model.embed_texts(captions)

    other.embed_texts = embed_texts
    return other, sizes


def test_each_is_the_model_s_own_embedding_of_the_edited_text(builtin):
    for text, words in said(builtin, CAPTIONS):
        (embeds,) = LeftOut(builtin).embeds([(text, words)])
        assert embeds.shape == (1 + len(words), WIDTH)
        edited = [text, *(without(text, word) for word in words)]
        assert (builtin.embed_texts(builtin.tokenize(edited)) - embeds).abs().max() < 2e-6, text


def test_a_caption_s_bits_do_not_depend_on_its_company_or_on_what_was_asked_before(builtin):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        everything = said(builtin, CAPTIONS)
        together = LeftOut(builtin).embeds(everything)
        used = LeftOut(builtin)
        used.embeds(everything[3:5])
        for one, wanted, again in zip(everything, together, used.embeds(everything), strict=True):
            assert torch.equal(LeftOut(builtin).embeds([one])[0], wanted)
            assert torch.equal(again, wanted)
    finally:
        torch.set_num_threads(threads)


def test_one_forward_a_distinct_text_of_a_distinct_caption_and_none_again(builtin):
    model, sizes = counting(builtin)
    left, everything = LeftOut(model), said(builtin, CAPTIONS)
    distinct = sum(len({text, *(without(text, word) for word in words)}) for text, words in everything)
    assert distinct < sum(1 + len(words) for _, words in everything)  # a word that stands twice in a row
    left.embeds(everything * 3)
    assert sum(sizes) == distinct
    assert max(sizes) <= 8
    left.embeds(everything)
    assert sum(sizes) == distinct


def test_no_more_embeddings_are_kept_than_allowed_and_the_oldest_go_first(builtin):
    model, sizes = counting(builtin)
    left, everything = LeftOut(model, most=12), said(builtin, ["a red circle", "a blue ring", "a green star", "dog"])
    for one in [*everything[:3], everything[0], everything[3]]:  # the fourth call uses the first again
        left.embeds([one])
    before = sum(sizes)
    left.embeds([everything[0], everything[3]])
    assert sum(sizes) == before
    left.embeds([everything[1]])
    assert sum(sizes) == before + 4
    (larger,) = LeftOut(model, most=2).embeds([everything[0]])  # one that does not fit is given all the same
    assert larger.shape[0] == 4


def test_where_memory_runs_out_texts_go_in_halves_and_one_alone_raises(builtin):
    (one,) = said(builtin, CAPTIONS[1:2])
    model, sizes = counting(builtin, most=3)
    (halved,) = LeftOut(model).embeds([one])
    torch.testing.assert_close(halved, LeftOut(builtin).embeds([one])[0], rtol=0, atol=1e-6)
    assert set(sizes) >= {2, 4, 8}
    with pytest.raises(torch.OutOfMemoryError):
        LeftOut(counting(builtin, most=0)[0]).embeds([one])


def test_values_are_differences_of_scores(builtin):
    captions = builtin.tokenize(CAPTIONS)
    images = torch.nn.functional.normalize(torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0)), dim=-1)
    found = LeftOut(builtin).values(images, captions, CAPTIONS, [1, 5, 1])
    for values, image, column in zip(found, images, [1, 5, 1], strict=True):
        words = captions.words[column]
        texts = [CAPTIONS[column], *(without(CAPTIONS[column], word) for word in words)]
        scores = (builtin.embed_texts(builtin.tokenize(texts)) @ image).numpy()
        np.testing.assert_allclose(values.numpy(), scores[0] - scores[1:], atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_what_the_cpu_gives(builtin):
    everything = said(builtin, [f"{text} {n}" for n in range(30) for text in CAPTIONS])  # more than one part
    other = load_model(BUILTIN, "cuda", "float32")
    for one, wanted in zip(LeftOut(other).embeds(everything), LeftOut(builtin).embeds(everything), strict=True):
        assert (one.cpu() - wanted).abs().max() < 1e-4

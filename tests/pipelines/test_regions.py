"""Words x regions: what the shares and maps of words and phrases add up to, on every architecture."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from zoo import ARCHITECTURES, CAPTIONS, make_model

from mmel_cli.attribution import METHODS
from mmel_cli.errors import UsageError
from mmel_cli.model import load_model
from mmel_cli.model.word_shares import WordOptions, WordShares
from mmel_cli.model.words import only
from mmel_cli.pipelines.batches import Batch
from mmel_cli.pipelines.engine import Engine
from mmel_cli.pipelines.regions import Words
from mmel_cli.tensors import Decoded
from mmel_cli.types import ImageRef, Phrase, Sample

TEXTS = [CAPTIONS[n] for n in (1, 5, 21, 3, 22)]
PAIRS = [(0, 0), (1, 1), (2, 2), (0, 3), (1, 4), (0, 1)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    made = {}

    def make(family):
        if family not in made:
            made[family] = load_model(
                str(make_model(tmp_path_factory.mktemp(family) / "m", family, "bytes")), "cpu", "float32"
            )
        return made[family]

    return make


def batch_of(model, pairs=PAIRS, texts=TEXTS, phrases=None):
    """Pairs of three images of noise; `phrases` gives the spans of a caption's."""
    rng = np.random.default_rng(4)
    images = [Image.fromarray(rng.integers(0, 255, (44 + 7 * n, 61, 3), dtype=np.uint8)) for n in range(3)]
    decoded = {
        f"{n}.png": Decoded(model.preprocess(image, "native"), (image.height, image.width))
        for n, image in enumerate(images)
    }
    refs = [ImageRef(key, BytesIO) for key in decoded]
    samples = [
        Sample(
            f"{image}.png#{n}",
            f"{image}.png",
            refs[image],
            texts[caption],
            phrases=tuple(Phrase(*span) for span in (phrases or {}).get(caption, ())),
        )
        for n, (image, caption) in enumerate(pairs)
    ]
    return Batch(samples, decoded)


def explained(model, name="flow", batch=None, texts=40, phrase="mean", **params):
    method = METHODS[name]
    words = Words.of(model, WordOptions(regions=True, texts=texts, phrase=phrase))
    engine = Engine.build(model, method, method.params(**params), words=words)
    records, failures = engine.explain(batch or batch_of(model))
    assert not failures
    return records


def embeds(model, texts):
    return model.embed_texts(model.tokenize(list(texts)))


def image_of(model, record):
    pixels = batch_of(model).images[record.image].pixels
    return model.embed_images(pixels.values[None])[0]


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_shares_sum_to_the_score_less_that_of_no_words_and_maps_and_rests_to_shares(models, family):
    model = models(family)
    for record in explained(model):
        share, maps, rest = (record.fields[f"words/{name}"] for name in ("share", "map", "rest"))
        assert maps.shape == (len(record.words), *model.spec.grid)
        none = float(embeds(model, [""])[0] @ image_of(model, record))
        assert share.sum() == pytest.approx(record.score - none, abs=1e-5)
        np.testing.assert_allclose(maps.sum((1, 2)) + rest, share, atol=1e-5)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_word_maps_sum_to_the_map_of_the_caption_less_that_of_no_words(models, family):
    """Flow is linear in the direction, and its own map is that of the caption's embedding."""
    model = models(family)
    captions = [*TEXTS, ""]
    for text in TEXTS[:3]:
        [whole] = explained(model, batch=batch_of(model, [(0, 0)], [text]))
        captions = model.tokenize([""])
        method = METHODS["flow"]
        engine = Engine.build(model, method, method.params())
        pixels = batch_of(model).images["0.png"].pixels
        empty = method.explain(model.capture([pixels], captions, [(0, 0)], engine.request), engine.params, None).map[0]
        scale = np.abs(whole.map).max()
        np.testing.assert_allclose(whole.fields["words/map"].sum(0), whole.map - empty.numpy(), atol=1e-4 * scale)


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("name", ["flow", "mmel"])
def test_a_phrase_that_is_the_whole_caption_has_the_caption_s_own_score_and_map(models, family, name):
    model = models(family)
    batch = batch_of(model, phrases={n: [(0, len(text))] for n, text in enumerate(TEXTS)})
    for record in explained(model, name, batch):
        assert [phrase.text for phrase in record.phrases] == [record.caption]
        none = float(embeds(model, [""])[0] @ image_of(model, record))
        assert record.fields["phrases/share"][0] == pytest.approx(record.score - none, abs=1e-6)
        np.testing.assert_allclose(
            record.fields["phrases/map"][0], record.map, rtol=1e-3, atol=1e-4 * np.abs(record.map).max()
        )


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_batch_has_what_singles_have(models, family):
    model = models(family)
    together = explained(model, "mmel")
    for number, record in enumerate(together):
        [alone] = explained(model, "mmel", batch_of(model, [PAIRS[number]]))
        for name, values in alone.fields.items():
            if name.startswith(("words/", "phrases/")):
                scale = float(np.abs(values).max(initial=1e-9))
                np.testing.assert_allclose(
                    record.fields[name], values, rtol=1e-4, atol=1e-5 * scale + 1e-7, err_msg=name
                )


def test_a_word_s_share_is_the_mean_over_all_orders_of_what_it_adds(models):
    """Five words, by the texts themselves: the weights of coalitions written down once more."""
    from math import factorial

    model = models("clip")
    text = "a red dog on grass"
    [record] = explained(model, batch=batch_of(model, [(1, 0)], [text]))
    image, words = image_of(model, record), record.words
    scores = {}
    for bits in range(32):
        kept = [bool(bits >> n & 1) for n in range(5)]
        scores[bits] = float(
            embeds(model, [" ".join(w for w, k in zip(text.split(), kept, strict=True) if k)])[0] @ image
        )
        assert only(text, words, kept) == " ".join(w for w, k in zip(text.split(), kept, strict=True) if k)
    for n in range(5):
        others = [bits for bits in range(32) if not bits >> n & 1]
        share = sum(
            factorial(bits.bit_count())
            * factorial(4 - bits.bit_count())
            / factorial(5)
            * (scores[bits | 1 << n] - scores[bits])
            for bits in others
        )
        assert record.fields["words/share"][n] == pytest.approx(share, abs=1e-5)
    assert not record.fields["words/error"].any()


def test_long_captions_are_estimated_with_an_error_and_still_sum(models):
    model = models("clip")
    text = "a red dog on green grass under a blue sky"  # 10 words
    batch = batch_of(model, [(1, 0)], [text])
    [exact], [sampled] = (explained(model, batch=batch, texts=texts) for texts in (1024, 60))
    assert not exact.fields["words/error"].any()
    error = sampled.fields["words/error"]
    assert (error > 0).all()
    off = sampled.fields["words/share"] - exact.fields["words/share"]
    assert 0.2 < np.sqrt(np.square(off).mean() / np.square(error).mean()) < 3
    assert sampled.fields["words/share"].sum() == pytest.approx(exact.fields["words/share"].sum(), abs=1e-5)


def test_a_phrase_is_the_mean_of_itself_alone_and_of_what_leaves_with_it(models):
    model = models("clip")
    text = "a red dog and two blue cats"
    batch = batch_of(model, [(2, 0)], [text], {0: [(0, 9), (14, 27)]})
    [record] = explained(model, batch=batch)
    assert [phrase.text for phrase in record.phrases] == ["a red dog", "two blue cats"]
    whole, none, first, second, without_first, without_second = (
        float(e @ image_of(model, record))
        for e in embeds(model, [text, "", "a red dog", "two blue cats", "and two blue cats", "a red dog and"])
    )
    alone, left_out = np.array([first, second]) - none, whole - np.array([without_first, without_second])
    np.testing.assert_allclose(record.fields["phrases/share"], (alone + left_out) / 2, atol=1e-6)
    for phrase, expected in {"alone": alone, "left-out": left_out}.items():
        [other] = explained(model, batch=batch, phrase=phrase)
        np.testing.assert_allclose(other.fields["phrases/share"], expected, atol=1e-6)
    [summed] = explained(model, batch=batch, phrase="words")
    shares, maps = summed.fields["words/share"], summed.fields["words/map"]
    np.testing.assert_allclose(summed.fields["phrases/share"], [shares[:3].sum(), shares[4:].sum()], atol=1e-6)
    np.testing.assert_allclose(summed.fields["phrases/map"], [maps[:3].sum(0), maps[4:].sum(0)], atol=1e-6)


def test_methods_that_explain_no_direction_have_words_and_phrases_by_balanced_flow(models):
    model = models("clip")
    flow = explained(model)
    for record, other in zip(explained(model, "attention"), flow, strict=True):
        for name in ("words/map", "phrases/map", "words/share"):
            np.testing.assert_allclose(record.fields[name], other.fields[name], atol=1e-7)
    plain = explained(model, gradient="plain")
    assert any(
        np.abs(a.fields["words/map"] - b.fields["words/map"]).max() > 1e-4 for a, b in zip(plain, flow, strict=True)
    )


def test_several_views_share_a_patch_among_finer_cells(models):
    model = models("clip")
    for record, one in zip(explained(model, shifts=3), explained(model), strict=True):
        rows, columns = model.spec.grid
        assert record.fields["words/map"].shape[1:] == (2 * rows, 2 * columns) == record.map.shape
        np.testing.assert_allclose(record.fields["words/share"], one.fields["words/share"], atol=1e-6)
        total = record.fields["words/map"].sum((1, 2)) + record.fields["words/rest"]
        np.testing.assert_allclose(total, record.fields["words/share"], atol=1e-5)


def test_nothing_is_left_of_the_hooks_and_captions_without_words_have_none(models):
    model = models("clip")
    [record] = explained(model, batch=batch_of(model, [(0, 0)], ["\N{ZERO WIDTH SPACE}"]))
    assert record.fields["words/map"].shape[0] == len(record.words)
    assert record.phrases == ()
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model._model.modules()) == 0
    assert torch.is_grad_enabled()


def test_a_word_s_map_is_what_patches_send_by_autograd_along_its_own_vector(models):
    """The sum of a word's map over all tokens of a layer is <d<f, phi>/do, o>: here by autograd for each word alone."""
    model = models("clip")
    text = "a red dog on grass"
    [record] = explained(model, batch=batch_of(model, [(1, 0)], [text]), gradient="plain", layers="last")
    [shares] = WordShares(model, 64, 0).of([(text, record.words)])
    attention = model._model.vision_model.encoder.layers[-1].self_attn
    values = batch_of(model).images[record.image].pixels.values[None]
    kept = {}
    hooks = [
        attention.out_proj.register_forward_pre_hook(
            lambda _m, given: (kept.setdefault("o", given[0].requires_grad_()),)
        ),
        attention.v_proj.register_forward_hook(lambda _m, _given, out: kept.setdefault("v", out.detach())),
        attention.q_proj.register_forward_hook(lambda _m, _given, out: kept.setdefault("q", out.detach())),
        attention.k_proj.register_forward_hook(lambda _m, _given, out: kept.setdefault("k", out.detach())),
    ]
    try:
        image = model.embed_images(values, graph=True)[0]
    finally:
        for hook in hooks:
            hook.remove()
    heads = attention.num_heads
    q, k, v = (kept[name][0].unflatten(-1, (heads, -1)).transpose(0, 1) for name in "qkv")
    looks = (q[:, :1] @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)[:, 0]  # of the class token, by head
    for number, vector in enumerate(shares.vectors):
        (w,) = torch.autograd.grad(image @ vector, kept["o"], retain_graph=True)
        sent = looks * (w[0, 0].unflatten(-1, (heads, -1))[:, None] * v).sum(-1)
        expected = sent.sum(0)[1:].unflatten(0, model.spec.grid).detach().numpy()
        np.testing.assert_allclose(record.fields["words/map"][number], expected, atol=1e-6)


def test_what_the_model_does_not_read_has_no_part_in_words_and_phrases(models):
    """Captions that differ only behind the context have the same shares and maps."""
    model = models("clip")
    phrases = {0: [(0, 9)], 1: [(0, 9)]}
    texts = ["a red dog " * 30 + "and a cat", "a red dog " * 30 + "on two blue trees"]
    one, other = explained(model, "mmel", batch_of(model, [(1, 0), (1, 1)], texts, phrases))
    assert one.truncated
    assert len(one.words) < 60
    for name in ("words/share", "words/map", "phrases/share", "phrases/map"):
        np.testing.assert_allclose(one.fields[name], other.fields[name], atol=1e-6, err_msg=name)
    alone = float((embeds(model, ["a red dog"])[0] - embeds(model, [""])[0]) @ image_of(model, one))
    [record] = explained(model, "flow", batch_of(model, [(1, 0)], texts, phrases), phrase="alone")
    assert record.fields["phrases/share"][0] == pytest.approx(alone, abs=1e-6)


def test_the_same_caption_may_have_other_phrases_in_another_record(models):
    model = models("clip")
    text = "a red dog and two blue cats"
    texts = [text, text]
    first, second = explained(model, "mmel", batch_of(model, [(2, 0), (2, 1)], texts, {0: [(0, 9)], 1: [(14, 27)]}))
    assert [p.text for r in (first, second) for p in r.phrases] == ["a red dog", "two blue cats"]
    [both] = explained(model, "mmel", batch_of(model, [(2, 0)], texts, {0: [(0, 9), (14, 27)]}))
    np.testing.assert_allclose(both.fields["phrases/map"][0], first.fields["phrases/map"][0], atol=1e-6)
    np.testing.assert_allclose(both.fields["phrases/map"][1], second.fields["phrases/map"][0], atol=1e-6)


def test_phrases_that_share_a_word_are_a_failure_by_name(models):
    model = models("clip")
    batch = batch_of(model, [(0, 0), (1, 1)], ["a reddish dog", "a blue cat"], {0: [(2, 5), (5, 9)]})
    words = Words.of(model, WordOptions(regions=True))
    engine = Engine.build(model, METHODS["flow"], METHODS["flow"].params(), words=words)
    records, [failure] = engine.explain(batch)
    assert [record.caption for record in records] == ["a blue cat"]
    assert failure.error == "two of its phrases share the word 'reddish'; phrases are made of whole words"


@pytest.mark.parametrize("dtype", ["bfloat16"])
def test_in_half_precision_the_sums_hold_as_far_as_it_reaches(tmp_path, dtype):
    model = load_model(str(make_model(tmp_path / "m", "clip", "bytes")), "cpu", dtype)
    full = load_model(str(tmp_path / "m"), "cpu", "float32")
    for record, exact in zip(explained(model), explained(full), strict=True):
        none = float(embeds(model, [""])[0] @ image_of(model, record))
        assert record.fields["words/share"].sum() == pytest.approx(record.score - none, abs=0.02)
        ours, theirs = record.fields["words/map"].ravel(), exact.fields["words/map"].ravel()
        assert np.corrcoef(ours, theirs)[0, 1] > 0.98


def test_a_method_with_word_maps_of_its_own_is_refused(models):
    model = models("clip")
    giving = [
        name for name, m in METHODS.items() if any(f.name == "words/map" for f in m.fields(m.params(), _target()))
    ]
    for name in giving:
        with pytest.raises(UsageError, match=f"--words: {name} gives words x regions of its own"):
            explained(model, name)


def _target():
    from mmel_cli.attribution.base import Target

    return Target("", "", (1,))

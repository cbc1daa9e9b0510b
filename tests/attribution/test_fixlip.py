"""FIxLIP against the joint regression of scores on image and caption masks, and against shapiq."""

from itertools import combinations

import numpy as np
import pytest
import shapiq
import torch
from again import Again, close
from oracles.clip_forward import encode_image
from tiny_clip import make_tiny
from zoo import make_model

from mmel_cli import explain, load_archive, load_config
from mmel_cli.attribution import METHODS, fixlip
from mmel_cli.attribution.fixlip import masks_of, patch_values, token_values
from mmel_cli.attribution.second_order import by_word
from mmel_cli.fields import HIGH_NORM, MAP, MATCH, TOKEN_MAP, WORD_MAP, WORD_VALUE
from mmel_cli.pipelines.engine import Engine

SMALL = [(0, 1), (1, 0), (1, 1), (0, 0)]
BOTH = {"masks": 16, "text_masks": 16}  # all subsets of 4 patches, and of 3 and 4 tokens
DRAWN = {"masks": 13, "text_masks": 2, "seed": 3}  # of 16, and of 4 tokens 10 of 16


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A grid of 2 x 2 patches, and captions of 4 and 3 tokens."""
    again = Again(make_tiny(tmp_path_factory.mktemp("small") / "clip", side=16))
    again.words = again.model.tokenize(["a red dog on", "a red dog"])
    return again


@pytest.fixture(scope="module")
def again(tiny):
    return Again(tiny)


def joint(scores, images, texts, weights):
    """The coefficients of tokens and patches of one weighted regression on all masks of both sides.

    Beside products of a token and a patch it has a constant, both first orders, and the pairs within each side.
    """
    columns, cross = [np.ones(len(scores))], []
    columns += [images[:, i] for i in range(images.shape[1])] + [texts[:, j] for j in range(texts.shape[1])]
    columns += [images[:, i] * images[:, k] for i, k in combinations(range(images.shape[1]), 2)]
    columns += [texts[:, j] * texts[:, k] for j, k in combinations(range(texts.shape[1]), 2)]
    for j in range(texts.shape[1]):
        for i in range(images.shape[1]):
            cross.append(len(columns))
            columns.append(images[:, i] * texts[:, j])
    root = np.sqrt(weights)[:, None]
    found = np.linalg.lstsq(root * np.stack(columns, 1), root[:, 0] * scores, rcond=None)[0]
    return found[cross].reshape(texts.shape[1], images.shape[1])


@pytest.mark.parametrize("given", [BOTH, BOTH | {"keep": 0.3}, DRAWN, DRAWN | {"keep": 0.7}])
def test_its_product_is_the_joint_regression(small, given):
    probe, params = small.probe(SMALL), fixlip.Params(**given)
    capture = small.model.capture(small.pixels, small.words, SMALL, request(small))
    for pair, (image, row) in enumerate(SMALL):
        keys = capture.text.keys[pair]
        count = int(keys.sum())
        patches = patch_values(probe, image, (2, 2), params)
        tokens, text = token_values(probe, row, keys, params)
        of_image = masks_of(4, params.masks, params.keep, params.seed).kept
        of_text = masks_of(count, max(params.text_masks, 2 * count + 2), params.keep, params.seed).kept
        shown = torch.from_numpy(of_image).float().view(-1, 2, 2)
        f = probe.embeds_of_image(image, shown).double().numpy()
        kept = np.concatenate([np.ones((1, count), bool), of_text])  # read in the same batch: to the bit
        t = probe.embeds_of_text(row, torch.from_numpy(kept)).double().numpy()[1:]
        assert [len(of_image), len(of_text)] == [params.masks, 8 if count == 3 else 10 if params.seed else 16]
        likely = [
            np.ones(len(m)) if len(m) < 1 << m.shape[1] else np.where(m, params.keep, 1 - params.keep).prod(1)
            for m in (of_image, of_text)
        ]
        a, b = (part.ravel() for part in np.meshgrid(np.arange(len(f)), np.arange(len(t)), indexing="ij"))
        scores = np.einsum("nd,nd->n", f[a], t[b])
        expected = joint(scores, of_image[a].astype(float), of_text[b].astype(float), likely[0][a] * likely[1][b])
        np.testing.assert_allclose((tokens[:count] @ patches.T).numpy(), expected, rtol=0, atol=1e-9)
        assert np.abs(expected).min() > 1e-6
        torch.testing.assert_close(text.float(), small.model.embed_texts(small.words)[row], rtol=0, atol=1e-6)


def request(again):
    return Engine.build(again.model, METHODS["fixlip"], fixlip.Params()).request


def test_it_is_what_shapiq_finds_in_the_game_of_all_players(small):
    """Faithful Banzhaf interactions of order 2 (keep 0.5), computed over all 2^7 coalitions."""
    probe, params = small.probe(SMALL), fixlip.Params(**BOTH)
    keys = torch.tensor([True, True, True, False])
    patches, (tokens, _) = patch_values(probe, 0, (2, 2), params), token_values(probe, 1, keys, params)

    def game(coalitions):
        members = torch.from_numpy(np.asarray(coalitions, bool))
        f = probe.embeds_of_image(0, members[:, :4].float().view(-1, 2, 2)).double()
        return (f * probe.embeds_of_text(1, members[:, 4:]).double()).sum(1).numpy()

    found = shapiq.ExactComputer(n_players=7, game=game)("FBII", order=2)
    for j in range(3):
        for i in range(4):
            # embeddings of the same masks in other batches: equal but for the rounding of float32
            assert (tokens[j] @ patches[i]).item() == pytest.approx(found[(i, 4 + j)], abs=5e-8)


def test_coefficients_of_all_subsets_are_weighted_banzhaf_values():
    """E[v | in] - E[v | out], the other players each in with probability keep."""
    rng = np.random.default_rng(2)
    for players, keep in ((1, 0.5), (3, 0.5), (5, 0.2), (6, 0.85)):
        found = masks_of(players, 1 << players, keep, 0)
        worth = rng.normal(size=len(found.kept))
        for player in range(players):
            others = np.delete(found.kept, player, 1)
            likely, inside = np.where(others, keep, 1 - keep).prod(1), found.kept[:, player]
            value = (worth * likely)[inside].sum() - (worth * likely)[~inside].sum()
            assert (found.weights[player] @ worth) == pytest.approx(value, abs=1e-12)


def test_masks_are_drawn_by_seed_and_number_alone_and_keep_the_asked_part():
    found = masks_of(49, 600, 0.3, 7)
    assert found.kept.shape == (600, 49)
    assert found.kept.mean() == pytest.approx(0.3, abs=0.01)
    masks_of.cache_clear()
    assert (masks_of(49, 600, 0.3, 7).kept == found.kept).all()
    assert (masks_of(49, 600, 0.3, 8).kept != found.kept).any()
    slopes = np.arange(49.0)
    np.testing.assert_allclose(found.weights @ (found.kept @ slopes + 5), slopes, atol=1e-9)  # a linear game is exact


def test_fields_are_what_their_definition_says(again):
    """Through the literal float64 forward with patches at 0, one mask after the other."""
    given = {"masks": 40, "text_masks": 8}
    pairs = [(0, 1), (1, 0), (1, 1)]
    found = again.explain("fixlip", pairs, **given)
    assert set(found.fields) == {MAP.name, TOKEN_MAP.name, WORD_MAP.name}
    chosen = masks_of(16, 40, 0.5, 0)
    for pair, (image, row) in enumerate(pairs):
        embeds = []
        for kept in chosen.kept:
            mask = torch.from_numpy(kept).view(4, 4).repeat_interleave(8, 0).repeat_interleave(8, 1)
            embed = encode_image(again.raw, again.values[image].double() * mask)[0].detach()
            embeds.append(embed / embed.norm())
        patches = torch.from_numpy(chosen.weights) @ torch.stack(embeds)
        text = again.text(pair)
        close(found.map[pair], (patches @ (text / text.norm())).view(4, 4))
        keys = again.words.places[row] >= 0
        tokens, _ = token_values(again.probe(pairs), row, keys, fixlip.Params(**given))
        f = again.model.embed_images(again.values)[image].double()
        close(found.fields[TOKEN_MAP.name][pair], tokens @ f)
        owners = again.words.owners[row]
        for word in range(len(again.words.words[row])):
            close(found.fields[WORD_MAP.name][pair, word], (tokens[owners == word].sum(0) @ patches.T).view(4, 4))
        assert not found.fields[WORD_MAP.name][pair, len(again.words.words[row]) :].any()


def test_tokens_sum_to_their_words():
    values = torch.arange(24.0).view(2, 3, 4)
    owners = torch.tensor([[0, 1, 1], [0, -1, -1]])
    found = by_word(values, owners, (2, 2))
    assert found.shape == (2, 2, 2, 2)
    assert torch.equal(found[0, 1].flatten(), values[0, 1] + values[0, 2])
    assert torch.equal(found[1, 0].flatten(), values[1, 0])
    assert not found[1, 1].any()
    assert by_word(values, torch.full((2, 3), -1), (2, 2)).shape == (2, 0, 2, 2)


def test_an_image_is_read_once_whatever_its_captions(again, monkeypatch):
    seen = {"embed_images": [], "embed_texts": []}
    for name, counts in seen.items():
        real = getattr(again.model, name)
        monkeypatch.setattr(
            again.model, name, lambda given, real=real, counts=counts: (counts.append(rows_of(given)), real(given))[1]
        )
    again.explain("fixlip", [(0, 0), (0, 1), (1, 1), (0, 0)], masks=70, text_masks=16)
    assert sum(seen["embed_images"]) == 2 * 70
    counts = [int((row >= 0).sum()) for row in again.words.places]
    assert sum(seen["embed_texts"]) == sum(1 + min(1 << n, max(16, 2 * n + 2)) for n in counts)


def rows_of(given):
    return len(given.ids if hasattr(given, "ids") else given)


def test_captions_whose_masks_do_not_determine_them_have_more(again):
    """Of tokens that are in nearly every mask: twice as many masks until they do."""
    probe, keys = again.probe(), again.words.places[1] >= 0
    count = int(keys.sum())
    assert count == 7
    assert masks_of(count, 2 * count + 2, 0.97, 0).weights is None
    tokens, _ = token_values(probe, 1, keys, fixlip.Params(text_masks=2, keep=0.97))
    assert torch.isfinite(tokens).all()
    assert (tokens.abs().amax(1) > 1e-4).all()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["method.masks=16"], "method.masks: 16 masks do not determine the values of 16 patches"),
        (["method.masks=20", "method.keep=0.98"], "20 masks do not determine the values of 16 patches"),
    ],
)
def test_too_few_masks_are_one_line_of_the_command(photos, tiny, tmp_path, mmel, settings, says):
    given = [part for setting in settings for part in ("--set", setting)]
    code, _, err = mmel("explain", photos, "--out", tmp_path / "run", "--model", tiny, "--method", "fixlip", *given)
    assert code == 2
    assert says in " ".join(err.split())
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize(
    "given", [{"masks": 1}, {"text_masks": 1}, {"keep": 0.0}, {"keep": 1.0}, {"seed": -1}, {"keep": float("nan")}]
)
def test_parameters_are_checked_where_they_are_declared(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        fixlip.Params(**given)


def test_a_run_archives_words_x_regions_and_refuses_those_of_the_command(photos, tiny, tmp_path, mmel):
    common = ["explain", photos, "--model", tiny, "--method", "fixlip", "--batch-size", 5, "--limit", 11]
    common += ["--set", "method.masks=40"]
    assert mmel(*common, "--out", tmp_path / "run")[0] == 0
    assert mmel("verify", tmp_path / "run")[0] == 0
    assert mmel("merge", tmp_path / "run", "--out", tmp_path / "all.h5")[0] == 0
    with load_archive(tmp_path / "all.h5") as archive:
        assert archive.info.fields == (MAP, TOKEN_MAP, WORD_MAP, WORD_VALUE, *MATCH, HIGH_NORM)
        for record in archive:
            assert record.fields[WORD_MAP.name].shape == (len(record.words), 4, 4)
            assert record.fields[WORD_MAP.name].std() > 0
    code, _, err = mmel(*common, "--out", tmp_path / "words", "--words")
    assert code == 2
    assert "--words: fixlip gives words x regions of its own; leave --words out" in " ".join(err.split())


@pytest.mark.parametrize("family", ["siglip", "chinese_clip"])
def test_a_resumed_run_is_the_same_to_the_bit(photos, tmp_path, family):
    """Without a class token, and with captions that are padded."""
    model = make_model(tmp_path / family, family)
    given = {"model": str(model), "method.name": "fixlip", "batch_size": 5, "limit": 9}
    settings = ["method.masks=60", "method.text_masks=9", "heatmaps=false"]
    config = load_config(None, settings, given)
    first, _ = explain(photos, tmp_path / "one", config)
    assert (first.done, first.failed) == (9, 0)
    explain(photos, tmp_path / "two", load_config(None, settings, given | {"limit": 5}))
    explain(photos, tmp_path / "two", config)
    with load_archive(tmp_path / "one") as one, load_archive(tmp_path / "two") as two:
        for record, other in zip(one, two, strict=True):
            assert record.map.std() > 0
            for name, values in record.fields.items():
                np.testing.assert_array_equal(values, other.fields[name])

"""A model family that the package does not know, added through the registry alone, runs through the commands."""

import json

import numpy as np
import pytest
import quick
import torch
from mini_siglip import HEADS, LAYERS, load_mini, make_mini
from PIL import Image

from mmel_cli import load_archive
from mmel_cli.attribution import METHODS, ops
from mmel_cli.attribution.base import OF_MODEL
from mmel_cli.errors import ModelError
from mmel_cli.model import FAMILIES, Adapter, CaptureRequest, load_model

AGAIN = [name for name, method in METHODS.items() if "probe" in method.needs and name != "rise"]
CAPTIONS = ["a red dog", "blue cat3", "a zebra", "a " * 20]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_mini(tmp_path_factory.mktemp("mini") / "model")


@pytest.fixture
def mini(folder, monkeypatch):
    monkeypatch.setitem(FAMILIES, "mini-siglip", load_mini)
    return load_model(str(folder), "cpu", "float32")


def capture(model, pairs):
    noise = np.random.default_rng(5).integers(0, 255, (3, 40, 50, 3), dtype=np.uint8)
    pixels = [model.preprocess(Image.fromarray(image), "native") for image in noise]
    layers = tuple(range(1, LAYERS + 1))
    captions = model.tokenize(CAPTIONS)
    return pixels, captions, model.capture(pixels, captions, pairs, CaptureRequest(layers, layers, hidden=True))


def test_without_the_registry_it_is_refused_with_the_families_that_work(folder):
    with pytest.raises(ModelError, match=r"its type is 'mini-siglip'; mmel explains the types clip"):
        load_model(str(folder), "cpu", "float32")


def test_it_is_an_adapter_whose_captions_have_no_start_token(mini):
    assert isinstance(mini, Adapter)
    captions = mini.tokenize(CAPTIONS)
    assert captions.places.tolist()[1] == [0, 1, *[-1] * 6]
    assert captions.tokens[1] == ("blue", "cat3")
    assert captions.truncated.tolist() == [False, False, False, True]
    assert [word.text for word in captions.words[2]] == ["a", "zebra"]


def test_flow_without_a_query_is_the_attention_matrix_times_its_gradient(mini):
    """Against autograd through an eager attention: sum over heads and rows of a * ds/da, for each key."""
    pixels, captions, found = capture(mini, [(0, 0), (1, 1)])
    for pair in (0, 1):
        text = mini.embed_texts(captions)[pair]
        for number, block in enumerate(mini.model.vision):
            attention, score = eager(mini, pixels[pair].values[None], block, text)
            assert score.item() == pytest.approx(found.score[pair].item(), abs=1e-5)
            (gradient,) = torch.autograd.grad(score, attention)
            expected = (attention * gradient).sum((0, 1, 2))
            torch.testing.assert_close(ops.flow(found.image, number)[pair], expected, rtol=1e-3, atol=1e-6)
            total = (found.image.w[number][pair] * found.image.o[number][pair]).sum()
            assert expected.sum().item() == pytest.approx(total.item(), abs=1e-5)


def eager(mini, values, explained, text):
    """The attention matrix (1, heads, patches, patches) of a block, in the graph of the cosine."""
    x = mini.model.patches(values).flatten(2).transpose(1, 2) + mini.model.place
    kept = None
    for block in mini.model.vision:
        normed, attend = block.norm1(x), block.self_attn
        q, k, v = (
            p(normed).unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in (attend.q_proj, attend.k_proj, attend.v_proj)
        )
        matrix = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
        if block is explained:
            matrix = kept = matrix.detach().requires_grad_()
        x = x + attend.out_proj((matrix @ v).transpose(1, 2).flatten(2))
        x = x + block.mlp(block.norm2(x))
    embed = mini.model.pool(mini.model.probe, x)[0, 0]
    return kept, torch.cosine_similarity(embed, text, dim=0)


@pytest.mark.parametrize("method", ["flow", "grad-eclip", "gae", "rise", "random", *AGAIN])
def test_the_commands_run_on_it(photos, folder, tmp_path, mmel, mini, method):
    run, both = tmp_path / "run", METHODS[method].modality == "image and caption"
    extra = [part for key, value in quick.settings(method).items() for part in ("--set", f"{key}={value}")]
    code, _, err = mmel(
        "explain", photos, "--out", run, "--model", folder, "--method", method, "--batch-size", 5, *extra
    )
    assert code == 0, err
    assert mmel("verify", run)[0] == 0
    with load_archive(run) as archive:
        assert len(archive) == 24
        for record in archive:
            assert record.map.shape == (4, 4)
            assert record.map.std() > 0
            assert record.logit == pytest.approx(mini.spec.scoring.scale * record.score - 4.0, abs=1e-4)
            assert [word.text for word in record.words] == record.caption.split()
            assert record.tokens == tuple(record.caption.split())
            if both:
                assert record.token_map.shape == (3,)
                assert np.isfinite(record.token_map).all()
            else:
                assert "tokens/map" not in record.fields
    last = "token-deletion" if both else "insertion"
    code, out, err = mmel("eval", run, "--metrics", f"sparseness,{last}", "--json")
    assert code == 0, err
    assert json.loads(out)["metrics"][last]["runs"]["run"]["records"] == 24


@pytest.mark.parametrize("method", [name for name, m in METHODS.items() if m.needs & OF_MODEL.keys() - {"hidden"}])
def test_a_method_that_needs_what_the_model_does_not_give_is_refused_by_name(
    photos, folder, tmp_path, mmel, mini, method
):
    code, _, err = mmel("explain", photos, "--out", tmp_path / "run", "--model", folder, "--method", method)
    assert code == 1
    assert f"method {method} needs" in err
    for part in METHODS[method].needs & OF_MODEL.keys() - {"hidden"}:
        assert OF_MODEL[part] in " ".join(err.split())
    assert "mini-siglip" in err
    assert not list(tmp_path.rglob("*.h5"))

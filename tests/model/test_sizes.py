"""model.image_size: position embeddings interpolated as transformers does it, non-square too, end to end."""

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from transformers import AutoModel
from zoo import make_model, processor_of

from mmel_cli import load_archive
from mmel_cli.errors import ModelError
from mmel_cli.model import CaptureRequest, load_model

SIZE = (48, 72)


@pytest.fixture(scope="module", params=["clip", "siglip"])
def folder(request, tmp_path_factory):
    return make_model(tmp_path_factory.mktemp(request.param) / "m", request.param)


def photo(width=100, height=80):
    noise = np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def test_a_larger_input_equals_transformers_interpolation(folder):
    model, raw = load_model(str(folder), "cpu", "float32", SIZE), AutoModel.from_pretrained(folder).eval()
    assert model.spec.grid == (6, 9)
    pixels, captions = model.preprocess(photo(), "native"), model.tokenize(["a red dog"])
    assert pixels.values.shape == (3, *SIZE)
    everything = tuple(range(1, model.spec.layers + 1))
    capture = model.capture(
        [pixels], captions, [(0, 0)], CaptureRequest(everything, (1, 2), hidden=True, alignment=True)
    )
    with torch.no_grad():
        image = raw.get_image_features(pixels.values[None], interpolate_pos_encoding=True).pooler_output
    expected = torch.cosine_similarity(image, model.embed_texts(captions))
    torch.testing.assert_close(capture.score, expected, rtol=0, atol=1e-6)
    assert capture.image.places.shape == (1, 54)
    assert capture.alignment.shape == (1, len(everything), 54)


def test_the_size_of_training_changes_nothing(folder):
    pixels = load_model(str(folder), "cpu", "float32").preprocess(photo(), "native")
    one, other = (load_model(str(folder), "cpu", "float32", size) for size in (None, (40, 40)))
    torch.testing.assert_close(other.preprocess(photo(), "native").values, pixels.values, rtol=0, atol=0)
    assert other.preprocess(photo(), "native").box == pixels.box
    assert torch.equal(one.embed_images(pixels.values[None]), other.embed_images(pixels.values[None]))


@pytest.mark.parametrize(("width", "height"), [(100, 80), (90, 150), (48, 48), (200, 41)])
def test_the_box_is_where_the_grid_lies(tmp_path, width, height):
    """A white rectangle where the box says, seen by the model: all white inside, nothing outside."""
    model = load_model(str(make_model(tmp_path / "m", "clip")), "cpu", "float32", SIZE)
    x0, y0, x1, y1 = model.preprocess(photo(width, height), "native").box
    assert (x1 - x0) / (y1 - y0) == pytest.approx(SIZE[1] / SIZE[0], rel=0.03)
    assert min(x0, y0) >= -1e-6
    assert x1 <= width + 1e-6
    assert y1 <= height + 1e-6
    image = np.zeros((height, width, 3), np.uint8)
    image[round(y0) : round(y1), round(x0) : round(x1)] = 255
    values = model.preprocess(Image.fromarray(image), "native").values
    assert (values == values.amax((1, 2), keepdim=True))[:, 3:-3, 3:-3].float().mean() > 0.99


def test_what_patches_do_not_fill_is_refused(folder):
    with pytest.raises(ModelError, match=r"model.image_size 50,72 is no multiple of its patches of 8 pixels"):
        load_model(str(folder), "cpu", "float32", (50, 72))


def test_explain_eval_and_resume_keep_the_size(folder, photos, tmp_path, mmel):
    run = tmp_path / "run"
    command = ["explain", photos, "--out", run, "--model", folder, "--set", "heatmaps=false", "--batch-size", 5]
    code, _, err = mmel(*command, "--set", "model.image_size=48,72", "--limit", 7)
    assert code == 0, err
    with load_archive(run) as archive:
        assert (archive.info.grid, archive.info.image_size) == ((6, 9), SIZE)
        assert next(iter(archive)).map.shape == (6, 9)
    assert yaml.safe_load((run / "run.yaml").read_text())["config"]["model"]["image_size"] == list(SIZE)
    code, _, err = mmel(*command)
    assert code == 2
    assert "model.image_size was [48,72], is now null" in err
    code, _, err = mmel("eval", run, "--metrics", "insertion,max-sensitivity")
    assert code == 0, err


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_where_patches_do_not_fill_the_input_the_rest_is_left_out(tmp_path, family):
    """46 pixels in patches of 8, as 384 in patches of 14: the grid covers 40 of them."""
    place = make_model(tmp_path / "m", family, side=46)
    model, raw = load_model(str(place), "cpu", "float32"), AutoModel.from_pretrained(place).eval()
    image = photo(460, 460)
    pixels, captions = model.preprocess(image, "native"), model.tokenize(["a red dog"])
    assert (model.spec.grid, model.spec.image_size) == ((5, 5), (40, 40))
    assert pixels.values.shape == (3, 40, 40)
    assert pixels.box == (0.0, 0.0, pytest.approx(400), pytest.approx(400))
    capture = model.capture([pixels], captions, [(0, 0)], CaptureRequest((1, 2, 3), (1, 2)))
    whole = torch.from_numpy(processor_of(place)(image)["pixel_values"][0])
    with torch.no_grad():
        embeds = raw.get_image_features(whole[None]).pooler_output
    expected = torch.cosine_similarity(embeds, model.embed_texts(captions))
    torch.testing.assert_close(capture.score, expected, rtol=0, atol=1e-6)
    again = load_model(str(place), "cpu", "float32", model.spec.image_size)
    assert torch.equal(again.preprocess(image, "native").values, pixels.values)
    for geometry in ("squash", "letterbox"):
        x0, _, x1, _ = model.preprocess(photo(230, 460), geometry).box
        assert x1 - x0 == pytest.approx((230 if geometry == "squash" else 460) * 40 / 46)

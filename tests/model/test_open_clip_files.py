"""The files of open_clip checkpoints: what is loaded, hashed, and refused by the key or tensor that is not standard."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from open_clip_zoo import configure, make_open_clip, make_tokenizer
from safetensors.torch import load_file, save_file
from tiny_clip import make_tiny
from transformers import CLIPModel

from mmel_cli.errors import ModelError
from mmel_cli.model import load_model
from mmel_cli.model.loading import Checkpoint
from mmel_cli.model.open_clip_config import towers


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_open_clip(tmp_path_factory.mktemp("open_clip") / "model", quick=True)


@pytest.fixture(scope="module")
def model(made):
    return load_model(str(made[0]), "cpu", "float32")


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "copy")
    return tmp_path / "copy"


def weights(folder, change):
    path = folder / "open_clip_model.safetensors"
    save_file(change(load_file(path)), path)


def refused(folder):
    with pytest.raises(ModelError) as caught:
        load_model(str(folder), "cpu", "float32")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("form", ["zip", "old", "training"])
def test_a_bin_file_is_loaded_as_tensors_alone(copy, model, form):
    tensors = load_file(copy / "open_clip_model.safetensors")
    (copy / "open_clip_model.safetensors").unlink()
    if form == "training":
        state = {f"module.{name}": value for name, value in tensors.items()}
        tensors = {"epoch": 3, "name": "run", "state_dict": state}
    torch.save(tensors, copy / "open_clip_pytorch_model.bin", _use_new_zipfile_serialization=form != "old")
    assert load_model(str(copy), "cpu", "float32").spec.files == model.spec.files


def test_a_bin_file_that_holds_code_runs_none_of_it(copy, tmp_path):
    (copy / "open_clip_model.safetensors").unlink()

    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    torch.save({"logit_scale": Hostile()}, copy / "open_clip_pytorch_model.bin")
    assert "its open_clip_pytorch_model.bin is damaged, or holds more than tensors" in refused(copy)
    assert not (tmp_path / "written").exists()


def test_each_file_decides_its_own_sha256(made, copy, model):
    before = model.spec.files
    assert load_model(str(copy), "cpu", "bfloat16").spec.files == before

    def changed():
        after = load_model(str(copy), "cpu", "float32").spec.files
        return {role for role in before if after[role] != before[role]}

    configure(copy, "model_cfg", init_logit_scale=1.5)
    assert changed() == {"config"}
    configure(copy, "preprocess_cfg", mean=0.5)
    assert changed() == {"config", "processor"}
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-1]
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert changed() == {"config", "processor", "tokenizer"}
    weights(copy, lambda tensors: tensors | {"logit_scale": torch.tensor([2.0])})
    assert changed() == {"config", "processor", "tokenizer", "weights"}
    weights(copy, lambda tensors: tensors | {"logit_scale": torch.tensor(2.3), "logit_bias": torch.tensor(0.5)})
    assert changed() == {"config", "processor", "tokenizer", "weights"}


def test_weights_are_hashed_as_stored(copy, model):
    half = {name: tensor.half() for name, tensor in load_file(copy / "open_clip_model.safetensors").items()}
    weights(copy, lambda _: half)
    adapter = load_model(str(copy), "cpu", "float32")
    assert adapter.spec.sha256 != model.spec.sha256
    assert adapter.spec.dtype == "float32"


def test_a_config_json_of_a_family_with_its_weights_goes_first(copy, tmp_path):
    """Repositories of the hub hold both; a config.json of another kind, or alone, leads nowhere."""
    assert load_model(str(copy), "cpu", "float32").spec.family == "open_clip"
    (copy / "config.json").write_text(json.dumps({"architecture": "vit_base_patch16_clip_224"}))
    assert load_model(str(copy), "cpu", "float32").spec.family == "open_clip"
    clip = make_tiny(tmp_path / "clip")
    shutil.copy(clip / "config.json", copy)
    assert load_model(str(copy), "cpu", "float32").spec.family == "open_clip"
    shutil.copytree(clip, copy, dirs_exist_ok=True)
    assert load_model(str(copy), "cpu", "float32").spec.family == "clip"


def test_a_model_of_the_hubs_cache_has_the_sha256_of_its_folder(made, model, tmp_path):
    """Without a network, from a snapshot that holds open_clip's files alone."""
    repository = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(made[0], repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    code = "import json, mmel_cli.model as m; print(json.dumps(m.load_model('someone/tiny', 'cpu', 'auto').spec.files))"
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == model.spec.files


def test_a_tokenizer_without_settings_is_clips(copy, model):
    (copy / "tokenizer_config.json").unlink()
    assert load_model(str(copy), "cpu", "float32").spec.files == model.spec.files
    parts = json.loads((copy / "tokenizer.json").read_text())["model"]
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.json").write_text(json.dumps(parts["vocab"]))
    (copy / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{one} {two}\n" for one, two in parts["merges"]))
    assert load_model(str(copy), "cpu", "float32").spec.files == model.spec.files


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("vision_cfg", "timm_model_name", "vit_base_patch16_siglip_224"),
        ("vision_cfg", "attentional_pool", True),
        ("vision_cfg", "pool_type", "avg"),
        ("vision_cfg", "no_ln_pre", True),
        ("vision_cfg", "final_ln_after_pool", True),
        ("vision_cfg", "input_patchnorm", True),
        ("vision_cfg", "ls_init_value", 0.1),
        ("vision_cfg", "pos_embed_type", "sin_cos_2d"),
        ("vision_cfg", "norm_kwargs", {"eps": 1e-6}),
        ("vision_cfg", "act_kwargs", {"approximate": "tanh"}),
        ("vision_cfg", "qk_norm", True),
        ("vision_cfg", "rope", True),
        ("vision_cfg", "layers", [3, 4, 6, 3]),
        ("vision_cfg", "width", 49),
        ("vision_cfg", "mlp_ratio", "4"),
        ("vision_cfg", "image_size", [40, 48]),
        ("vision_cfg", "image_size", 42),
        ("vision_cfg", "patch_size", True),
        ("text_cfg", "hf_model_name", "roberta-base"),
        ("text_cfg", "pool_type", "last"),
        ("text_cfg", "no_causal_mask", True),
        ("text_cfg", "embed_cls", True),
        ("text_cfg", "proj_bias", True),
        ("text_cfg", "proj_type", "none"),
        ("text_cfg", "ls_init_value", 0.1),
        ("text_cfg", "norm_kwargs", {"eps": 1e-6}),
        ("text_cfg", "act_kwargs", {"approximate": "tanh"}),
        ("text_cfg", "tokenizer_kwargs", {"clean": "canonicalize"}),
        ("text_cfg", "width", 37),
        ("text_cfg", "context_length", 0),
        ("text_cfg", "mystery", 1),
        ("model_cfg", "multimodal_cfg", {"width": 512}),
        ("model_cfg", "quick_gelu", "yes"),
        ("model_cfg", "embed_dim", -1),
        ("model_cfg", "audio_cfg", {}),
        ("preprocess_cfg", "resize_mode", "longest"),
        ("preprocess_cfg", "interpolation", "lanczos"),
        ("preprocess_cfg", "mode", "L"),
        ("preprocess_cfg", "size", 224),
        ("preprocess_cfg", "mean", [0.5, 0.5]),
        ("preprocess_cfg", "std", [0.5, 0.0, 0.5]),
        ("preprocess_cfg", "crop_pct", 0.9),
    ],
    ids=str,
)
def test_what_is_not_standard_is_refused_by_key_and_value(copy, part, key, value):
    configure(copy, part, **{key: value})
    says = refused(copy)
    assert f"open_clip_config.json has {part}.{key} = {json.dumps(value)}, where mmel needs" in says


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        (
            "vision_cfg",
            {
                "timm_model_name": None,
                "attentional_pool": False,
                "pool_type": "tok",
                "patch_dropout": 0.5,
                "timm_pool": "avg",
            },
        ),
        ("vision_cfg", {"norm_kwargs": {}, "act_kwargs": None, "image_size": [40, 40], "output_tokens": True}),
        (
            "text_cfg",
            {
                "hf_tokenizer_name": "someone/else",
                "hf_proj_type": "mlp",
                "pool_type": "argmax",
                "mlp_ratio": 4,
                "pad_id": 1,
            },
        ),
        ("model_cfg", {"custom_text": True, "multimodal_cfg": None, "init_logit_scale": 2.0}),
        ("preprocess_cfg", {"size": [40, 40], "fill_color": 3, "mode": "RGB"}),
    ],
)
def test_keys_that_change_nothing_change_nothing(copy, model, part, changes):
    configure(copy, part, **changes)
    adapter = load_model(str(copy), "cpu", "float32")
    assert adapter.spec.files | {"config": ""} == model.spec.files | {"config": ""}


@pytest.mark.parametrize(
    ("embed", "vision", "text", "millions"),
    [
        (512, {"patch_size": 32}, {}, 151.28),
        (768, {"layers": 24, "width": 1024, "patch_size": 14}, {"width": 768, "heads": 12}, 427.62),
        (
            1280,
            {"layers": 48, "width": 1664, "head_width": 104, "mlp_ratio": 4.9231, "patch_size": 14},
            {"width": 1280, "heads": 20, "layers": 32},
            2539.57,
        ),
    ],
    ids=["ViT-B-32", "ViT-L-14", "ViT-bigG-14"],
)
def test_published_configurations_have_as_many_parameters_as_published(embed, vision, text, millions):
    """open_clip's docs/model_profile.csv; what is not given is its default."""
    given = {"model_cfg": {"embed_dim": embed, "vision_cfg": vision, "text_cfg": text}}
    with torch.device("meta"):
        model = CLIPModel(towers(Checkpoint("m", "m", given)))
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == millions
    assert model.config.text_config.max_position_embeddings == 77


@pytest.mark.parametrize("part", ["model_cfg", "preprocess_cfg", "vision_cfg", "text_cfg"])
def test_a_part_that_is_not_there_is_refused(copy, part):
    path = copy / "open_clip_config.json"
    config = json.loads(path.read_text())
    (config if part in config else config["model_cfg"]).pop(part)
    path.write_text(json.dumps(config))
    assert f"its open_clip_config.json has no {part}" in refused(copy)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: drop(t, "visual.ln_pre.bias"), "1 of its tensors is missing (visual.ln_pre.bias)"),
        (lambda t: drop(t, "text_projection"), "1 of its tensors is missing (text_projection)"),
        (
            lambda t: t | {"transformer.resblocks.1.attn.in_proj_weight": torch.zeros(107, 36)},
            "of another shape (transformer.resblocks.1.attn.in_proj_weight is (107, 36) instead of (108, 36))",
        ),
        (lambda t: t | {"visual.proj": torch.zeros(20, 48)}, "(visual.proj is (20, 48) instead of (48, 20))"),
        (lambda t: t | {"visual.transformer.resblocks.0.ls_1.gamma": torch.zeros(48)}, "unknown (visual.transformer"),
        (
            lambda t: t | {"visual.attn_pool.query": torch.zeros(4)},
            "1 of its tensors is unknown (visual.attn_pool.query)",
        ),
        (lambda t: t | {"text.ln_final.bias": torch.zeros(36)}, "of its tensors are missing (text.ln_final.weight, "),
        (
            lambda t: t | {"visual.class_embedding": torch.zeros(48, dtype=torch.int8)},
            "of a type that is no floating point (visual.class_embedding)",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named_as_open_clip_names_them(copy, change, says):
    weights(copy, change)
    message = refused(copy)
    assert says in message
    assert "open_clip_config.json" in message


def drop(tensors, name):
    return {key: value for key, value in tensors.items() if key != name}


def test_more_layers_than_there_are_tensors_is_refused_before_they_are_built(copy):
    configure(copy, "vision_cfg", layers=999_999)
    assert "tensors, too few for 1000001 layers" in refused(copy)


def test_a_bias_that_the_configuration_speaks_of_must_be_there(copy):
    configure(copy, "model_cfg", init_logit_bias=-10)
    assert "1 of its tensors is missing (logit_bias)" in refused(copy)


def test_a_folder_without_weights_or_tokenizer_is_refused(copy):
    (copy / "open_clip_model.safetensors").rename(copy / "other.safetensors")
    assert "it has no open_clip_model.safetensors or open_clip_pytorch_model.bin" in refused(copy)
    (copy / "tokenizer.json").unlink()
    assert "it has no tokenizer files (tokenizer.json or vocab.json and merges.txt)" in refused(copy)


@pytest.mark.parametrize("kind", ["words", "pieces", "unigram"])
def test_a_tokenizer_of_another_model_is_refused(copy, kind):
    make_tokenizer(kind).save_pretrained(copy)
    assert "use the tokenizer that the model was trained with" in refused(copy)


def test_a_tokenizer_whose_end_is_not_the_highest_id_is_refused(tmp_path):
    """open_clip would pool the padding behind it."""
    folder, _, _ = make_open_clip(tmp_path / "m", "words")
    text = (folder / "tokenizer.json").read_text()
    text = text.replace("<pad>", "<swap>").replace("<end_of_text>", "<pad>").replace("<swap>", "<end_of_text>")
    text = text.replace('"<start_of_text>", "type_id"', '"<start_of_text>", "type_id"')
    (folder / "tokenizer.json").write_text(text)
    assert "use the tokenizer that the model was trained with" in refused(folder)


@pytest.mark.parametrize("text", ["nothing", "[]", "{}", ""])
@pytest.mark.parametrize(
    "file", ["open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "tokenizer.json"]
)
def test_a_damaged_file_is_one_line(copy, file, text):
    if file.endswith("bin"):
        (copy / "open_clip_model.safetensors").unlink()
    (copy / file).write_text(text)
    says = refused(copy)
    assert file in says or file == "tokenizer.json"

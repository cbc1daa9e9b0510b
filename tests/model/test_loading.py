"""Files that are not complete or do not fit each other are refused by name; what was loaded has a SHA-256 by role."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_clip import make_tiny, tiny_tokenizer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import CLIPImageProcessorPil, CLIPProcessor, CLIPTokenizer, PreTrainedTokenizerFast

from mmel_cli.errors import ModelError
from mmel_cli.model import FAMILIES, load_model

# what a tokenizer's settings hold is CLIP's default
UNHARMED = {("tokenizer_config.json", "{}"), ("tokenizer_config.json", '{"image_processor": 3}')}


@pytest.fixture
def copy(tiny, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny, folder)
    return folder


def weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors", {"format": "pt"})


def settings(folder, file, **changes):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder):
    with pytest.raises(ModelError) as caught:
        load_model(str(folder), "cpu", "float32")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_a_checkpoint_without_its_text_tower_is_refused(copy):
    weights(copy, lambda tensors: {name: t for name, t in tensors.items() if not name.startswith("text_model")})
    assert "52 of its tensors are missing (text_model.embeddings.position_embedding.weight, " in refused(copy)


def test_a_tensor_of_another_shape_is_refused(copy):
    weights(copy, lambda tensors: tensors | {"visual_projection.weight": torch.zeros(7, 32)})
    assert "1 of its tensors is of another shape (visual_projection.weight is (7, 32) instead of (20, 32))" in refused(
        copy
    )


def test_a_tensor_that_the_model_does_not_have_is_refused(copy):
    weights(copy, lambda tensors: tensors | {"adapter.down.weight": torch.zeros(3)})
    assert "1 of its tensors is unknown (adapter.down.weight)" in refused(copy)


def test_position_ids_of_old_checkpoints_are_no_tensors_of_the_model(copy, tiny):
    ids = {
        f"{tower}_model.embeddings.position_ids": torch.arange(n)[None] for tower, n in (("text", 16), ("vision", 17))
    }
    weights(copy, lambda tensors: tensors | ids)
    assert load_model(str(copy), "cpu", "float32").spec.files == load_model(str(tiny), "cpu", "float32").spec.files


def test_a_folder_without_a_tokenizer_is_refused(copy):
    for path in copy.glob("tokenizer*"):
        path.unlink()
    assert "no tokenizer files" in refused(copy)


def test_a_folder_with_only_settings_of_a_tokenizer_is_refused(copy):
    (copy / "tokenizer.json").unlink()
    assert "no tokenizer files (tokenizer.json, vocab.json, " in refused(copy)


def test_a_tokenizer_of_another_kind_is_refused(copy):
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3, "red": 4, "dog": 5}
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    backend = Tokenizer(WordLevel(vocabulary, special["unk_token"]))
    backend.pre_tokenizer = Whitespace()
    other = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    other.save_pretrained(copy)
    assert "use the tokenizer that the model was trained with" in refused(copy)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_tokenizer_with_fewer_or_more_tokens_is_refused(tmp_path, legacy):
    folder = make_tiny(tmp_path / "m", legacy_eos=legacy)
    text = json.loads(tiny_tokenizer().backend_tokenizer.to_str())["model"]
    for name, count in (("fewer", -1), ("more", 1)):
        vocabulary = list(text["vocab"])
        words, special = vocabulary[:-2], vocabulary[-2:]
        words = words[:-1] if count < 0 else [*words, "new"]
        merges = [tuple(pair) for pair in text["merges"] if "".join(pair) in words]
        tokens = {token: i for i, token in enumerate([*words, *special])}
        other = tmp_path / name
        shutil.copytree(folder, other)
        CLIPTokenizer(tokens, merges, model_max_length=16).save_pretrained(other)
        assert "use the tokenizer that the model was trained with" in refused(other)


def test_a_processor_of_another_kind_is_refused_by_its_name(copy):
    settings(copy, "preprocessor_config.json", image_processor_type="SiglipImageProcessor")
    says = refused(copy)
    assert "preprocessor_config.json declares the image processor SiglipImageProcessor" in says
    assert "CLIPImageProcessor" in says


def test_a_processor_that_is_not_there_is_refused(copy):
    (copy / "preprocessor_config.json").unlink()
    assert "no preprocessor_config.json" in refused(copy)


def test_a_processor_for_another_input_is_refused_with_both_sizes(copy):
    settings(copy, "preprocessor_config.json", crop_size={"height": 48, "width": 48})
    assert "gives 48x48 pixels, the vision tower takes 32x32" in refused(copy)


def test_another_model_type_is_refused_with_the_types_that_work(copy):
    settings(copy, "config.json", model_type="blip")
    says = refused(copy)
    assert "its type is 'blip'" in says
    assert ", ".join(FAMILIES) in says


@pytest.mark.parametrize("text", ["nothing", "{}", "[]", '{"image_processor": 3}', ""])
@pytest.mark.parametrize(
    "file", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"]
)
def test_a_damaged_file_is_one_line(copy, file, text):
    (copy / file).write_text(text)
    if (file, text) in UNHARMED:
        load_model(str(copy), "cpu", "float32")
    else:
        refused(copy)


def test_each_file_decides_its_own_sha256(tiny, copy):
    before = load_model(str(tiny), "cpu", "float32").spec.files
    assert set(before) == {"weights", "config", "tokenizer", "processor"}
    assert load_model(str(copy), "cpu", "bfloat16").spec.files == before

    def changed():
        after = load_model(str(copy), "cpu", "float32").spec.files
        return {role for role in before if after[role] != before[role]}

    settings(copy, "config.json", transformers_version="0.0.1")
    assert changed() == set()
    settings(copy, "config.json", logit_scale_init_value=1.5)
    assert changed() == {"config"}
    settings(copy, "preprocessor_config.json", image_mean=[0.5, 0.5, 0.5])
    assert changed() == {"config", "processor"}
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-1]
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert changed() == {"config", "processor", "tokenizer"}
    weights(copy, lambda tensors: tensors | {"logit_scale": torch.tensor(1.0)})
    assert changed() == {"config", "processor", "tokenizer", "weights"}


def test_files_in_another_form_have_the_same_sha256(tiny, copy):
    """A tokenizer as vocab.json and merges.txt, an image processor inside processor_config.json."""
    before = load_model(str(tiny), "cpu", "float32").spec.files
    tokenizer = CLIPTokenizer.from_pretrained(copy)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    CLIPProcessor(CLIPImageProcessorPil.from_pretrained(copy), tokenizer).save_pretrained(copy)
    (copy / "tokenizer.json").unlink()
    (copy / "preprocessor_config.json").unlink()
    (copy / "vocab.json").write_text(json.dumps(model["vocab"]))
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (copy / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n")
    assert load_model(str(copy), "cpu", "float32").spec.files == before


def test_captions_do_not_change_a_tokenizers_sha256(tiny):
    model = load_model(str(tiny), "cpu", "float32")
    model.tokenize(["a red dog " * 20, "cat"])
    assert load_model(str(tiny), "cpu", "float32").spec.files == model.spec.files


def test_float32_is_not_tf32_where_a_model_was_loaded(tiny, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    load_model(str(tiny), "cpu", "float32")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_a_model_of_the_hubs_cache_has_the_sha256_of_its_folder(tiny, tmp_path):
    """Without a network, from a snapshot that holds only the files that there are."""
    repository = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(tiny, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    code = "import json, mmel_cli.model as m; print(json.dumps(m.load_model('someone/tiny', 'cpu', 'auto').spec.files))"
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == load_model(str(tiny), "cpu", "float32").spec.files

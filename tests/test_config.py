"""Configuration: defaults once, options over --set over YAML, and mistakes named with their place."""

from pathlib import Path

import pytest
import yaml

from mmel_cli.config import EvalConfig, RunConfig, TrainConfig, load_config, load_eval_config, load_train_config
from mmel_cli.errors import UsageError

CONFIGS = Path(__file__).parent.parent / "configs"
RUNS = set(CONFIGS.glob("*.yaml")) - {CONFIGS / "eval.yaml", CONFIGS / "train-weights.yaml"}


def test_default_yaml_documents_every_setting_with_its_default():
    assert yaml.safe_load((CONFIGS / "default.yaml").read_text()) == RunConfig().plain()


def test_eval_yaml_documents_every_setting_with_its_default():
    assert yaml.safe_load((CONFIGS / "eval.yaml").read_text()) == EvalConfig().plain()
    assert load_eval_config(CONFIGS / "eval.yaml") == EvalConfig()


def test_the_training_config_documents_every_training_default():
    path = CONFIGS / "train-weights.yaml"
    assert load_train_config(path).plain() == TrainConfig().plain()
    assert yaml.safe_load(path.read_text())["training"] == TrainConfig().plain()["training"]


@pytest.mark.parametrize("setting", ["method.shifts=5", "method.zooms=[0.8]", "method.name=flow"])
def test_training_refuses_what_it_cannot_learn_from(setting):
    with pytest.raises(UsageError, match=r"method\."):
        load_train_config(None, [setting])


@pytest.mark.parametrize("path", sorted(RUNS), ids=lambda path: path.name)
def test_every_config_loads(path):
    assert load_config(path).plain()["method"]["name"] in path.read_text()


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


VIEWS = {"gradient": "plain", "shifts": 1, "zooms": []}
OTHER = {
    "model.name": "x", "model.image_size": [32, 48], "device": "cpu", "dtype": "float16",
    "input.caption": "c", "input.caption_column": "d", "input.image_column": "e",
    "input.prompts": "p.txt", "against.text": "t",
    "image.geometry": "squash", "method.name": "flow", "method.layers": "last", "method.text_layers": 2,
    "method.scales": [1], "method.gradient": "balanced-norms", "method.shifts": 5, "method.zooms": [0.8],
    "method.weights": "w", "archive.channels": "final",
    "archive.dtype": "float16",
    "heatmap.colormap": "jet", "heatmap.format": "webp", "heatmap.panels": "side-by-side", "heatmap.max_side": 100,
    "limit": 5,
    "words.seed": 3, "words.phrase": "alone",
    "ranks.count": 2, "ranks.lease": 5.0, "ranks.engine": "ray", "ranks.address": "auto", "ranks.cores": 2,
    "ranks.gpus": 0.5, "draw_processes": 2,
}  # fmt: skip


@pytest.mark.parametrize(("key", "default"), list(leaves(RunConfig().plain())))
def test_every_setting_reaches_the_resolved_configuration(key, default):
    value = OTHER[key] if key in OTHER else (not default if isinstance(default, bool) else default / 2)
    value = int(value) if isinstance(default, int) and not isinstance(default, bool) and key not in OTHER else value
    settings = [f"{key}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}"]
    found = dict(leaves(load_config(None, settings).plain()))
    assert found[key] == value != default


def test_options_beat_set_beats_yaml(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("batch_size: 2\nworkers: 2\nlimit: 2\n")
    config = load_config(path, ["workers=3", "limit=3"], {"limit": 4, "model": None})
    assert (config.batch_size, config.workers, config.limit) == (2, 3, 4)


def test_another_method_by_option_drops_the_files_parameters(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("method:\n  name: mmel\n  scales: [1]\n")
    config = load_config(path, ["method.heads=single"], {"method.name": "grad-eclip"})
    assert (
        config.method.plain() == {"name": "grad-eclip", "layers": "last", "text_layers": 8, "heads": "single"} | VIEWS
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("batch_size: 1\nbatch_size: 2\n", "line 2: key 'batch_size' is given twice"),
        ("heatmap:\n  opacty: 1\n", "line 2: heatmap.opacty: no such setting; did you mean opacity"),
        ("batchsize: 1\n", "line 1: batchsize: no such setting; did you mean batch_size"),
        ("batch_size: many\n", "line 1: batch_size"),
        ("batch_size: 0\n", "line 1: batch_size"),
        ("model:\n  - 1\n", "line 1: model"),
        ("model:\n  image_size: wide\n", "line 2: model.image_size: must be height,width in pixels"),
        ("model:\n  image_size: [0, 8]\n", "line 2: model.image_size: must be height,width in pixels"),
        ("method:\n  name: no\n", "line 1: method"),
        ("method:\n  name: flow\n  scales: [1]\n", "line 3: method.scales: no such setting"),
        ("method:\n  name: nope\n", "there are mmel, grad-eclip, flow"),
        ("heatmap:\n  colormap: infreno\n", "inferno"),
        ("heatmap:\n  opacity: 1e9\n", "opacity"),
        ("image:\n  geometry: stretch\n", "native, squash, letterbox"),
        ("a: [1\n", "is not YAML"),
        ("- 1\n", "keys and values"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not YAML"),
        ("[" * 5000, "is not YAML"),
    ],
)
def test_mistakes_name_the_key_and_its_line(tmp_path, text, says):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_config(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "c.yaml" in str(caught.value) or "there are" in says


def test_scientific_notation_is_a_number(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("method:\n  name: mmel\n  temperature: 1e-2\n")
    assert load_config(path).method.params.temperature == 0.01


EVAL = (
    *("faithfulness.steps=0", "faithfulness.blur=0", "faithfulness.blur=1.5", "faithfulness.blur=.nan"),
    *("faithfulness.fractions=[0,0.1,0.1,1]", "faithfulness.fractions=[0,1]", "faithfulness.fractions=[0.1,0.2,1]"),
    *("faithfulness.fractions=[0,0.1,0.9]", "faithfulness.fractions=[0,.nan,1]"),
    *("faithfulness.region=0", "faithfulness.batch=0", "aid.points=1", "localisation.tolerance=-1"),
    *("localisation.tolerance=.nan", "localisation.sizes=[0.2,0.1]", "sanity.samples=0", "sanity.depths=0"),
    *("sanity.draws=0", "sanity.radius=0", "sanity.radius=.inf", "comparison.resamples=0", "comparison.confidence=1.5"),
    *("comparison.seed=-1", "rivals=0", "batch_size=0", "image.limits.max_pixels=0", "image.limits.max_aspect=.nan"),
)
TRAINING = (
    *("training.learning_rate=0", "training.learning_rate=.nan", "training.softness=.inf", "training.seed=-1"),
    *("training.regularisation=.nan", "training.faithfulness_weight=0", "training.validation=1", "training.blur=1.5"),
)
EXPLAIN = ("heatmap.opacity=.nan", "heatmap.max_side=0", "archive.shard_size=0", "image.limits.max_bytes=0", "limit=0")


@pytest.mark.parametrize(
    ("load", "setting"),
    [
        *((load_eval_config, setting) for setting in EVAL),
        *((load_train_config, setting) for setting in TRAINING),
        *((load_config, setting) for setting in EXPLAIN),
    ],
)
def test_a_value_out_of_range_is_refused_once_by_the_name_of_its_setting(load, setting):
    with pytest.raises(UsageError) as caught:
        load(None, [setting])
    key = setting.split("=")[0]
    group, _, name = key.rpartition(".")
    assert str(caught.value).startswith(f"{group or name}")
    assert name in str(caught.value) or "image.limits must be at least 1" in str(caught.value)
    assert f"{group}: {group}." not in str(caught.value)


@pytest.mark.parametrize("setting", ["x", "=1", "heatmap.opacity.x=1", "heatmap=[1"])
def test_wrong_settings_are_refused(setting):
    with pytest.raises(UsageError):
        load_config(None, [setting])

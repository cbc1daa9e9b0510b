"""What may change between two calls of the same folder: 24 changes of settings, model files and places; strangers."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from mmel_cli import load_archive
from mmel_cli.attribution import base


@pytest.fixture(scope="module")
def start(tmp_path_factory, photos, tiny):
    """A run of 7 of 24 records, made once and copied by each test, beside its own copies of input and model."""
    from mmel_cli.config import load_config
    from mmel_cli.pipelines.explain import explain

    root = tmp_path_factory.mktemp("start")
    shutil.copytree(photos, root / "in")
    shutil.copytree(tiny, root / "model")
    settings = {"model": str(root / "model"), "limit": 7, "batch_size": 3}
    explain(root / "in", root / "run", load_config(None, ["archive.shard_size=5", "heatmap.format=png"], settings))
    return root


@pytest.fixture
def place(start, tmp_path):
    for name in ("in", "model", "run"):
        shutil.copytree(start / name, tmp_path / name)
    return tmp_path


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def other_weights(place):
    tensors = load_file(place / "model/model.safetensors")
    tensors["logit_scale"] = tensors["logit_scale"] + 1
    save_file(tensors, place / "model/model.safetensors", {"format": "pt"})


def config_json(place):
    edit(place / "model/config.json", lambda c: c["vision_config"].update(hidden_act="gelu"))


def tokenizer_json(place):
    def swap(content):
        merges = content["model"]["merges"]
        merges.remove(next(m for m in merges if "".join(m).replace(" ", "") == "dog</w>"))

    edit(place / "model/tokenizer.json", swap)


def processor_json(place):
    edit(place / "model/preprocessor_config.json", lambda c: c.update(image_mean=[0.5, 0.5, 0.5]))


def another_caption(place):
    path = place / "in/metadata.jsonl"
    path.write_text(path.read_text().replace("red dog", "blue dog"))


def moved_input(place):
    (place / "in").rename(place / "elsewhere")
    return ["elsewhere"]


def moved_model(place):
    (place / "model").rename(place / "there")
    return ["--model", "there"]


def half_precision(_place):
    return ["--dtype", "bfloat16"]


REFUSED = {
    "another method": (["--method", "flow"], ['method.name was "mmel", is now "flow"']),
    "a parameter of the method": (["--set", "method.temperature=0.2"], ["method.temperature was 0.1, is now 0.2"]),
    "layers": (["--set", "method.layers=last"], ['method.layers was "all", is now "last"']),
    "geometry": (["--set", "image.geometry=squash"], ['image.geometry was "native", is now "squash"']),
    "dtype": (half_precision, ["dtype of the model was float32, is now bfloat16"]),
    "channels": (["--set", "archive.channels=final"], ['archive.channels was "all", is now "final"']),
    "stored dtype": (["--set", "archive.dtype=float16"], ['archive.dtype was "float32", is now "float16"']),
    "caption column": (["--caption-column", "text"], ['input.caption_column was null, is now "text"']),
    "image column": (["--image-column", "file_name"], ['input.image_column was null, is now "file_name"']),
    "weights of the model": (other_weights, ["weights (SHA-256) was ", "is now "]),
    "config.json": (config_json, ["config (SHA-256) was "]),
    "tokenizer": (tokenizer_json, ["tokenizer (SHA-256) was "]),
    "processor": (processor_json, ["processor (SHA-256) was "]),
    "a caption of the input": (another_caption, ["record 00.png#0", "another caption"]),
}
GOES_ON = {
    "raised limits": ["--set", "image.limits.max_pixels=200000000"],
    "another shard size": ["--set", "archive.shard_size=4"],
    "another batch size": ["--batch-size", 4],
    "other workers": ["--workers", 1],
    "no limit": [],
    "cpu for auto": ["--device", "cpu"],
    "float32 for auto": ["--dtype", "float32"],
    "untrained for auto": ["--weights", "untrained"],
    "a moved input": moved_input,
    "a moved model": moved_model,
    "another look": ["--set", "heatmap.opacity=0.3"],
}


def command(place, change):
    given = change(place) if callable(change) else change
    source, options = ("elsewhere", []) if given == ["elsewhere"] else ("in", given or [])
    if "--model" not in options:
        options = [*options, "--model", "model"]
    options = [str(place / "there") if o == "there" else str(place / "model") if o == "model" else o for o in options]
    return [
        "explain",
        place / source,
        "--out",
        place / "run",
        "--set",
        "archive.shard_size=5",
        "--set",
        "heatmap.format=png",
        "--batch-size",
        3,
        *options,
    ]


@pytest.mark.parametrize("name", REFUSED)
def test_what_decides_numbers_is_refused_with_both_values(place, mmel, name):
    change, says = REFUSED[name]
    before = {p: p.read_bytes() for p in (place / "run/archive").iterdir()}
    code, _, err = mmel(*command(place, change))
    assert code == 2, err
    for part in says:
        assert part in err
    assert {p: p.read_bytes() for p in (place / "run/archive").iterdir()} == before


def test_a_new_version_of_the_mathematics_is_refused(place, mmel, monkeypatch):
    monkeypatch.setattr("mmel_cli.pipelines.provenance.METHOD_VERSION", "next")
    code, _, err = mmel(*command(place, []))
    assert code == 2
    assert f"version of METHOD was {base.METHOD_VERSION}, is now next" in err


@pytest.mark.parametrize("name", GOES_ON)
def test_what_decides_nothing_goes_on(place, mmel, name):
    code, _, err = mmel(*command(place, GOES_ON[name]))
    assert code == 0, err
    assert "Going on: 7 records done" in err
    with load_archive(place / "run") as archive:
        assert len(archive) == len(set(archive.ids)) == 24


def pixels(place):
    found = sorted((place / "run/heatmaps").rglob("*.png"))
    return {path.name: np.asarray(Image.open(path)) for path in found}


def test_pictures_of_finished_records_follow_their_settings(place, mmel):
    """Redrawn without the model; a redraw that was cut short begins again."""
    before = pixels(place)
    assert len(before) == 7
    look = ["--set", "heatmap.colormap=viridis", "--limit", 7]
    code, _, err = mmel(*command(place, look))
    assert code == 0
    assert "Drawing the pictures of 7 finished records anew" in err
    after = pixels(place)
    assert after.keys() == before.keys()
    assert all(after[name].shape != before[name].shape or (after[name] != before[name]).any() for name in before)
    assert "anew" not in mmel(*command(place, look))[2]
    (place / "run/heatmaps/drawn.json").unlink()
    assert "anew" in mmel(*command(place, look))[2]
    assert "anew" not in mmel(*command(place, ["--set", "heatmaps=false", "--limit", 7]))[2]


@pytest.mark.parametrize(("kind", "ending"), [("jpeg", ".jpg"), ("webp", ".webp")])
def test_another_format_takes_the_place_of_the_one_before(place, mmel, kind, ending):
    before = pixels(place)
    code, _, err = mmel(*command(place, ["--set", f"heatmap.format={kind}", "--limit", 8]))
    assert code == 0
    assert "Drawing the pictures of 7 finished records anew" in err
    drawn = {path.stem: path for path in (place / "run/heatmaps").rglob("*.*") if path.name != "drawn.json"}
    assert {path.suffix for path in drawn.values()} == {ending}
    assert len(drawn) == 8
    for name, old in before.items():
        with Image.open(drawn[name.removesuffix(".png")]) as picture:
            assert picture.format == kind.upper()
            new = np.asarray(picture.convert("RGB"), np.int64)
        assert new.shape == old.shape
        assert np.abs(new - old).mean() < 8
    code, out, _ = mmel("show", place / "run", load_archive(place / "run").ids[0])
    assert code == 0
    assert f"{ending}\n" in out[out.index("Picture: ") :].replace("\r", "")
    code, _, err = mmel(*command(place, ["--set", "heatmap.format=gif", "--limit", 8]))
    assert code == 2
    assert "png" in err
    code, _, _ = mmel(*command(place, ["--limit", 8]))
    assert code == 0
    assert {path.suffix for path in (place / "run/heatmaps").rglob("*.*") if path.name != "drawn.json"} == {".png"}


@pytest.mark.parametrize(
    ("change", "role"), [(other_weights, "weights"), (tokenizer_json, "tokenizer"), (processor_json, "processor")]
)
def test_eval_and_training_refuse_a_model_that_is_not_the_runs(place, mmel, change, role):
    change(place)
    given = ["--model", place / "model", "--data", place / "in"]
    code, out, _ = mmel("eval", place / "run", "--metrics", "insertion,sparseness", *given, "--json")
    report = json.loads(out)
    assert code == 3
    assert f"SHA-256 of its {role} was " in report["refused"]["run"]["insertion"]
    assert report["metrics"]["sparseness"]["runs"]["run"]["records"] == 7
    learn = ["--objective", "faithfulness", "--out", place / "w.safetensors"]
    code, _, err = mmel("train-weights", place / "run", *learn, *given)
    assert code == 2
    assert f"SHA-256 of its {role} was " in err.replace("\n", " ")


MARKERS = {"explain": "run.yaml", "fuse": "run.yaml", "eval": "eval.yaml", "train-weights": "training.yaml"}


def strangers(marker):
    """Three folders that are not ours: without a marker, with another tool's, and with our names beside a lock."""
    return [
        {"thesis.tex": "years of work", "archive/part-00000.h5": "not HDF5", "heatmaps/a.png": "a picture"},
        {marker: "name: another tool\nconfig: {}\n", "archive/part-00000.h5": "x", "scores/a.jsonl": "y"},
        {".lock": "held by me", "archive/data.bin": "x", "heatmaps/b.png": "y", "plots/c.png": "z"},
    ]


@pytest.mark.parametrize("verb", MARKERS)
@pytest.mark.parametrize("kind", range(3))
def test_strangers_folders_survive_every_call(start, tmp_path, mmel, verb, kind):
    out = tmp_path / "w.training" if verb == "train-weights" else tmp_path / "out"
    files = {out / name: text for name, text in strangers(MARKERS[verb])[kind].items()}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    calls = {
        "explain": ["explain", start / "in", "--out", out, "--model", start / "model"],
        "fuse": ["fuse", start / "run", "--weights", "untrained", "--out", out],
        "eval": ["eval", start / "run", "--metrics", "sparseness", "--out", out],
        "train-weights": [
            "train-weights",
            start / "run",
            "--objective",
            "faithfulness",
            "--out",
            tmp_path / "w.safetensors",
        ],
    }
    for more in ([], ["--overwrite"]):
        code, _, err = mmel(*calls[verb], *more)
        assert code == 2, err
        assert "give a new folder" in err
        assert {p: p.read_text() for p in out.rglob("*") if p.is_file()} == files


def test_a_strangers_weights_file_is_not_replaced(start, tmp_path, mmel):
    (tmp_path / "w.safetensors").write_bytes(b"a model of mine")
    code, _, err = mmel(
        "train-weights", start / "run", "--objective", "faithfulness", "--out", tmp_path / "w.safetensors"
    )
    assert code == 2
    assert "w.safetensors" in err
    assert (tmp_path / "w.safetensors").read_bytes() == b"a model of mine"

"""The fused map equals a literal loop over METHOD 3; the weights file is exact and refuses other models."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from oracles import hsrm_loops
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mmel_cli.attribution import METHODS, Target, hsrm
from mmel_cli.attribution.mmel import Params
from mmel_cli.attribution.weights import (
    EvidenceKind,
    HsrmWeights,
    choose_weights,
    load_weights,
    save_weights,
    untrained,
)
from mmel_cli.errors import UsageError
from mmel_cli.model import CaptureRequest, load_model
from mmel_cli.tensors import Capture

TARGET = Target("tiny", "abc", (1, 2, 3, 4))
KIND = EvidenceKind("balanced", 0.1)


def random_weights(scales, seed=3):
    g = torch.Generator().manual_seed(seed)
    shapes = {n: v.shape for n, v in vars(untrained(4, scales)).items() if n != "scales"}
    return HsrmWeights(scales, **{name: torch.randn(shape, generator=g) for name, shape in shapes.items()})


@pytest.fixture(scope="module")
def capture(tiny) -> Capture:
    model = load_model(str(tiny), "cpu", "float32")
    rng = np.random.default_rng(5)
    pixels = [
        model.preprocess(Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)), "native") for _ in range(2)
    ]
    request = CaptureRequest((1, 2, 3, 4), (1, 2, 3), hidden=True, alignment=True)
    return model.capture(pixels, model.tokenize(["a red dog", "cat"]), [(0, 0), (1, 1)], request)


@pytest.mark.parametrize("scales", [(1, 2, 4), (1,), (2, 3)], ids=str)
def test_fusion_equals_a_literal_loop(capture, scales):
    """(2, 3) does not divide the 4 x 4 grid, so pooling is adaptive."""
    weights, params = random_weights(scales), Params(scales=scales, temperature=0.3)
    found = METHODS["mmel"].explain(capture, params, weights)
    arrays = {n: v.double().numpy() for n, v in vars(weights).items() if n != "scales"} | {"scales": scales}
    for p in range(2):
        raw = {name.removeprefix("layers/"): maps[p].double().numpy() for name, maps in found.fields.items()}
        expected = hsrm_loops.fuse(
            raw["loosened"],
            raw["flow"],
            torch.stack(capture.hidden)[:, p].double().numpy(),
            raw["alignment"],
            raw["attention"],
            raw["lambda"],
            arrays,
            0.3,
        )
        np.testing.assert_allclose(found.map[p].numpy(), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_archived_channels_are_enough_to_fuse_again(capture):
    """What the archive holds, fused with other weights, equals explaining with those weights."""
    params, other = Params(), random_weights((1, 2, 4))
    first = METHODS["mmel"].explain(capture, params, untrained(4, params.scales))
    evidence = hsrm.Evidence.of(first.fields, params.scales)
    assert torch.equal(hsrm.fuse(evidence, other), METHODS["mmel"].explain(capture, params, other).map)


def test_fusion_is_differentiable_in_every_weight(capture):
    """Autograd against central differences in float64, the parameters perturbed one by one."""
    evidence = hsrm.extract(capture, (1, 2), 0.1)
    evidence = hsrm.Evidence(
        **{f.name: getattr(evidence, f.name).double() for f in dataclasses.fields(evidence) if f.name != "shared"},
        shared={scale: value.double() for scale, value in evidence.shared.items()},
    )
    tensors = [v.double().requires_grad_() for n, v in vars(random_weights((1, 2))).items() if n != "scales"]
    assert torch.autograd.gradcheck(lambda *given: hsrm.fuse(evidence, HsrmWeights((1, 2), *given)), tensors)


def test_untrained_defaults_are_those_of_method_5():
    weights = untrained(6, (1, 2, 4))
    torch.testing.assert_close(weights.channel_mix(), torch.tensor([0.1, 0.02, 0.9, 0.18]))
    torch.testing.assert_close(weights.scale_blend(), torch.tensor([0.6, 0.39, 0.01]))
    torch.testing.assert_close(weights.layer.softmax(0) * 6, torch.ones(6))


def test_weights_survive_their_file_and_serve_only_their_model(tmp_path):
    weights, path = random_weights((1, 2, 4)), tmp_path / "w.safetensors"
    save_weights(path, weights, TARGET)
    again = load_weights(path, TARGET, (1, 2, 4))
    for name, value in vars(weights).items():
        assert name == "scales" or torch.equal(value, getattr(again, name))
    with pytest.raises(UsageError, match="tiny / other"):
        load_weights(path, Target("other", "def", (1, 2, 3, 4)), (1, 2, 4))
    with pytest.raises(UsageError, match=r"layers.*\[1, 2, 3, 4\] / \[4\]"):
        load_weights(path, Target("tiny", "abc", (4,)), (1, 2, 4))
    with pytest.raises(UsageError, match="scales"):
        load_weights(path, TARGET, (1, 2))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match=r"w\.safetensors"):
        load_weights(path, TARGET, (1, 2, 4))


def test_weights_with_wrong_shapes_or_nan_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, random_weights((1, 2, 4)), TARGET)
    tensors = load_file(path)
    about = {"format": "mmel-weights", "version": "1", "model": "tiny", "model_sha256": "abc"}
    metadata = {"mmel": json.dumps(about | {"method": "2", "layers": [1, 2, 3, 4], "scales": [1, 2, 4]})}
    for change in ({"gate": tensors["gate"][:2].contiguous()}, {"mix": tensors["mix"] * torch.nan}):
        save_file(tensors | change, path, metadata)
        with pytest.raises(UsageError, match="wrong shape or is not finite"):
            load_weights(path, TARGET, (1, 2, 4))


@pytest.mark.parametrize("lost", ["format", "model_sha256", "layers", "scales", "method"])
def test_a_weights_file_without_a_part_of_its_notes_is_refused(tmp_path, lost):
    path = tmp_path / "w.safetensors"
    save_weights(path, random_weights((1, 2, 4)), TARGET, {})
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["mmel"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    about.pop(lost)
    save_file(tensors, path, {"mmel": json.dumps(about)})
    with pytest.raises(UsageError, match=r"w\.safetensors"):
        load_weights(path, TARGET, (1, 2, 4))


def test_the_builtin_model_has_weights_of_its_own():
    """`auto` finds them by SHA-256, layers, scales and temperature; anything else has the untrained defaults."""
    spec = load_model("builtin", "cpu", "float32").spec
    target = Target(spec.name, spec.sha256, tuple(range(1, spec.layers + 1)))
    found, trained, origin = choose_weights("auto", target, (1, 2, 4), evidence=KIND)
    assert trained == "shipped"
    assert "localization" in origin
    assert not torch.equal(found.layer, torch.zeros(spec.layers))
    for other, scales, kind in (
        (target, (1, 2), KIND),
        (target, (1, 2, 4), EvidenceKind("balanced", 0.2)),
        (target, (1, 2, 4), EvidenceKind("plain", 0.1)),
        (Target("x", "0" * 64, target.layers), (1, 2, 4), KIND),
    ):
        assert choose_weights("auto", other, scales, evidence=kind)[1] == "untrained"


def test_weights_of_other_evidence_or_an_older_fusion_are_refused_by_name(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, random_weights((1, 2, 4)), TARGET, {"gradient": "plain", "temperature": 0.1})
    with pytest.raises(UsageError, match=r"w\.safetensors: trained for another gradient .* plain / balanced"):
        choose_weights(str(path), TARGET, (1, 2, 4), evidence=KIND, transfer=True)
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["mmel"])
    save_file(load_file(path), path, {"mmel": json.dumps(about | {"method": "1"})})
    with pytest.raises(UsageError, match=r"version of METHOD 3 .* 1 / 2"):
        choose_weights(str(path), TARGET, (1, 2, 4), evidence=KIND, transfer=True)


def test_weights_carried_to_a_deeper_tower_are_read_at_relative_depths(tmp_path):
    path, weights = tmp_path / "w.safetensors", random_weights((1, 2, 4))
    save_weights(path, weights, TARGET)
    carried = load_weights(path, Target("other", "def", tuple(range(1, 9))), (1, 2, 4), transfer=True)
    assert torch.equal(carried.gate, weights.gate)
    one, two, three, four = weights.layer.tolist()
    between = [one, 0.75 * one + 0.25 * two, 0.25 * one + 0.75 * two, 0.75 * two + 0.25 * three]
    between += [0.25 * two + 0.75 * three, 0.75 * three + 0.25 * four, 0.25 * three + 0.75 * four, four]
    torch.testing.assert_close(carried.layer, torch.tensor(between))
    assert carried.layer_weights().mean().item() == pytest.approx(1)
    with pytest.raises(UsageError, match="another model"):
        load_weights(path, Target("other", "def", tuple(range(1, 9))), (1, 2, 4))


def test_constant_rows_become_one_under_minmax():
    keys = torch.tensor([[False, True, True], [False, True, False]])
    values = torch.tensor([[5.0, 2.0, 2.0], [1.0, 7.0, 9.0]])
    assert torch.equal(hsrm.ops.minmax(values, keys), torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]]))

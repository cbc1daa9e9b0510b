"""scripts/bench_throughput.py: its table from a small model, and the published Grad-ECLIP beside the project's own."""

import re
import sys
from pathlib import Path

import pytest
import torch

from mmel_cli.attribution import find_method
from mmel_cli.config import method_of
from mmel_cli.pipelines.engine import Engine

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)


@pytest.fixture
def setting(scripts, tmp_path):
    """The builtin model, three photos with captions of several lengths, the same as transformers takes them."""
    import bench_throughput
    import made

    made.write_photos(tmp_path / "photos", tmp_path / "tars", 3, (64, 48))
    given = bench_throughput.argparse.Namespace(batch_size=3)
    return bench_throughput.Setting("builtin", made.builtin(), tmp_path, given)


def inputs_of(setting):
    return setting.inputs(setting.model, setting.batch())


def test_every_row_is_measured_and_what_is_not_installed_is_named(scripts, monkeypatch, capsys):
    import bench_throughput

    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    small = ["--models", "builtin", "--batch-size", "3", "--pairs", "2", "--rounds", "1", "--steps", "2"]
    monkeypatch.setattr(sys, "argv", ["bench_throughput.py", *small, "--photo-size", "64x48"])
    bench_throughput.main()
    printed = capsys.readouterr().out
    assert "pytorch_grad_cam is not here (ModuleNotFoundError" in printed
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) \| (\d+|-) \| - \|$", printed, re.MULTILINE)
    rates = {name: float(rate) for name, rate, _, _ in rows}
    assert list(rates) == [
        "bare forward of both towers (transformers)",
        "published Grad-ECLIP, one pair at a time (float32)",
        "the same, the image's side alone",
        "captum, integrated gradients of 2 steps (float32)",
        "grad-eclip",
        "mmel",
        "flow",
        "mmel explain --method mmel, JPEG files, no pictures",
        "mmel explain --method mmel, JPEG files, pictures",
        "mmel explain --method mmel, a tar, no pictures",
        "mmel explain --method mmel, a tar, pictures",
    ]
    assert all(rate > 0 for rate in rates.values())
    ceiling = rates["bare forward of both towers (transformers)"]
    for name, rate, share, _ in rows:
        assert float(share) == pytest.approx(float(rate) / ceiling, abs=0.01), name
    assert "    Where the time went: " in printed
    assert "waiting for pictures" in printed
    steps = re.search(r"captum takes so many steps: grad-eclip [\d.]+, mmel ([\d.]+), flow", printed)
    assert float(steps[1]) == pytest.approx(
        2 * rates["captum, integrated gradients of 2 steps (float32)"] / rates["mmel"], rel=0.1
    )


def test_the_published_procedure_gives_what_one_head_gives(setting):
    import made
    import rivals

    params = method_of({"method": {"name": "grad-eclip", "heads": "single"}}).params
    explanations, _ = Engine.build(setting.model, find_method("grad-eclip"), params).explain(setting.batch())
    raw = made.raw_of(setting.model)
    text = raw.config.text_config
    given = (raw, inputs_of(setting), text.max_position_embeddings, text.eos_token_id)
    pairs = rivals.published(*given)
    assert len({len(explanation.tokens) for explanation in explanations}) > 1  # captions of several lengths
    for (of_image, of_text), explanation in zip(pairs, explanations, strict=True):
        mine = torch.from_numpy(explanation.map)
        torch.testing.assert_close(of_image.view(mine.shape), mine, rtol=1e-4, atol=1e-6)
        tokens = torch.from_numpy(explanation.token_map)
        torch.testing.assert_close(of_text[1 : 1 + len(tokens)], tokens, rtol=1e-4, atol=1e-6)
    alone = rivals.published(*given, captions=False)
    assert [of_text for _, of_text in alone] == [None] * 3
    assert all(torch.equal(one, other) for (one, _), (other, _) in zip(alone, pairs, strict=True))


def test_integrated_gradients_are_of_the_cosine_of_each_pair(setting):
    import made
    import rivals

    raw, inputs = made.raw_of(setting.model), inputs_of(setting)
    maps = rivals.integrated(raw, inputs, 64, 7)
    with torch.no_grad():
        texts = rivals.texts_of(raw, inputs)
        gain = rivals.Cosines(raw, texts)(inputs.values) - rivals.Cosines(raw, texts)(torch.zeros_like(inputs.values))
    torch.testing.assert_close(maps.sum((1, 2)), gain[:, 0].float(), rtol=0.05, atol=0.01)


def test_grad_cam_leaves_the_model_frozen_and_is_the_same_with_all_else_frozen(setting):
    pytest.importorskip("pytorch_grad_cam", exc_type=ImportError)
    import made
    import rivals

    raw, inputs = made.raw_of(setting.model), inputs_of(setting)
    whole, frozen = (torch.from_numpy(rivals.grad_cam(raw, inputs, frozen=only)) for only in (False, True))
    assert whole.shape == (3, *inputs.values.shape[2:])
    torch.testing.assert_close(whole, frozen, rtol=1e-3, atol=1e-4)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in raw.parameters())

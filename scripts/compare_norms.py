"""Which layer norms flow suffers from, or gains by, when their deviation is a constant in the backward (METHOD 2).

    python scripts/compare_norms.py --out runs/norms [--model builtin] [--scenes 80]

`balanced` gradients, and on top of them the third rule for one group of norms at a time, for the lengths of the two
embeddings, and for all of it. Validation scenes with 2-4 objects. Prints Markdown.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from table_scenes import write_subset
from torch import nn

from mmel_cli.attribution import ops
from mmel_cli.data import open_source
from mmel_cli.data.images import decode
from mmel_cli.data.truth import read_truth
from mmel_cli.evaluation.localisation import LocalisationOptions, localise
from mmel_cli.geometry import to_pixels
from mmel_cli.model import CaptureRequest, load_model
from mmel_cli.model import balanced as rules
from mmel_cli.types import Sample

METRICS = ("pointing-game", "energy-inside", "pixel-ap")
BATCH = 32


def figures(model: Any, samples: list[Sample]) -> list[float]:
    """The mean of METRICS of flow over the samples."""
    spec = model.spec
    layers = tuple(range(1, spec.layers + 1))
    request = CaptureRequest(layers, (spec.text_layers,), gradient="balanced-norms")
    rows = []
    for start in range(0, len(samples), BATCH):
        part = samples[start : start + BATCH]
        images, texts = ({value: k for k, value in enumerate(dict.fromkeys(values))} for values in zip(
            *((sample.ref.key, sample.caption) for sample in part), strict=True))  # fmt: skip
        refs = {sample.ref.key: sample.ref for sample in part}
        decoded = [decode(refs[key]) for key in images]
        pixels = [model.preprocess(image, "native") for image in decoded]
        pairs = [(images[sample.ref.key], texts[sample.caption]) for sample in part]
        capture = model.capture(pixels, model.tokenize(list(texts)), pairs, request)
        maps = ops.patches([ops.flow(capture.image, number) for number in range(len(layers))], capture.grid).sum(1)
        for sample, values, (image, _) in zip(part, maps.numpy(), pairs, strict=True):
            size = decoded[image].size[::-1]
            at_pixels, seen = to_pixels(values, pixels[image].box, size)
            truth = read_truth(sample, size)
            assert truth is not None  # noqa: S101 - generated scenes have masks
            scores = localise(at_pixels, truth[seen], LocalisationOptions())
            rows.append([scores[name] for name in METRICS])
    return [float(mean) for mean in np.mean(np.array(rows, float), 0)]


def with_rule(model: Any, samples: list[Sample], chosen: Callable[[str], bool], *, lengths: bool) -> list[float]:
    """Figures with the third rule in the vision norms that are `chosen` by name, and perhaps for the lengths."""
    names = {part: name for name, part in model._model.vision_model.named_modules() if isinstance(part, nn.LayerNorm)}
    constant = rules._constant_deviation

    def some(module: nn.Module, inputs: Any, output: Any) -> Any:
        return constant(module, inputs, output) if module in names and chosen(names[module]) else None

    known = dict(rules.RULES)
    known["balanced-norms"] = rules.Rules(attention=True, activation=True, norm=lengths)
    # the hooks of norms are registered by the rule itself, which the lengths follow too
    with patch.object(rules, "_constant_deviation", some), patch("mmel_cli.model.two_towers.RULES", known):
        return figures(model, samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--scenes", type=int, default=80)
    args = parser.parse_args()
    write_subset(args.out / "scenes", 21, args.scenes, "validation")
    samples = [entry for entry in open_source(args.out / "scenes") if isinstance(entry, Sample)]
    model = load_model(args.model, "cpu", "float32")
    encoder = model.spec.layers
    groups: dict[str, tuple[Callable[[str], bool], bool]] = {
        "none: balanced": (lambda _: False, False),
        "lengths of the embeddings": (lambda _: False, True),
        "norm behind the last layer": (lambda name: name == "post_layernorm", False),
        "norms before attention": (lambda name: name.endswith("layer_norm1"), False),
        "norms before MLPs": (lambda name: name.endswith("layer_norm2"), False),
        "norm before the last MLP": (lambda name: name.endswith(f"layers.{encoder - 1}.layer_norm2"), False),
        "norms before the other MLPs": (
            lambda name: name.endswith("layer_norm2") and f"layers.{encoder - 1}." not in name,
            False,
        ),
        "all: balanced-norms": (lambda _: True, True),
    }
    print(
        f"{len(samples)} records, {args.model}\n\n| constant | " + " | ".join(METRICS) + " |\n| --- | --- | --- | --- |"
    )
    for name, (chosen, lengths) in groups.items():
        values = with_rule(model, samples, chosen, lengths=lengths)
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |", flush=True)


if __name__ == "__main__":
    main()

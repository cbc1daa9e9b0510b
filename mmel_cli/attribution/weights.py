"""The parameters of the HSRM (METHOD 3, in brackets there), their untrained defaults, and their safetensors file."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmel_cli.attribution.base import Target
from mmel_cli.errors import UsageError

FORMAT, VERSION = "mmel-weights", "1"
DEFAULT_MIX, DEFAULT_NEGATIVE, DEFAULT_RELATION = 0.95, 0.5, 0.05
DEFAULT_BLEND = (0.8, 0.15, 0.05)  # towards the finest scale
DEFAULT_GATE = (-4.0, 1.0, 4.0, 0.0)  # opens where the key looks like the query (lambda), a little with alignment
_TENSORS = ("mix", "negative", "scale", "relation", "gate", "layer")


@dataclass(frozen=True)
class HsrmWeights:
    """Unconstrained parameters for L layers and R scales, float32."""

    scales: tuple[int, ...]
    mix: Float[Tensor, "layers"]  # m = sigmoid
    negative: Float[Tensor, "layers"]  # n = sigmoid
    scale: Float[Tensor, "layers scales"]  # b = softmax over scales
    relation: Float[Tensor, "layers scales"]  # g = sigmoid
    gate: Float[Tensor, "layers 4"]  # c, as it is
    layer: Float[Tensor, "layers"]  # omega = softmax times L

    def channel_mix(self) -> Float[Tensor, "layers 4"]:
        """Step 1's factors of (G+, G-, C+, C-): 1-m, (1-m) n, m, m n."""
        m, n = self.mix.sigmoid(), self.negative.sigmoid()
        return torch.stack([1 - m, (1 - m) * n, m, m * n], -1)

    def scale_blend(self) -> Float[Tensor, "layers scales"]:
        """Step 4's b."""
        return self.scale.softmax(-1)

    def to(self, device: torch.device) -> "HsrmWeights":
        """The same on another device."""
        return HsrmWeights(self.scales, *(getattr(self, name).to(device) for name in _TENSORS))


def untrained(layers: int, scales: tuple[int, ...]) -> HsrmWeights:
    """METHOD 3's defaults: equal layers, m = 0.95, n = 0.5, b towards the finest scale, g small, gate led by lambda."""
    blend = [DEFAULT_BLEND[min(r, len(DEFAULT_BLEND) - 1)] for r in range(len(scales))]
    return HsrmWeights(
        scales=scales,
        mix=torch.full((layers,), _logit(DEFAULT_MIX)),
        negative=torch.full((layers,), _logit(DEFAULT_NEGATIVE)),
        scale=torch.tensor(blend).log().expand(layers, -1).clone(),
        relation=torch.full((layers, len(scales)), _logit(DEFAULT_RELATION)),
        gate=torch.tensor(DEFAULT_GATE).expand(layers, -1).clone(),
        layer=torch.zeros(layers),
    )


def save_weights(path: Path, weights: HsrmWeights, target: Target, notes: dict[str, str] | None = None) -> None:
    """Write a weights file; `notes` are further metadata."""
    metadata = {"format": FORMAT, "version": VERSION, "model": target.model, "model_sha256": target.model_sha256}
    metadata |= {"layers": json.dumps(target.layers), "scales": json.dumps(weights.scales)} | (notes or {})
    save_file({name: getattr(weights, name).detach().contiguous() for name in _TENSORS}, path, metadata)


def load_weights(path: Path, target: Target, scales: tuple[int, ...]) -> HsrmWeights:
    """Read a weights file that was made for exactly this model, these layers and these scales.

    Raises:
        UsageError: if the file cannot be read or is for another model, layer set or scale set (both are named).
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{path}: not a readable weights file ({error}); give a file written by mmel") from error
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION or set(tensors) != set(_TENSORS):
        raise UsageError(f"{path}: not an {FORMAT} version {VERSION} file; give a file written by mmel")
    _match(path, "model", metadata["model_sha256"], target.model_sha256, f"{metadata['model']} / {target.model}")
    _match(path, "layers", json.loads(metadata["layers"]), list(target.layers))
    _match(path, "scales", json.loads(metadata["scales"]), list(scales))
    expected = untrained(len(target.layers), scales)
    for name in _TENSORS:
        if tensors[name].shape != getattr(expected, name).shape or not tensors[name].isfinite().all():
            raise UsageError(f"{path}: tensor {name} has a wrong shape or is not finite; train the weights again")
    return HsrmWeights(scales, *(tensors[name].float() for name in _TENSORS))


def _match(path: Path, what: str, have: object, want: object, names: str = "") -> None:
    if have != want:
        detail = names or f"{have} / {want}"
        raise UsageError(f"{path}: trained for another {what} than this run's (file / run: {detail}); train it again")


def _logit(p: float) -> float:
    return math.log(p / (1 - p))

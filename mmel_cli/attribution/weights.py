"""The parameters of the HSRM (METHOD 3, in brackets there), their untrained defaults, and their safetensors file."""

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmel_cli.attribution.base import Target
from mmel_cli.errors import UsageError
from mmel_cli.types import Gradient, Trained

FORMAT, VERSION, KEY = "mmel-weights", "1", "mmel"
SHIPPED = Path(__file__).parent / "shipped"  # by the SHA-256 of the model that they were trained for
DEFAULT_MIX, DEFAULT_NEGATIVE, DEFAULT_RELATION = 0.9, 0.2, 0.01
DEFAULT_BLEND = (0.6, 0.39, 0.01)  # the finest two scales
DEFAULT_GATE = (-8.0, 0.0, 5.0, 2.0, 3.0)  # opens where the query looks, in all layers
DEFAULT_CONSENSUS = (1.5, 1.0, 1.0)  # and where all layers find evidence among look-alike patches
METHOD_VERSION = "2"  # of METHOD 3's equations: other ones need other weights
PARAMETERS = ("mix", "negative", "scale", "relation", "gate", "consensus", "layer")


@dataclass(frozen=True)
class EvidenceKind:
    """What evidence weights were learned from, beside the layers and scales: weights of one kind do not fit another."""

    gradient: Gradient  # how the backward went
    temperature: float  # of the semantic relation


@dataclass(frozen=True)
class HsrmWeights:
    """Unconstrained parameters for L layers and R scales, float32; all but omega are the same in every layer."""

    scales: tuple[int, ...]
    mix: Float[Tensor, ""]  # m = sigmoid
    negative: Float[Tensor, ""]  # n = sigmoid
    scale: Float[Tensor, "scales"]  # b = softmax over scales
    relation: Float[Tensor, "scales"]  # g = sigmoid
    gate: Float[Tensor, "5"]  # c, as it is
    consensus: Float[Tensor, "scales"]  # d, as it is
    layer: Float[Tensor, "layers"]  # omega = softmax times L

    def channel_mix(self) -> Float[Tensor, "4"]:
        """Step 1's factors of (G+, G-, C+, C-): 1-m, (1-m) n, m, m n."""
        m, n = self.mix.sigmoid(), self.negative.sigmoid()
        return torch.stack([1 - m, (1 - m) * n, m, m * n])

    def scale_blend(self) -> Float[Tensor, "scales"]:
        """Step 4's b."""
        return self.scale.softmax(0)

    def layer_weights(self) -> Float[Tensor, "layers"]:
        """Step 6's omega, whose mean is 1."""
        return self.layer.softmax(0) * len(self.layer)

    def at_depths(self, layers: int) -> "HsrmWeights":
        """The same for a tower of another number of layers: omega is read at relative depths, between neighbours."""
        have = (np.arange(len(self.layer)) + 0.5) / len(self.layer)
        want = (np.arange(layers) + 0.5) / layers
        layer = np.interp(want, have, self.layer.detach().cpu().double().numpy())
        return replace(self, layer=torch.from_numpy(layer).to(self.layer))

    def tensors(self) -> tuple[Tensor, ...]:
        """All parameters, in the order of PARAMETERS."""
        return tuple(getattr(self, name) for name in PARAMETERS)

    def digest(self) -> str:
        """SHA-256 of scales and parameters: what tells maps of one file from those of another."""
        digest = hashlib.sha256(json.dumps(self.scales).encode())
        for tensor in self.tensors():
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def to(self, device: torch.device) -> "HsrmWeights":
        """The same on another device."""
        return HsrmWeights(self.scales, *(tensor.to(device) for tensor in self.tensors()))


def untrained(layers: int, scales: tuple[int, ...]) -> HsrmWeights:
    """METHOD 3's defaults, learned on two models together and rounded, with equal layers."""
    last = len(DEFAULT_BLEND) - 1
    blend = [DEFAULT_BLEND[min(r, last)] for r in range(len(scales))]
    consensus = [DEFAULT_CONSENSUS[min(r, last)] for r in range(len(scales))]
    return HsrmWeights(
        scales=scales,
        mix=torch.tensor(_logit(DEFAULT_MIX)),
        negative=torch.tensor(_logit(DEFAULT_NEGATIVE)),
        scale=torch.tensor(blend).log(),
        relation=torch.full((len(scales),), _logit(DEFAULT_RELATION)),
        gate=torch.tensor(DEFAULT_GATE),
        consensus=torch.tensor(consensus),
        layer=torch.zeros(layers),
    )


def save_weights(path: Path, weights: HsrmWeights, target: Target, notes: dict[str, Any] | None = None) -> None:
    """Write a weights file; equal content gives equal bytes. `notes` are further plain values in its metadata."""
    about = {"format": FORMAT, "version": VERSION, "model": target.model, "model_sha256": target.model_sha256}
    about |= {"method": METHOD_VERSION}
    about |= {"layers": list(target.layers), "scales": list(weights.scales)} | (notes or {})
    tensors = {name: getattr(weights, name).detach().cpu().contiguous() for name in PARAMETERS}
    path.write_bytes(save(tensors, {KEY: json.dumps(about, sort_keys=True)}))  # one key: their order would be random


def load_weights(
    path: Path,
    target: Target,
    scales: tuple[int, ...],
    *,
    evidence: EvidenceKind | None = None,
    transfer: bool = False,
) -> HsrmWeights:
    """Read a weights file that was made for exactly this model, these layers, these scales and this kind of evidence.

    `transfer` takes one of another model or other layers, if the scales and the evidence agree: omega is read at
    relative depths. None is any evidence.

    Raises:
        UsageError: if the file cannot be read or is for another model, layer set, scale set, gradient or temperature
            (both are named).
    """
    metadata, tensors = _read(path)
    layers = metadata["layers"]
    _match(path, "version of METHOD 3", metadata.get("method"), METHOD_VERSION)
    if not transfer:
        _match(path, "model", metadata["model_sha256"], target.model_sha256, f"{metadata['model']} / {target.model}")
        _match(path, "layers", layers, list(target.layers))
    _match(path, "scales", metadata["scales"], list(scales))
    if evidence is not None:
        _match(path, "temperature", metadata.get("temperature", evidence.temperature), evidence.temperature)
        _match(path, "gradient", metadata.get("gradient", evidence.gradient), evidence.gradient)
    expected = untrained(len(layers), scales)
    for name in PARAMETERS:
        if tensors[name].shape != getattr(expected, name).shape or not tensors[name].isfinite().all():
            raise UsageError(f"{path}: tensor {name} has a wrong shape or is not finite; train the weights again")
    weights = HsrmWeights(scales, *(tensors[name].float() for name in PARAMETERS))
    return weights if len(layers) == len(target.layers) else weights.at_depths(len(target.layers))


def read_notes(path: Path) -> dict[str, Any]:
    """The metadata of a weights file: model, layers, scales, and what its training noted.

    Raises:
        UsageError: if it is none.
    """
    return _read(path)[0]


def choose_weights(
    choice: str, target: Target, scales: tuple[int, ...], *, evidence: EvidenceKind, transfer: bool = False
) -> tuple[HsrmWeights, Trained, str]:
    """The weights that `method.weights` means, the kind of their origin, and where exactly they come from.

    "untrained"; "auto", those that ship with mmel for exactly this model, layers, scales and kind of evidence, else
    untrained; or the path of a weights file.

    Raises:
        UsageError: see load_weights.
    """
    shipped = SHIPPED / f"{target.model_sha256[:16]}.safetensors"
    if choice == "auto" and shipped.exists():
        notes = read_notes(shipped)
        trained_for = (notes["layers"], notes["scales"], notes.get("temperature"), notes.get("gradient"))
        if trained_for == (list(target.layers), list(scales), evidence.temperature, evidence.gradient):
            origin = f"shipped with mmel ({notes.get('objective', '')})"
            return load_weights(shipped, target, scales), "shipped", origin
    if choice in ("auto", "untrained"):
        return untrained(len(target.layers), scales), "untrained", "untrained defaults"
    weights = load_weights(Path(choice), target, scales, evidence=evidence, transfer=transfer)
    return weights, "file", choice + _carried(read_notes(Path(choice)), target)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            metadata = json.loads((file.metadata() or {}).get(KEY, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise UsageError(f"{path}: not a readable weights file ({error}); give a file written by mmel") from error
    if not isinstance(metadata, dict) or not {"model", "model_sha256", "layers", "scales"} <= set(metadata):
        raise UsageError(f"{path}: not a weights file of mmel; give a file written by mmel")
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION or set(tensors) != set(PARAMETERS):
        raise UsageError(f"{path}: not an {FORMAT} version {VERSION} file; give a file written by mmel")
    return metadata, tensors


def _carried(notes: dict[str, Any], target: Target) -> str:
    """What to say of weights that were learned for another model or other layers."""
    if notes["model_sha256"] == target.model_sha256 and notes["layers"] == list(target.layers):
        return ""
    depth = f", {len(notes['layers'])} layers read at {len(target.layers)} relative depths"
    return f" (carried over from {notes['model']}{depth if len(notes['layers']) != len(target.layers) else ''})"


def _match(path: Path, what: str, have: object, want: object, names: str = "") -> None:
    if have != want:
        detail = names or f"{have} / {want}"
        raise UsageError(f"{path}: trained for another {what} than this run's (file / run: {detail}); train it again")


def _logit(p: float) -> float:
    return math.log(p / (1 - p))

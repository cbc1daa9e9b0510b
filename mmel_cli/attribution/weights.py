"""The parameters of the HSRM (METHOD 3, in brackets there), their untrained defaults, and their safetensors file."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmel_cli.attribution.base import Target
from mmel_cli.errors import UsageError
from mmel_cli.types import Trained

FORMAT, VERSION, KEY = "mmel-weights", "1", "mmel"
SHIPPED = Path(__file__).parent / "shipped"  # by the SHA-256 of the model that they were trained for
DEFAULT_MIX, DEFAULT_NEGATIVE, DEFAULT_RELATION = 0.95, 0.5, 0.05
DEFAULT_BLEND = (0.8, 0.15, 0.05)  # towards the finest scale
DEFAULT_GATE = (-4.0, 0.0, 4.0, 0.0)  # opens where the key looks like the query (lambda)
DEFAULT_CONSENSUS = (3.0, 0.0, 0.0)  # and where all layers find evidence among look-alike patches
METHOD_VERSION = "1"  # of METHOD 3's equations: other ones need other weights
PARAMETERS = ("mix", "negative", "scale", "relation", "gate", "consensus", "layer")


@dataclass(frozen=True)
class HsrmWeights:
    """Unconstrained parameters for L layers and R scales, float32."""

    scales: tuple[int, ...]
    mix: Float[Tensor, "layers"]  # m = sigmoid
    negative: Float[Tensor, "layers"]  # n = sigmoid
    scale: Float[Tensor, "layers scales"]  # b = softmax over scales
    relation: Float[Tensor, "layers scales"]  # g = sigmoid
    gate: Float[Tensor, "layers 4"]  # c, as it is
    consensus: Float[Tensor, "layers scales"]  # d, as it is
    layer: Float[Tensor, "layers"]  # omega = softmax times L

    def channel_mix(self) -> Float[Tensor, "layers 4"]:
        """Step 1's factors of (G+, G-, C+, C-): 1-m, (1-m) n, m, m n."""
        m, n = self.mix.sigmoid(), self.negative.sigmoid()
        return torch.stack([1 - m, (1 - m) * n, m, m * n], -1)

    def scale_blend(self) -> Float[Tensor, "layers scales"]:
        """Step 4's b."""
        return self.scale.softmax(-1)

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
    """METHOD 3's defaults: equal layers, b towards the finest scale, gate by lambda and the finest consensus."""
    last = len(DEFAULT_BLEND) - 1
    blend = [DEFAULT_BLEND[min(r, last)] for r in range(len(scales))]
    consensus = [DEFAULT_CONSENSUS[min(r, last)] for r in range(len(scales))]
    return HsrmWeights(
        scales=scales,
        mix=torch.full((layers,), _logit(DEFAULT_MIX)),
        negative=torch.full((layers,), _logit(DEFAULT_NEGATIVE)),
        scale=torch.tensor(blend).log().expand(layers, -1).clone(),
        relation=torch.full((layers, len(scales)), _logit(DEFAULT_RELATION)),
        gate=torch.tensor(DEFAULT_GATE).expand(layers, -1).clone(),
        consensus=torch.tensor(consensus).expand(layers, -1).clone(),
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
    path: Path, target: Target, scales: tuple[int, ...], *, temperature: float | None = None, transfer: bool = False
) -> HsrmWeights:
    """Read a weights file that was made for exactly this model, these layers, these scales and this temperature.

    `transfer` takes one of another model or other layers, if their number, the scales and the temperature agree; None
    is any temperature.

    Raises:
        UsageError: if the file cannot be read or is for another model, layer set, scale set or temperature (both are
            named).
    """
    metadata, tensors = _read(path)
    layers = metadata["layers"]
    if not transfer:
        _match(path, "model", metadata["model_sha256"], target.model_sha256, f"{metadata['model']} / {target.model}")
        _match(path, "layers", layers, list(target.layers))
    _match(path, "version of METHOD 3", metadata.get("method"), METHOD_VERSION)
    _match(path, "number of layers", len(layers), len(target.layers))
    _match(path, "scales", metadata["scales"], list(scales))
    if temperature is not None:
        _match(path, "temperature", metadata.get("temperature", temperature), temperature)
    expected = untrained(len(target.layers), scales)
    for name in PARAMETERS:
        if tensors[name].shape != getattr(expected, name).shape or not tensors[name].isfinite().all():
            raise UsageError(f"{path}: tensor {name} has a wrong shape or is not finite; train the weights again")
    return HsrmWeights(scales, *(tensors[name].float() for name in PARAMETERS))


def read_notes(path: Path) -> dict[str, Any]:
    """The metadata of a weights file: model, layers, scales, and what its training noted.

    Raises:
        UsageError: if it is none.
    """
    return _read(path)[0]


def choose_weights(
    choice: str, target: Target, scales: tuple[int, ...], *, temperature: float, transfer: bool = False
) -> tuple[HsrmWeights, Trained, str]:
    """The weights that `method.weights` means, the kind of their origin, and where exactly they come from.

    "untrained"; "auto", those that ship with mmel for exactly this model, layers, scales and temperature, else
    untrained; or the path of a weights file.

    Raises:
        UsageError: see load_weights.
    """
    shipped = SHIPPED / f"{target.model_sha256[:16]}.safetensors"
    if choice == "auto" and shipped.exists():
        notes = read_notes(shipped)
        trained_for = (notes["layers"], notes["scales"], notes.get("temperature"))
        if trained_for == (list(target.layers), list(scales), temperature):
            origin = f"shipped with mmel ({notes.get('objective', '')})"
            return load_weights(shipped, target, scales), "shipped", origin
    if choice in ("auto", "untrained"):
        return untrained(len(target.layers), scales), "untrained", "untrained defaults"
    return load_weights(Path(choice), target, scales, temperature=temperature, transfer=transfer), "file", choice


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


def _match(path: Path, what: str, have: object, want: object, names: str = "") -> None:
    if have != want:
        detail = names or f"{have} / {want}"
        raise UsageError(f"{path}: trained for another {what} than this run's (file / run: {detail}); train it again")


def _logit(p: float) -> float:
    return math.log(p / (1 - p))

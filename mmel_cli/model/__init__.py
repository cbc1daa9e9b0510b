"""Models: load one, preprocess images for it, capture what the methods need."""

from mmel_cli.model.adapter import BUILTIN, Adapter, Captions, CaptureRequest, ModelSpec, Pixels, load_model
from mmel_cli.model.probe import CoverProbe

__all__ = ["BUILTIN", "Adapter", "Captions", "CaptureRequest", "CoverProbe", "ModelSpec", "Pixels", "load_model"]

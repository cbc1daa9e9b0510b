"""Models: load one, preprocess images for it, capture what the methods need."""

from mmel_cli.model.adapter import Adapter, CaptureRequest, ModelSpec, Pixels, Words, load_model
from mmel_cli.model.probe import CoverProbe, repeated

__all__ = ["Adapter", "CaptureRequest", "CoverProbe", "ModelSpec", "Pixels", "Words", "load_model", "repeated"]

"""Models: load one, preprocess images for it, capture what the methods need."""

from mmel_cli.model.adapter import Adapter, CaptureRequest, ModelSpec, Pixels, Words, load_model

__all__ = ["Adapter", "CaptureRequest", "ModelSpec", "Pixels", "Words", "load_model"]

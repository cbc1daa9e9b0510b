"""mmel: explain, in batch, why a CLIP-like model finds an image and a caption alike."""

__version__ = "0.1.0"

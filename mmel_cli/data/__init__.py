"""Where pairs come from: folders of images with captions, decoded safely."""

from mmel_cli.data.source import Source, open_source

__all__ = ["Source", "open_source"]

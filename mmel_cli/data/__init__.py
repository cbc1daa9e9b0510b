"""Where pairs come from: images with captions, whatever holds them, decoded safely."""

from mmel_cli.data.base import Recognise, Request, Source
from mmel_cli.data.source import SOURCES, open_source, reopen

__all__ = ["SOURCES", "Recognise", "Request", "Source", "open_source", "reopen"]

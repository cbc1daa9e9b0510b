"""Models: load one, preprocess images for it, capture what the methods need."""

from mmel_cli.model.adapter import BUILTIN, Adapter, Captions, CaptureRequest, ModelSpec
from mmel_cli.model.families import FAMILIES, Want, fetch_model, find_family, load_model, loaded_once
from mmel_cli.model.leave_out import LeftOut
from mmel_cli.model.match import Match, MatchOptions
from mmel_cli.model.phrase_vectors import PhraseVectors
from mmel_cli.model.probe import CoverProbe
from mmel_cli.model.word_shares import WordShares

__all__ = [
    "BUILTIN",
    "FAMILIES",
    "Adapter",
    "Captions",
    "CaptureRequest",
    "CoverProbe",
    "LeftOut",
    "Match",
    "MatchOptions",
    "ModelSpec",
    "PhraseVectors",
    "Want",
    "WordShares",
    "fetch_model",
    "find_family",
    "load_model",
    "loaded_once",
]

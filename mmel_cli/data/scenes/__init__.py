"""Generated scenes with exact masks: the training, validation and test data of the builtin model.

`sample` draws a scene from (seed, split, index), `captions` says true and nearly-true things about it,
`paint` turns scenes into pixels and masks, `folder` writes a HuggingFace imagefolder.
"""

from mmel_cli.data.scenes.captions import KINDS, Caption, Phrase, captions_of, hard_negatives
from mmel_cli.data.scenes.sample import HELD_OUT, SPLITS, Scene, SceneObject, sample_scene

__all__ = [
    "HELD_OUT",
    "KINDS",
    "SPLITS",
    "Caption",
    "Phrase",
    "Scene",
    "SceneObject",
    "captions_of",
    "hard_negatives",
    "sample_scene",
]

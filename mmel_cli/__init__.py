"""mmel: explain, in batch, why a CLIP-like model finds an image and a caption alike.

    from mmel_cli import explain, load_archive, load_config

    config = load_config(options={"model": "builtin", "method.name": "mmel"})
    summary, _ = explain(Path("photos"), Path("run"), config)
    with load_archive("run") as archive:
        for record in archive:
            record.map  # (height, width) float32

Each name is imported when it is first used, so that `import mmel_cli` loads neither torch nor h5py.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
_PUBLIC = {
    "explain": "mmel_cli.pipelines.explain",
    "evaluate": "mmel_cli.pipelines.evaluate",
    "train_weights": "mmel_cli.pipelines.train",
    "FuseOptions": "mmel_cli.pipelines.fuse",
    "fuse_run": "mmel_cli.pipelines.fuse",
    "load_config": "mmel_cli.config",
    "load_eval_config": "mmel_cli.config",
    "load_train_config": "mmel_cli.config",
    "load_archive": "mmel_cli.archive",
}
__all__ = [
    "FuseOptions",
    "__version__",
    "evaluate",
    "explain",
    "fuse_run",
    "load_archive",
    "load_config",
    "load_eval_config",
    "load_train_config",
    "train_weights",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

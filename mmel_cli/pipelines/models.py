"""The models of several runs, each loaded and hashed once."""

from collections.abc import Sequence
from pathlib import Path

from mmel_cli.config import EvalConfig
from mmel_cli.errors import UsageError
from mmel_cli.model import Adapter, load_model
from mmel_cli.pipelines.origin import find_model
from mmel_cli.types import RunInfo

_Key = tuple[str, tuple[int, int]]  # the name, and the size of the model's input


class Models:
    """Loads the model of run after run; one stays in memory while a later run asks for it too.

    Args:
        config: says which device and dtype, and perhaps another model than that of the runs.
        runs: path and info, in the order in which they will be asked for.
    """

    def __init__(self, config: EvalConfig, runs: Sequence[tuple[Path, RunInfo]]) -> None:
        self._config = config
        self._ahead = [self._key(path, info) for path, info in runs]
        self._loaded: dict[_Key, Adapter] = {}

    def load(self, name: str, info: RunInfo) -> Adapter:
        """The model of a name, for a run.

        Raises:
            UsageError, ModelError: as load_model.
        """
        key = (_place(name), info.image_size)
        if key not in self._loaded:
            self._loaded[key] = load_model(name, self._config.device, self._config.dtype, info.image_size)
        return self._loaded[key]

    def leave(self) -> None:
        """The next of the runs is done: let go of the models that none after it asks for."""
        self._ahead = self._ahead[1:]
        self._loaded = {key: model for key, model in self._loaded.items() if key in self._ahead}

    def _key(self, path: Path, info: RunInfo) -> _Key | None:
        try:
            return _place(find_model(path, info, self._config.model)), info.image_size
        except UsageError:
            return None


def _place(name: str) -> str:
    """The same for two ways to name one folder."""
    return str(Path(name).resolve()) if Path(name).exists() else name

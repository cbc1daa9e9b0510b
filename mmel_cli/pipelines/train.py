"""`mmel train-weights`: from a dataset or an archive to a weights file, its log and its pictures."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from mmel_cli.archive import load_archive
from mmel_cli.attribution.weights import read_notes
from mmel_cli.config import RunConfig, TrainConfig
from mmel_cli.data.truth import has_truth
from mmel_cli.errors import UsageError
from mmel_cli.model import loaded_once
from mmel_cli.pipelines.explain import explain, open_input
from mmel_cli.pipelines.fuse import check_fusable
from mmel_cli.pipelines.learning import Learning, Training, nothing_yet
from mmel_cli.pipelines.planning import entries
from mmel_cli.runs import TRAINED, Events, RunFolder
from mmel_cli.runs.folder import ARCHIVE
from mmel_cli.types import Sample

_HDF5 = b"\x89HDF\r\n\x1a\n"
EXPLAINED_RUN = "run"  # in the folder of a training: the dataset, explained


def train_weights(
    source: Path, out: Path, config: TrainConfig, *, overwrite: bool = False, events: Events | None = None
) -> Training:
    """Learn the weights of `mmel` on a dataset, or on the archive of a run that `mmel` explained.

    A dataset is explained first, into the folder `<out without suffix>.training/run`, which is kept: the next training
    on it starts there. The same command goes on where it stopped.

    Args:
        source: a dataset (a folder or a file), a run folder, a shard or a merged file.
        out: the weights file to write (.safetensors).
        config: see TrainConfig.
        overwrite: start the training anew (an explained run stays).
        events: what to tell meanwhile.

    Raises:
        UsageError: wrong settings, or an input without what the objective needs.
        ArchiveError, ModelError: see errors.py.
    """
    events = events or Events()
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: give the name of a weights file that ends in .safetensors")
    if out.exists():
        read_notes(out)  # refuses to replace a file that mmel did not write
    dataset = not _is_archive(source)
    if dataset:
        _check_truth(source, config)
    work = out.with_suffix(".training")
    with ExitStack() as stack:
        stack.enter_context(loaded_once())
        folder = stack.enter_context(RunFolder(work, TRAINED, overwrite=overwrite))
        run, failed = source, 0
        if dataset:
            run = work / EXPLAINED_RUN
            first = _Counted(events)
            failed, stopped = _explain(source, run, config, replace(events, progress=first.progress))
            events = replace(events, total=first.total)
            if stopped is not None:
                return nothing_yet(out, work, stopped)
        archive = stack.enter_context(load_archive(run))
        scales = check_fusable(archive, run).plain()["scales"]
        return Learning(run, archive, tuple(scales), config, out, folder, events).train(stack, failed)


@dataclass
class _Counted:
    """What passed in a first pass, so that the total of a second one on the same progress line covers both."""

    events: Events
    passed: int = 0

    def progress(self, done: int, failed: int) -> None:
        """Of the first pass."""
        self.passed += done + failed
        self.events.progress(done, failed)

    def total(self, count: int) -> None:
        """Of the second pass."""
        self.events.total(self.passed + count)


def _is_archive(path: Path) -> bool:
    """Whether it is what mmel wrote, also damaged, and no dataset: those may be a single file too."""
    if path.is_file():
        with path.open("rb") as file:
            return path.suffix == ".h5" or file.read(len(_HDF5)) == _HDF5
    return (path / ARCHIVE).is_dir() or any(path.glob("part-*.h5"))


def _check_truth(source: Path, config: TrainConfig) -> None:
    """Refuse a dataset without a single mask or box before it is explained in vain.

    Raises:
        UsageError: naming the objective that needs none.
    """
    if config.objective == "faithfulness":
        return
    read = open_input(source, config)
    if not any(isinstance(entry, Sample) and has_truth(entry) for entry in entries(read, config)):
        raise UsageError(
            f"{source}: none of its pairs has a mask or boxes, which training.objective {config.objective} "
            "learns from; give --objective faithfulness, which needs none"
        )


def _explain(source: Path, out: Path, config: TrainConfig, events: Events) -> tuple[int, int | None]:
    """Explain a dataset with the untrained defaults, for its channels: how many failed, and the signal if one came."""
    events.message(f"Explaining {source} into {out}")
    summary, stopped = explain(source, out, RunConfig.model_validate(config.run_settings()), events=events)
    return summary.failed, stopped

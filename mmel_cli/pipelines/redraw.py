"""`mmel report --heatmaps`: the pictures of a run that it lacks, or has in another look, from archive and input."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import ValidationError

from mmel_cli.archive import Archive, load_archive
from mmel_cli.config import RunConfig, settings_of
from mmel_cli.errors import UsageError
from mmel_cli.idsets import IdIndex, IdSet
from mmel_cli.model.word_shares import WordOptions
from mmel_cli.names import count
from mmel_cli.pipelines.batches import Batch, Loader
from mmel_cli.pipelines.drawing import Drawing
from mmel_cli.pipelines.pictures import PICTURES, Painter, drawn_as, read_drawn
from mmel_cli.pipelines.subjects import Stream
from mmel_cli.render import ENDINGS, HeatmapOptions, photo_name, picture_name
from mmel_cli.runs import EXPLAINED, Events, RunFolder, Stop
from mmel_cli.runs.folder import DRAWN, HEATMAPS, PHOTOS, THUMBNAILS
from mmel_cli.runs.inputs import find_input, read_notes
from mmel_cli.tensors import Pixels
from mmel_cli.types import Failure, RunInfo

_BATCH = 16
_NAMED = 20  # records that are told by name


@dataclass(frozen=True)
class Redrawn:
    """What became of a run's pictures; `named`: the first of the records that have none, and why."""

    drawn: int
    failed: int
    named: tuple[Failure, ...] = ()


def redraw(runs: Sequence[Path], moved: Path | None = None, events: Events | None = None) -> Redrawn:
    """Draw the pictures that run folders lack, as `mmel explain` draws them with the settings of their last call.

    A record whose image is gone, changed or not readable is named and costs only itself.

    Args:
        runs: run folders.
        moved: where their input lies now.
        events: what to tell meanwhile.

    Raises:
        UsageError: no run folder, an input that cannot be read, or settings that this version does not know.
        ArchiveError: an archive that cannot be read.
    """
    events, total = events or Events(), Redrawn(0, 0)
    for run in runs:
        if not (run / EXPLAINED.marker).is_file():
            raise UsageError(
                f"--heatmaps: {run} is no run folder, so it has no place for pictures; give its run folder"
            )
    for run in runs:
        with (
            RunFolder(run, EXPLAINED, stop=Stop(at_once=True)) as folder,  # nothing to finish: each file is whole
            load_archive(run) as archive,
        ):
            one = _Redraw.plan(folder, archive).draw(moved, events)
        total = Redrawn(total.drawn + one.drawn, total.failed + one.failed, (*total.named, *one.named))
    return total


@dataclass(frozen=True)
class _Redraw:
    """A run folder, and the ids of the records to draw."""

    folder: RunFolder
    archive: Archive
    config: RunConfig
    ids: IdIndex | IdSet

    @property
    def looks(self) -> HeatmapOptions:
        """How the pictures look."""
        return cast("HeatmapOptions", self.config.heatmap)

    @classmethod
    def plan(cls, folder: RunFolder, archive: Archive) -> "_Redraw":
        """All records if what is there has another look, else those that lack a file."""
        config = _config(folder.path, archive.info)
        if not _looks(folder.path, config):
            return cls(folder, archive, config, archive.index)
        pairs = ((str(name), str(image)) for name, image in archive.rows("id", "image"))
        return cls(folder, archive, config, IdSet(n for n, image in pairs if _lacks(folder.path, n, image, config)))

    def draw(self, moved: Path | None, events: Events) -> Redrawn:
        """Draw, and note what the pictures look like once none has another look.

        Raises:
            UsageError: if the input cannot be read.
        """
        if not len(self.ids):
            return Redrawn(0, 0)
        path = self.folder.path
        source = find_input(path, self.archive.info, moved)
        if source.gone:
            raise UsageError(f"--heatmaps: {path}: {source.gone}")
        events.message(f"Drawing the pictures of {count(len(self.ids), 'record')} of {path}")
        events.total(len(self.ids))
        self._note_before()
        pool = self.folder.pool(self.config.workers)
        drawing = self.folder.within(Drawing(pool, self.config.draw_processes, events.message))
        painter = Painter(path, self.looks, drawing, cast("WordOptions", self.config.words).phrase)
        limits = self.config.image.limits
        loader = Loader(pool, limits, _no_pixels, painter.keep)
        stream = Stream(self.archive, source, self.ids, _BATCH, loader, truth=False, limits=limits, pool=pool)
        drawn, failed, old, named = 0, 0, False, list[Failure]()
        for subjects, failures in stream.batches(()):
            batch = Batch([s.sample for s in subjects], {s.sample.ref.key: s.image for s in subjects if s.image})
            for picture in painter.start([s.record for s in subjects], batch):
                picture.result()
            for subject in subjects:
                self._remove_other_formats(subject.record.id)
            drawn, failed = drawn + len(subjects), failed + len(failures)
            named += failures[: _NAMED - len(named)]
            old = old or any(_pictures(path, failure.id) for failure in failures)
            events.progress(len(subjects), len(failures))
        if not old:  # what could not be drawn anew keeps its picture of before, so the note must not say otherwise
            self.folder.remove_pictures(HEATMAPS, but=ENDINGS[self.looks.format])
            self.folder.write_json(DRAWN, drawn_as(self.config))
        return Redrawn(drawn, failed, tuple(named))

    def _remove_other_formats(self, record_id: str) -> None:
        for known in ENDINGS:
            if known != self.looks.format:
                (self.folder.path / HEATMAPS / picture_name(record_id, known)).unlink(missing_ok=True)

    def _note_before(self) -> None:
        """Of a run without pictures, note the look at once, so that a call after a kill draws only what is missing.

        The note is none that `mmel explain` takes for that of a run with all its pictures.
        """
        path = self.folder.path
        if _looks(path, self.config):
            return
        if read_drawn(path).get("pictures", PICTURES) != PICTURES:
            self.folder.remove_pictures(THUMBNAILS)  # of records: those of images have other names
        if not (path / HEATMAPS).exists() or not any((path / HEATMAPS).iterdir()):
            self.folder.write_json(DRAWN, drawn_as(self.config) | {"complete": False})
        else:
            (path / DRAWN).unlink(missing_ok=True)


def _config(run: Path, info: RunInfo) -> RunConfig:
    """The settings of the run's last call, with pictures.

    Raises:
        UsageError: if this version cannot take them.
    """
    noted = read_notes(run).get("config")
    given: dict[str, Any] = settings_of(replace(info, config=noted) if isinstance(noted, dict) else info)
    known = {name: value for name, value in given.items() if name in RunConfig.model_fields}
    try:
        return RunConfig.model_validate(known | {"heatmaps": True})
    except ValidationError as error:
        why = error.errors()[0]["msg"]
        raise UsageError(f"--heatmaps: {run}: its settings cannot be drawn ({why}); explain again") from error


def _looks(run: Path, config: RunConfig) -> bool:
    """Whether the pictures that a run has are of these settings, be they all or not."""
    return {key: value for key, value in read_drawn(run).items() if key != "complete"} == drawn_as(config)


def _lacks(run: Path, record_id: str, image: str, config: RunConfig) -> bool:
    """Whether the picture of a record, or the photo or thumbnail of its image, is not there."""
    names = (
        (HEATMAPS, picture_name(record_id, cast("HeatmapOptions", config.heatmap).format)),
        *((kind, photo_name(image)) for kind in (PHOTOS, THUMBNAILS)),
    )
    return any(not (run / kind / name).is_file() for kind, name in names)


def _pictures(run: Path, record_id: str) -> bool:
    """Whether a record has a picture, in any format."""
    return any((run / HEATMAPS / picture_name(record_id, known)).is_file() for known in ENDINGS)


def _no_pixels(_image: Any) -> Pixels:
    """Pictures need the image alone."""
    return Pixels(torch.zeros(3, 0, 0), (0.0, 0.0, 0.0, 0.0))

"""One run folder that a stream of batches is explained into: its method, records, failures, pictures and shards."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import cast

from mmel_cli.archive import Archive, ShardWriter, load_archive
from mmel_cli.config import RunConfig
from mmel_cli.model.word_shares import WordOptions
from mmel_cli.names import count
from mmel_cli.pipelines.batches import Batch, Keep
from mmel_cli.pipelines.engine import Engine
from mmel_cli.pipelines.pictures import PICTURES, Painter, drawn_as, read_drawn
from mmel_cli.pipelines.sharing import SharedCaptures
from mmel_cli.render import ENDINGS
from mmel_cli.runs import CommittedRecords, Events, RunFolder
from mmel_cli.runs.clock import Part
from mmel_cli.runs.folder import ARCHIVE, DRAWN, HEATMAPS, THUMBNAILS
from mmel_cli.types import Explanation, Failure, RunInfo


@dataclass(frozen=True)
class Run:
    """One method on one input: where it goes, and what an earlier call finished of it."""

    folder: RunFolder
    config: RunConfig
    engine: Engine
    info: RunInfo
    done: CommittedRecords
    warnings: list[str]  # of shards that were set aside


@dataclass(frozen=True)
class _Pending:
    """A batch that waits for its pictures before the archive takes it."""

    explanations: list[Explanation] = field(default_factory=list)
    pictures: list[Future[None]] = field(default_factory=list)


class Lane:
    """Takes batch after batch; a batch enters the archive once its pictures are on disk.

    A batch of which some records are done is explained whole, as it was the first time, so that the others come out
    equal to the bit.

    Args:
        run: see Run.
        pool: threads that draw.
        stack: closes the archive that is read and the one that is written.
        events: what to tell meanwhile.
    """

    def __init__(self, run: Run, pool: ThreadPoolExecutor, stack: ExitStack, events: Events) -> None:
        self.run, self.explained, self.truncated = run, 0, 0
        self._events = events
        self._finished = self._archive_to_redraw(stack)
        path, config = run.folder.path, run.config
        words = cast("WordOptions", config.words)
        self._writer = stack.enter_context(ShardWriter(path / ARCHIVE, run.info, config.archive))
        self._clock = events.clock
        self._painter = Painter(path, config.heatmap, pool, words.phrase, self._clock) if config.heatmaps else None
        self._pending = _Pending()

    @property
    def keep(self) -> dict[str, Keep]:
        """What a Loader must keep of each image."""
        return self._painter.keep if self._painter else {}

    def passes(self, record_id: object) -> bool:
        """Whether a batch of such records has nothing for this folder: they are done and their pictures as asked."""
        return self._finished is None and record_id in self.run.done

    def lacks(self, batch: Batch) -> bool:
        """Whether some record of a batch is not done."""
        return any(sample.id not in self.run.done for sample in batch.samples)

    def take(self, batch: Batch, shared: SharedCaptures | None) -> set[str]:
        """Explain a batch, start its pictures, and archive the batch before; the ids of records that failed."""
        done = self.run.done
        explanations, failures = self.run.engine.explain(batch, shared) if self.lacks(batch) else ([], [])
        new = [explanation for explanation in explanations if explanation.id not in done]
        failures = [failure for failure in failures if failure.id not in done]
        finished = self._finished
        shown = new + ([finished[s.id] for s in batch.samples if s.id in done] if finished else [])
        with self._clock.part(Part.PICTURES):
            pictures = self._painter.start(shown, batch) if self._painter else []
        self._archive()
        self._pending = _Pending(new, pictures)
        self.run.folder.failures.add([*(f for f in batch.failures if not self._done_before(f)), *failures])
        return {failure.id for failure in failures}

    def end(self) -> None:
        """Archive what is pending; note what the pictures look like once all are drawn."""
        self._archive()
        with self._clock.part(Part.ARCHIVE):
            self._writer.commit()
        if self._painter and not self.run.folder.stop.asked():
            if self._finished is not None:  # drawn anew, perhaps in another format
                self.run.folder.remove_pictures(HEATMAPS, but=ENDINGS[self._painter.options.format])
            self.run.folder.write_json(DRAWN, self._drawn)

    def _done_before(self, failure: Failure) -> bool:
        """An image that was decoded for other folders' sake, and is broken now."""
        return failure.stage == "image" and failure.id in self.run.done

    def _archive(self) -> None:
        """Wait for the pending batch's pictures, then give its records to the archive."""
        with self._clock.part(Part.PICTURES):
            for picture in self._pending.pictures:
                picture.result()
        with self._clock.part(Part.ARCHIVE):
            self._writer.extend(self._pending.explanations)
        self.explained += len(self._pending.explanations)
        self.truncated += sum(explanation.truncated for explanation in self._pending.explanations)
        self._pending = _Pending()

    @property
    def _drawn(self) -> dict[str, str]:
        return drawn_as(self.run.config)

    def _archive_to_redraw(self, stack: ExitStack) -> Archive | None:
        """The finished records, if their pictures are missing or of other settings: they are drawn anew.

        The note of what pictures look like goes before the first is drawn and comes back when all are.
        """
        folder, done = self.run.folder, self.run.done
        if not self.run.config.heatmaps or not len(done):
            if self.run.config.heatmaps:
                folder.write_json(DRAWN, self._drawn)
            return None
        before = read_drawn(folder.path)
        if before == self._drawn:
            return None
        (folder.path / DRAWN).unlink(missing_ok=True)
        if before and before.get("pictures") != PICTURES:
            folder.remove_pictures(THUMBNAILS)  # of records: those of images have other names
        self._events.message(f"Drawing the pictures of {count(len(done), 'finished record')} anew")
        return stack.enter_context(load_archive(folder.path))

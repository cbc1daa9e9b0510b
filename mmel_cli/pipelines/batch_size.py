"""--batch-size auto: made pairs in batches twice as large each time, until that gains no more or memory ends.

The pairs are of the model's full input and twelve words, and go through the run's own methods with all that is given of
words. A run goes on with the number that its folder has, so that the same pairs meet in the same batch again.
"""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import torch

from mmel_cli.config import RunConfig
from mmel_cli.model import Adapter
from mmel_cli.model.exhaustion import exhausted, release
from mmel_cli.pipelines.batches import Batch
from mmel_cli.pipelines.engine import Engine
from mmel_cli.pipelines.sharing import SharedCaptures
from mmel_cli.runs import RunFolder
from mmel_cli.tensors import Decoded, Pixels
from mmel_cli.types import ImageRef, Sample

AUTO = "auto"
NOTE = "batch_size_found"  # the key of run.yaml and RunInfo.described that says how
CEILING = 256
GAIN = 1.05  # of pairs a second, without which a batch twice as large is not worth its memory
_LONG = 10.0  # seconds of a batch after which the number of pairs in it hardly matters
_PATIENCE = 4  # times the best size: where larger ones are no longer tried
_REPEATS = 6  # at most; the quickest counts
_ENOUGH = 1.0  # seconds, after two


@dataclass(frozen=True)
class Chosen:
    """How many pairs a batch has; `note` is how the number was found, empty if nobody looked for it."""

    size: int
    note: str = ""


def sized(
    runs: Sequence[tuple[RunConfig, Engine]], folders: Sequence[RunFolder], say: Callable[[str], None]
) -> list[tuple[RunConfig, Engine]]:
    """The same runs with a number for a batch size that is left open: that of a folder, or the one that is found now.

    Args:
        runs: the methods that explain each batch one after the other.
        folders: theirs.
        say: told the number.
    """
    first = runs[0][0]
    if first.batch_size != AUTO:
        return list(runs)
    chosen = next((noted for noted in map(_noted, folders) if noted is not None), None)
    if chosen is not None:
        say(f"Batch size: {chosen.size}, with which the folder was begun")
    else:
        say("Batch size: looking for one")
        given = [engine for _, engine in runs]
        chosen = find(given, against=first.against.given, stopped=folders[0].stop.asked)
        say(f"Batch size: {chosen.size} ({chosen.note})")
    note = {NOTE: chosen.note} if chosen.note else {}
    return [
        (config.model_copy(update={"batch_size": chosen.size}), replace(engine, described=engine.described | note))
        for config, engine in runs
    ]


def find(engines: Sequence[Engine], *, against: bool = False, stopped: Callable[[], bool] = lambda: False) -> Chosen:
    """The least power of two after which two sizes in a row gain less than 5 % over it.

    Args:
        engines: that explain each batch one after the other.
        against: whether differences of two scores are explained.
        stopped: asked after each size; the best one so far stands then.
    """
    quiet = [engine.without_signs() for engine in engines]
    rates: dict[int, float] = {}
    best, size, why = 1, 1, ""
    before = _resident()
    while not why:
        rate, seconds = _measured(quiet, size, against=against)
        if rate is None:
            why = f"memory ends at {size}"
            break
        rates[size] = rate
        best = size if rate >= GAIN * rates[best] else best
        if size >= _PATIENCE * best:
            why = "larger ones gain less than 5 %"
        elif size == CEILING:
            why = "larger ones are not tried"
        elif seconds > _LONG:
            why = "larger ones take too long to try"
        elif stopped():
            why = "interrupted"
        elif engines[0].model.spec.device == "cpu" and 2 * (_resident() - before) > _available():
            why = "larger ones may exhaust this machine's memory"
        size *= 2
    told = ", ".join(f"{rate:.3g} with {size}" for size, rate in rates.items())
    return Chosen(best, f"pairs a second: {told}; {why}" if told else why)


def _resident() -> float:
    """The most bytes that this process has had in memory."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # there in bytes, on Linux in kilobytes


def _available() -> float:
    """Bytes that this machine has left; infinite where it does not tell."""
    told = Path("/proc/meminfo")
    lines = told.read_text("utf-8").splitlines() if told.exists() else []
    kilobytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kilobytes[0]) * 1024 if kilobytes else float("inf")


def _measured(engines: Sequence[Engine], size: int, *, against: bool) -> tuple[float | None, float]:
    """Pairs a second of the quickest batch, None where memory runs out; and its seconds."""
    if size == 1 and not _tried(engines, made_batch(engines[0].model, 1, -1, against=against)):  # warms up
        return None, 0.0
    least, spent = float("inf"), 0.0
    for turn in range(_REPEATS):
        batch = made_batch(engines[0].model, size, turn, against=against)
        started = time.perf_counter()
        if not _tried(engines, batch):
            return None, 0.0
        seconds = time.perf_counter() - started
        least, spent = min(least, seconds), spent + seconds
        if spent > _ENOUGH and turn:
            break
        if seconds > _LONG:
            break
    return size / least, least


def _tried(engines: Sequence[Engine], batch: Batch) -> bool:
    """Whether memory is enough for a batch."""
    try:
        _explained(engines, batch)
    except (RuntimeError, MemoryError) as error:
        if not exhausted(error):
            raise
    else:
        return True
    release()  # outside the handler: the error holds the tensors of its frames
    return False


def _explained(engines: Sequence[Engine], batch: Batch) -> None:
    """As a run explains it, but in one piece; what comes back is on the host."""
    shared = SharedCaptures()
    shared.begin([ask for engine in engines for ask in engine.asks])
    for engine in engines:
        engine.explain_whole(batch, shared)


def made_batch(model: Adapter, size: int, turn: int, *, against: bool) -> Batch:
    """Distinct pairs of noise and captions that no other size and turn has, for nothing may be known already."""
    generator = torch.Generator().manual_seed(turn)
    height, width = model.spec.image_size
    whole = (0.0, 0.0, float(width), float(height))
    samples, images = [], {}
    for number in range(size):
        key = f"made {size}-{turn}-{number}"
        caption = f"a photo of thing {size} {turn} {number} on a table in a room"
        sample = Sample(key, key, ImageRef(key, _no_file), caption, boxes=((0.0, 0.0, width / 2, height / 2),))
        samples.append(replace(sample, against=f"no {caption}") if against else sample)
        pixels = torch.randn(3, height, width, generator=generator)
        images[key] = Decoded(Pixels(pixels, whole), (height, width))
    return Batch(samples, images)


def _no_file() -> BinaryIO:
    raise FileNotFoundError("an image that was made")


def _noted(folder: RunFolder) -> Chosen | None:
    """What an earlier call noted in the folder."""
    notes = folder.notes()
    config = notes.get("config")
    size = config.get("batch_size") if isinstance(config, dict) else None
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        return None
    return Chosen(size, str(notes.get(NOTE, "")))

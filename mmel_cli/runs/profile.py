"""What --profile says: a table of where the time went, and which part to look at."""

import os
from dataclasses import dataclass

from mmel_cli.names import count
from mmel_cli.runs.clock import Beside, Clock, Part

START, END, REST = "starting (model, input, folder)", "ending (marks and report)", "everything else"
_MORE = "--batch-size auto looks for a better batch size"
_ADVICE = {
    Part.DEVICE.value: f"a larger --batch-size moves more at once ({_MORE})",
    Part.MODEL.value: f"that is as it should be; {_MORE}, --dtype bfloat16 may be quicker, and so is a faster --device",
    Part.METHOD.value: "fewer layers (--set method.layers=last) or another --method cost less; see mmel methods",
    Part.WORDS.value: "--set word_values=false and --set match.captions=0 leave out what is made of captions",
    Part.PICTURES.value: "--no-heatmaps draws none, and mmel report --heatmaps draws them later; {workers}",
    Part.ARCHIVE.value: "--set archive.channels=final keeps the final maps alone; a faster disk helps too",
    Part.READ.value: "{workers}; smaller images, or a faster disk, help too",
    START: "it takes as long for any number of pairs: explain more of them in one run",
    END: "--set report=false leaves the report out, and mmel report makes it later",
    REST: f"this is mmel's own work between the parts; {_MORE}",
}


@dataclass(frozen=True)
class Ran:
    """What was run, as far as the profile speaks of it."""

    pairs: int  # explained in this call
    workers: int


def profile(clock: Clock, ran: Ran) -> list[str]:
    """The lines, from a clock that was on and has ended."""
    parts = _seconds(clock)
    total = sum(parts.values())
    cores = os.cpu_count() or 1
    rate = f", {ran.pairs / total:.1f} pairs/s" if ran.pairs else ""
    lines = [f"Where the time went: {total:.1f} s, {count(ran.pairs, 'pair')}{rate}; {count(cores, 'core')} here"]
    width = max(map(len, parts))
    lines.append(f"  {'':<{width}}  seconds  share  pairs/s")
    for name, seconds in parts.items():
        alone = f"{ran.pairs / seconds:7.1f}" if ran.pairs and seconds >= 0.0005 and name not in (START, END) else ""
        lines.append(f"  {name:<{width}}  {seconds:7.2f}  {100 * seconds / total:3.0f} %  {alone}".rstrip())
    busy = ", ".join(f"{work.value} {clock.beside.get(work, 0.0):.2f} s" for work in Beside if work in clock.beside)
    if busy:
        lines.append(
            f"Beside it, added up over {count(ran.workers, 'worker')} and the thread of the archive: {busy}. Waiting "
            "is what of this the rest did not hide; on a CPU these threads take cores from the model meanwhile."
        )
    worst = max(parts, key=lambda name: parts[name])
    lines.append(f"Bottleneck: {worst}, {100 * parts[worst] / total:.0f} %: {_advice(worst, ran.workers, cores)}.")
    stream = {name: seconds for name, seconds in parts.items() if name not in (START, END)}
    if worst not in stream and ran.pairs:
        worst = max(stream, key=lambda name: stream[name])
        share = 100 * stream[worst] / sum(stream.values())
        lines.append(f"Of the rest: {worst}, {share:.0f} %: {_advice(worst, ran.workers, cores)}.")
    return lines


def _seconds(clock: Clock) -> dict[str, float]:
    """By name, in order; they add up to the whole."""
    ended = clock.begun if clock.ended is None else clock.ended
    first = ended if clock.first is None else clock.first
    last = ended if clock.last is None else clock.last
    parts = {START: first - clock.begun}
    parts |= {part.value: clock.spent[part] for part in Part if part in clock.spent}
    rest = last - first - sum(clock.spent.values())
    return parts | {REST: max(rest, 0.0), END: ended - last}


def _advice(name: str, workers: int, cores: int) -> str:
    more = f"more --workers (now {workers}) take more of the {cores} cores"
    enough = f"--workers {workers} are all that {count(cores, 'core')} can use"
    return _ADVICE[name].format(workers=more if workers < cores else enough)

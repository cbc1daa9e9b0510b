"""The strips below the pictures of words x regions: the caption by its phrases, and what colours and numbers mean."""

import numpy as np
from PIL import Image

from mmel_cli.render import colours
from mmel_cli.render.options import HeatmapOptions
from mmel_cli.render.panels import MOST_MAPS, against, scale_of_maps
from mmel_cli.render.parts import FAINTEST, PALETTE, Parts, drawn, further, maps_of
from mmel_cli.render.text import (
    FAINT,
    INK,
    PAD,
    SMALL_LINE,
    Atom,
    Colour,
    Legend,
    draw_legend,
    draw_rows,
    fitting,
    sentences,
    words_of,
    wrap,
)
from mmel_cli.render.words import printable
from mmel_cli.types import Explanation

_LINE = 32
_MAX_LINES = 12
_OWN = "This is of the caption's own cosine, not of the difference."
_NOTHING_READ = "The model reads no word of this caption."


def phrase_strip(explanation: Explanation, parts: Parts, width: int, percentile: float) -> Image.Image:
    """The caption, each phrase on a line of its colour with its number before it and its share behind; the legend."""
    room = width - 2 * PAD
    rows = wrap(_atoms(explanation, parts, room), room, _MAX_LINES)
    legend = [row for text in phrase_legend(explanation, parts, percentile) for row in sentences(text, room)]
    below = PAD + _LINE * len(rows) + 2
    strip = Image.new("RGB", (width, below + SMALL_LINE * len(legend) + PAD), "white")
    draw_rows(strip, (PAD, PAD), rows, _LINE)
    draw_rows(strip, (PAD, below), legend, SMALL_LINE)
    return strip


def phrase_legend(explanation: Explanation, parts: Parts, percentile: float) -> list[str]:
    """What the colours and numbers of a phrase panel mean, in sentences."""
    if not parts.each:
        return [_NOTHING_READ]
    kind, several = parts.kind, len(parts.each) > 1
    maps = maps_of(explanation, parts)[: len(PALETTE)]
    tops = [colours.strongest(values, percentile) for values in maps]
    empty = [f"{part.number} ({part.text})" for part, own in zip(parts.each, drawn(tops), strict=False) if not own]
    source = f"Colour: where in the picture there is evidence for the {kind}"
    told = _no_phrase(parts)
    told.append(
        f"{source}, each {kind} on its own scale; where two overlap, the one stronger on its own scale is shown. Each "
        f"mark stands at the strongest place of its {kind}, or beside it where marks meet."
        if several
        else f"{source}, on its own scale. The mark stands at the strongest place."
    )
    if any(float(values.min()) < -top / 100 for values, top in zip(maps, tops, strict=True)):
        told.append("Evidence against the match is not drawn.")
    if explanation.against is not None:
        told.append(_OWN)
    if empty:
        least = f"less than {FAINTEST:.0%} of that for the strongest {kind}" if several else "none"
        told.append(f"Without colour, since the evidence for it is {least}: {', '.join(empty)}.")
    if left := further(parts, len(PALETTE)):
        told.append(f"Grey, and not in the picture: {left}, since there are {len(PALETTE)} colours.")
    return [*told, f"Number after {f'a {kind}' if several else f'the {kind}'}: {parts.says}"]


def sheet_strip(explanation: Explanation, parts: Parts, width: int, options: HeatmapOptions) -> Image.Image:
    """What the small maps and the numbers in their titles mean, with the scale that they share."""
    room = width - 2 * PAD
    bars = map_legend(explanation, parts, options)
    legend = [row for text in sheet_legend(explanation, parts) for row in sentences(text, room)]
    strip = Image.new("RGB", (width, PAD + SMALL_LINE * (len(bars) + len(legend)) + PAD), "white")
    for number, bar in enumerate(bars):
        draw_legend(strip, (PAD, PAD + SMALL_LINE * number), bar)
    draw_rows(strip, (PAD, PAD + SMALL_LINE * len(bars)), legend, SMALL_LINE)
    return strip


def sheet_legend(explanation: Explanation, parts: Parts) -> list[str]:
    """What a sheet of small maps shows, in sentences."""
    if not parts.each:
        return [_NOTHING_READ]
    kind = parts.kind
    told = _no_phrase(parts)
    told.append(
        f"Each small map shows where there is evidence for the {kind} above it. All have one scale: the same colour is "
        "the same strength in each."
        if len(parts.each) > 1
        else f"The small map shows where there is evidence for the {kind}."
    )
    if explanation.against is not None:
        told.append(_OWN)
    if left := further(parts, MOST_MAPS):
        told.append(f"Not shown: {left}.")
    return [*told, f"Number: {parts.says}"]


def map_legend(explanation: Explanation, parts: Parts, options: HeatmapOptions) -> list[Legend]:
    """The bars of colour below a sheet: of evidence for the match, and of evidence against it where there is any."""
    maps = maps_of(explanation, parts)[:MOST_MAPS]
    if not len(maps):
        return []
    bars: list[Legend] = [["evidence for the match: low", colours.table(options.colormap), "high"]]
    if against(maps, scale_of_maps(maps, options.percentile)):
        plain = np.linspace(np.full(3, 255), colours.unlike(options.colormap), 256)
        bars.append(["evidence against it: low", plain, "high"])
    return bars


def _no_phrase(parts: Parts) -> list[str]:
    return ["The run has no phrase of this caption, so each word is shown."] if parts.kind == "word" else []


def _atoms(explanation: Explanation, parts: Parts, width: float) -> list[Atom]:
    """The whole caption; a part's words and the spaces between them stand on its colour. Faint: what is not read."""
    caption, atoms, at = explanation.caption, list[Atom](), 0
    for part in parts.each:
        atoms += _texts(caption[at : part.start], INK, width)
        texts = words_of(part.text)
        for number, text in enumerate(texts):
            mark = str(part.number) if number == 0 else ""
            share = f"{part.share:+.3f}" if number == len(texts) - 1 else ""
            atoms += fitting(Atom(text, line=part.colour, mark=mark, small=share), width)
        at = part.end
    read = max(at, explanation.words[-1].end if explanation.words else 0)
    return atoms + _texts(caption[at:read], INK, width) + _texts(caption[read:], FAINT, width)


def _texts(text: str, ink: Colour, width: float) -> list[Atom]:
    return [piece for word in words_of(printable(text)) for piece in fitting(Atom(word, ink=ink), width)]

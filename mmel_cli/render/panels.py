"""Pictures of words x regions: a colour for each phrase over one photo, and a sheet with a small map for each."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from mmel_cli.render import colours
from mmel_cli.render.blend import Ground, mix
from mmel_cli.render.options import HeatmapOptions
from mmel_cli.render.parts import PALETTE, Part, Parts, drawn, maps_of
from mmel_cli.render.text import Atom, draw_mark, draw_rows, fitting, mark_width, words_of, wrap
from mmel_cli.types import Explanation

MOST_MAPS = 24
_GAP = 12
_TITLE, _TITLE_LINE, _TITLE_LINES = 14, 20, 3
_AROUND = sorted(((x, y) for x in range(-4, 5) for y in range(-4, 5)), key=lambda step: step[0] ** 2 + step[1] ** 2)


def phrase_panel(ground: Ground, explanation: Explanation, parts: Parts, options: HeatmapOptions) -> Image.Image:
    """The photo in grey, and the positive evidence of each part that has a colour, on the part's own scale.

    A pixel has the colour of the part that is strongest there, each in units of its own percentile, and is as opaque
    as that one is strong. A part's number stands where it is strongest.
    """
    maps = maps_of(explanation, parts)[: len(PALETTE)]
    tops = [colours.strongest(values, options.percentile) for values in maps]
    painted = drawn(tops)
    shown = [part for part, own in zip(parts.each, painted, strict=False) if own]
    if not shown:
        return ground.finish(ground.grey)
    heats = [ground.place(v.clip(min=0) / top) for v, top, own in zip(maps, tops, painted, strict=True) if own]
    strongest, whose = _strongest(heats)
    tints = colours.painted(whose, np.array([part.colour for part in shown], np.float32))
    picture = ground.finish(mix(ground.grey, tints, options.opacity * strongest.clip(0, 1)))
    _number(picture, shown, heats)
    return picture


def _strongest(heats: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The greatest heat of each pixel, and whose it is, uint8 (height, width); of equal ones the first."""
    most, whose = heats[0], np.zeros(heats[0].shape, np.uint8)
    for number, heat in enumerate(heats[1:], 1):  # one after the other: a stack is ten times as slow to search
        whose[heat > most] = number
        most = np.maximum(most, heat)
    return most, whose


def scale_of_maps(maps: np.ndarray, percentile: float) -> float:
    """What all small maps of a record are divided by: of what counts as strongest in each, for or against, the most."""
    return max([colours.strongest(np.abs(values), percentile) for values in maps], default=0.0)


def against(maps: np.ndarray, scale: float) -> bool:
    """Whether any evidence against the match is strong enough to be seen in small maps of this scale."""
    return scale > 0 and float(maps.min(initial=0)) < -scale / 100


def sheet(ground: Ground, explanation: Explanation, parts: Parts, options: HeatmapOptions, width: int) -> Image.Image:
    """A small map for each part over the photo in grey, titled by its text and share, all on one scale.

    Evidence for the match has the colormap's colours; evidence against it a plain one that is not among them.
    """
    maps, each = maps_of(explanation, parts)[:MOST_MAPS], parts.each[:MOST_MAPS]
    scale = scale_of_maps(maps, options.percentile)
    columns = min(4, max(2, int(np.ceil(np.sqrt(len(each))))))
    room = (width - _GAP * (columns - 1)) // columns
    factor = room / max(ground.photo.size)
    size = (max(1, round(ground.photo.width * factor)), max(1, round(ground.photo.height * factor)))
    small = Ground(ground.photo.resize(size, Image.Resampling.LANCZOS), _scaled(ground, size))
    titles = [_title(part, room) for part in each]
    lines = max([len(title) for title in titles], default=0)
    step = size[1] + 4 + _TITLE_LINE * lines + _GAP
    rows = -(-len(each) // columns)
    paper = Image.new("RGB", (width, max(1, step * rows)), "white")
    for number, (values, title) in enumerate(zip(maps, titles, strict=True)):
        x, y = number % columns * (room + _GAP), number // columns * step
        paper.paste(_small_map(small, values, scale, options), (x, y + 4 + _TITLE_LINE * lines))
        cell = Image.new("RGB", (room, _TITLE_LINE * lines), "white")
        draw_rows(cell, (0, 0), title, _TITLE_LINE)
        paper.paste(cell, (x, y))
    return paper


def _small_map(ground: Ground, values: np.ndarray, scale: float, options: HeatmapOptions) -> Image.Image:
    if scale == 0:
        return ground.finish(ground.grey)
    favour, opposed = (ground.place((sign * values).clip(min=0) / scale).clip(0, 1) for sign in (1, -1))
    picture = mix(ground.grey, colours.picture_of(favour, options.colormap), options.opacity * np.sqrt(favour))
    plain = colours.painted(np.zeros(opposed.shape, np.uint8), colours.unlike(options.colormap)[None])
    return ground.finish(mix(picture, plain, options.opacity * np.sqrt(opposed)))


def _title(part: Part, room: int) -> list[list[Atom]]:
    """A part's text, cut where it takes more than its lines, and its share, which never is."""
    share = Atom("", small=f"{part.share:+.3f}")
    width = room - share.length - _TITLE  # of the last line, which may also end in an ellipsis
    atoms = [piece for text in words_of(part.text) for piece in fitting(Atom(text, _TITLE), width)]
    rows = wrap(atoms, width, _TITLE_LINES)
    rows[-1].append(share)
    return rows


def _scaled(ground: Ground, size: tuple[int, int]) -> tuple[float, float, float, float]:
    x, y = size[0] / ground.photo.width, size[1] / ground.photo.height
    x0, y0, x1, y1 = ground.box
    return x0 * x, y0 * y, x1 * x, y1 * y


def _number(picture: Image.Image, parts: Sequence[Part], heats: Sequence[np.ndarray]) -> None:
    """Put each part's number where its heat (height, width each) is greatest, or next to those that are there."""
    draw, taken = ImageDraw.Draw(picture), list[tuple[int, int]]()
    for part, heat in zip(parts, heats, strict=True):
        row, column = (int(n) for n in np.unravel_index(heat.argmax(), heat.shape))
        wide = mark_width(str(part.number))
        for across, down in _AROUND:
            x = min(max(0, column - wide // 2 + across * (wide + 2)), max(0, picture.width - wide))
            y = min(max(0, row - wide // 2 + down * (wide + 2)), max(0, picture.height - wide))
            if all(abs(x - left) > wide or abs(y - top) > wide for left, top in taken):
                break
        taken.append((x, y))
        draw_mark(draw, (x, y), str(part.number), part.colour)

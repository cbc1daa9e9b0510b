"""What a picture costs: milliseconds of one thread by part, plain and with phrases, in every format.

    python scripts/bench_heatmaps.py [--size 640x480] [--rounds 15]

One photo-like image with a caption of twelve words and three phrases. Parts: decoding the JPEG, fitting it, drawing
(of which the blend, beside the same in real numbers, as it was), the strip, encoding in memory in each format, beside
Pillow's default PNG, as it was. Every round takes every part in turn. Prints Markdown: medians of thread time, bytes.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from made import photo_like
from PIL import Image

from mmel_cli.render import ENDINGS, HeatmapOptions, colours, fit, render, save_picture
from mmel_cli.render.blend import Ground, mix
from mmel_cli.render.strip import caption_strip
from mmel_cli.types import Explanation, Word

CAPTION = "a small red dog sits beside the green wooden bench in a park"
PHRASES = ((0, 15), (28, 50), (54, 60))
PANELS = ("overlay", "side-by-side", "phrases", "words")


def explanation(width: int, height: int) -> Explanation:
    """Of random maps 14 x 14, seen in the middle square."""
    rng, words, at = np.random.default_rng(1), list[Word](), 0
    for text in CAPTION.split():
        start = CAPTION.index(text, at)
        at = start + len(text)
        words.append(Word(text, start, at))
    count, side = len(words), min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    fields = {
        "map": rng.normal(size=(14, 14)).astype(np.float32),
        "tokens/map": np.zeros(1, np.float32),
        "words/value": np.linspace(-0.1, 0.2, count).astype(np.float32),
        "words/share": np.linspace(0.01, 0.1, count).astype(np.float32),
        "words/map": rng.normal(size=(count, 14, 14)).astype(np.float32),
        "words/error": np.zeros(count, np.float32),
        "phrases/span": np.array(PHRASES, np.int32),
        "phrases/share": np.array([0.1, 0.2, 0.05], np.float32),
        "phrases/map": rng.normal(size=(len(PHRASES), 14, 14)).astype(np.float32),
    }
    return Explanation(
        id="a.jpg#0",
        image="a.jpg",
        caption=CAPTION,
        truncated=False,
        score=0.31,
        image_size=(height, width),
        box=(left, top, left + side, top + side),
        fields=fields,
        tokens=("a",),
        words=tuple(words),
    )


def blended_in_reals(photo: Image.Image, heat: np.ndarray, options: HeatmapOptions) -> Image.Image:
    """The blend as it was before it was done in bytes."""
    alpha = (options.opacity * np.sqrt(heat))[..., None]
    pixels = np.asarray(photo, np.float32) * (1 - alpha) + colours.apply(heat, options.colormap) * alpha
    return Image.fromarray((pixels * np.ones((*heat.shape, 1))).round().astype(np.uint8))


def blended(photo: Image.Image, heat: np.ndarray, options: HeatmapOptions) -> Image.Image:
    """The blend as it is."""
    return mix(photo, colours.picture_of(heat, options.colormap), options.opacity * np.sqrt(heat))


def parts(width: int, height: int, folder: Path) -> dict[str, Callable[[], object]]:
    """What is timed, by its name."""
    photo, record, options = photo_like(width, height), explanation(width, height), HeatmapOptions()
    encoded = io.BytesIO()
    photo.save(encoded, "JPEG", quality=90)
    fitted = fit(photo, options.max_side)
    heat = Ground.of(fitted, record).place(colours.normalise(record.map, options.percentile)).clip(0, 1)
    timed: dict[str, Callable[[], object]] = {
        "decode the JPEG": lambda: Image.open(io.BytesIO(encoded.getvalue())).load(),
        "fit": lambda: fit(photo, options.max_side),
        "blend in reals (before)": lambda: blended_in_reals(fitted, heat, options),
        "blend": lambda: blended(fitted, heat, options),
        "strip": lambda: caption_strip(record, fitted.width, options.colormap),
    }
    for panels in PANELS:
        looks = HeatmapOptions(panels=panels)
        picture = render(photo, record, looks)
        timed[f"{panels}: draw"] = lambda looks=looks: render(photo, record, looks)
        timed[f"{panels}: PNG by Pillow's default (before)"] = lambda p=picture: p.save(folder / "before.png", "PNG")
        for known, ending in ENDINGS.items():
            path = folder / f"{panels}{ending}"
            timed[f"{panels}: {known}"] = lambda p=picture, to=path: save_picture(p, to)
    return timed


def main() -> None:
    """Time every part in turn, round by round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    width, height = (int(side) for side in given.size.split("x"))
    with TemporaryDirectory() as folder:
        timed = parts(width, height, Path(folder))
        spent: dict[str, list[float]] = {name: [] for name in timed}
        for _ in range(given.rounds):
            for name, part in timed.items():
                begun = time.thread_time()
                part()
                spent[name].append(time.thread_time() - begun)
        sizes = {path.name: path.stat().st_size for path in Path(folder).iterdir()}
    print("| part | ms of one thread |\n| --- | ---: |")
    for name, seconds in spent.items():
        print(f"| {name} | {1000 * float(np.median(seconds)):.1f} |")
    print("\n| file | kB |\n| --- | ---: |")
    for name, size in sorted(sizes.items()):
        print(f"| {name} | {size / 1000:.0f} |")


if __name__ == "__main__":
    main()

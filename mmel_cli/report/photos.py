"""Photos of the images of a report: where they lie, and how those that lie nowhere are made from a run's input."""

from base64 import b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from mmel_cli.data.images import decode
from mmel_cli.errors import RecordError
from mmel_cli.names import count
from mmel_cli.render import fit, photo_name, save_photo
from mmel_cli.report.run import ReportRun
from mmel_cli.report.scripts import relative, url
from mmel_cli.runs.folder import PHOTOS, THUMBNAILS
from mmel_cli.runs.inputs import Input
from mmel_cli.types import Sample

_WORKERS, _WINDOW = 2, 16  # originals that are decoded at a time, and that are begun before they are needed


class PhotoPaths:
    """Photo and thumbnail of an image as URLs, "" where there is none; what was asked last is remembered.

    Args:
        places: folders with `photos/` and `thumbnails/`, in the order in which they are looked at.
        folder: of the page; None: data: URIs of the photo stand for both.
    """

    def __init__(self, places: Sequence[Path], folder: Path | None) -> None:
        self._places = [(place, folder and relative(place, folder)) for place in dict.fromkeys(places)]
        self._last: tuple[str, tuple[str, str]] = ("", ("", ""))

    def __call__(self, image: str) -> tuple[str, str]:
        """Of an image by its name in the input."""
        if image != self._last[0]:
            self._last = (image, self._find(image))
        return self._last[1]

    def has(self, image: str) -> bool:
        """Whether the image has a photo anywhere."""
        return any((place / PHOTOS / photo_name(image)).is_file() for place, _ in self._places)

    def _find(self, image: str) -> tuple[str, str]:
        name = photo_name(image)
        for place, at in self._places:
            if not (place / PHOTOS / name).is_file():
                continue
            if at is None:
                data = "data:image/jpeg;base64," + b64encode((place / PHOTOS / name).read_bytes()).decode("ascii")
                return data, data
            start = "" if at == "." else f"{at}/"
            photo, thumbnail = (f"{start}{url(f'{kind}/{name}')}" for kind in (PHOTOS, THUMBNAILS))
            return photo, thumbnail if (place / THUMBNAILS / name).is_file() else photo
        return "", ""


def image_sizes(run: ReportRun) -> dict[str, tuple[int, int]]:
    """The images of the shown records, with their height and width when they were explained."""
    if run.archive is None:
        return {}
    read = run.archive.take(["image", "image_size"], run.places)
    return {str(image): (int(h), int(w)) for image, (h, w) in zip(read["image"], read["image_size"], strict=True)}


def missing_images(run: ReportRun, photos: PhotoPaths) -> dict[str, tuple[int, int]]:
    """Those of the images that have no photo."""
    return {image: size for image, size in image_sizes(run).items() if not photos.has(image)}


def draw_missing(
    source: Input,
    missing: dict[str, tuple[int, int]],
    run: ReportRun,
    folder: Path,
    say: Callable[[str], None],
) -> int:
    """Write photo and thumbnail of images into a folder, from the input of the run; how many there are then.

    Images that cannot be read, are of another size now or are not there any more are told in one line.

    Args:
        source: the input of the run.
        missing: what `missing_images` gives.
        run: says which images are refused and how large photos are.
        folder: with `photos/` and `thumbnails/`.
        say: takes the line.
    """
    if not missing:
        return 0
    if source.gone:
        say(f"No photos of {count(len(missing), 'image')}: {source.gone}")
        return 0
    left, written, first = dict(missing), 0, ""
    limits, side = run.image_limits, run.heatmap.max_side

    def draw(sample: Sample) -> str:
        try:
            image = decode(sample.ref, limits)
        except RecordError as error:
            return str(error)
        if (image.height, image.width) != missing[sample.image]:
            return f"{sample.image} is {image.width}x{image.height} now, it was another size when it was explained"
        save_photo(fit(image, side), sample.image, folder / PHOTOS, folder / THUMBNAILS)
        return ""

    wanted = (sample for sample in source.samples() if left.pop(sample.image, None) is not None)
    with ThreadPoolExecutor(_WORKERS) as pool:
        while window := list(islice(wanted, _WINDOW)):
            for wrong in pool.map(draw, window):
                written, first = written + (not wrong), first or wrong
    if written < len(missing):
        why = first or f"{next(iter(left))} is not in the input any more"
        say(f"No photos of {count(len(missing) - written, 'image')}: {why}")
    return written

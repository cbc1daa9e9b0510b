"""The photos of a run's records: those that the run keeps, else the originals of its input."""

import io
from collections.abc import Iterator
from pathlib import Path

from PIL import ExifTags, Image

from mmel_cli.data.images import ImageLimits, decode
from mmel_cli.errors import RecordError
from mmel_cli.render import THUMBNAIL_SIDE, photo_name, thumbnail
from mmel_cli.runs.folder import PHOTOS, THUMBNAILS
from mmel_cli.runs.inputs import Input
from mmel_cli.types import Explanation, ImageRef, Sample

_QUALITY = 88
_FULL_QUALITY = 95
_SHOWN = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp"}  # by every browser


class Photos:
    """Finds the photo of each record; records come in the order of the archive, which is that of the input.

    Args:
        run: the run folder, if there is one.
        source: the run's input.
        limits: which originals are refused.
    """

    def __init__(self, run: Path | None, source: Input, limits: ImageLimits) -> None:
        self._run, self._source, self._limits = run, source, limits
        self._samples: Iterator[Sample] = iter(source.samples())
        self._passed: dict[str, ImageRef] = {}  # entries of the input that no record has asked for yet
        self._asked: tuple[str, ImageRef | None] | None = None  # the last record, and where its image is
        self._small: tuple[str, bytes | None] | None = None  # the last image, and its thumbnail

    def thumbnail(self, record: Explanation) -> bytes | None:
        """A JPEG of the upright photo, THUMBNAIL_SIDE pixels long at most; None where there is no photo any more."""
        ref = self._ref(record.id)
        if self._small is None or self._small[0] != record.image:
            self._small = (record.image, self._made_small(record, ref))
        return self._small[1]

    def place(self, record: Explanation, path: Path, *, copy: bool) -> str | None:
        """Put the upright photo at `path` with the suffix that fits: a link to the original, or a copy.

        An original is linked if it is a file, stands upright as it is, and is of a kind that browsers show.

        Returns:
            The suffix; None where there is no photo any more.
        """
        ref = self._ref(record.id)
        there = next((suffix for suffix in _SHOWN.values() if path.with_suffix(suffix).exists()), None)
        if there is not None:
            return there
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = None if ref is None or copy else _linkable(Path(ref.key), record.image_size)
        if suffix is not None and ref is not None:
            path.with_suffix(suffix).symlink_to(Path(ref.key).resolve())
            return suffix
        photo = self._original(record, ref) or self._kept(record, PHOTOS)
        if photo is None:
            return None
        photo.save(path.with_suffix(".jpg"), "JPEG", quality=_FULL_QUALITY)
        return ".jpg"

    def _made_small(self, record: Explanation, ref: ImageRef | None) -> bytes | None:
        photo = self._kept(record, THUMBNAILS) or self._kept(record, PHOTOS) or self._original(record, ref)
        if photo is None:
            return None
        with io.BytesIO() as file:
            thumbnail(photo, THUMBNAIL_SIDE).save(file, "JPEG", quality=_QUALITY)
            return file.getvalue()

    def _kept(self, record: Explanation, where: str) -> Image.Image | None:
        """What the run folder keeps of the image (pictures of single records have other names)."""
        path = None if self._run is None else self._run / where / photo_name(record.image)
        if path is None or not path.is_file():
            return None
        with Image.open(path, formats=("JPEG",)) as image:
            return image.convert("RGB")

    def _original(self, record: Explanation, ref: ImageRef | None) -> Image.Image | None:
        """The upright original, if it is still there and of the size that was explained."""
        try:
            photo = None if ref is None else decode(ref, self._limits)
        except RecordError:  # it is gone or damaged by now
            return None
        return photo if photo is not None and photo.size == record.image_size[::-1] else None

    def _ref(self, record_id: str) -> ImageRef | None:
        """The image of a record in the input; what the input has besides is kept only until it is asked for."""
        if self._asked is None or self._asked[0] != record_id:
            self._asked = (record_id, self._passed.pop(record_id, None) or self._go_on_to(record_id))
        return self._asked[1]

    def _go_on_to(self, record_id: str) -> ImageRef | None:
        for sample in self._samples:
            if sample.id == record_id:
                return sample.ref
            self._passed[sample.id] = sample.ref
        return None


def _linkable(path: Path, size: tuple[int, int]) -> str | None:
    """The suffix for a link to an image file of (height, width) pixels; None if it must be copied."""
    try:
        with Image.open(path, formats=tuple(_SHOWN)) as image:
            upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            return _SHOWN.get(image.format or "") if upright and image.size == size[::-1] else None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # no file, or none that Pillow knows
        return None

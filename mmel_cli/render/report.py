"""The gallery: index.html and further pages, relative assets only, no scripts; every text is escaped by jinja2."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from mmel_cli.render.parts import Parts
from mmel_cli.render.words import FALLS, RISES, Piece, colour, pieces, says, scale_of
from mmel_cli.types import Failure, Word

PAGE_SIZE = 200


@dataclass(frozen=True)
class ReportRecord:
    """One card; paths are relative to the report. `values` of the words, as Explanation.word_values has them."""

    id: str
    caption: str
    score: float
    truncated: bool
    picture: PurePosixPath
    thumbnail: PurePosixPath
    words: tuple[Word, ...] = ()
    values: np.ndarray | None = None
    against: str | None = None  # what the caption is explained against, and its cosine
    against_score: float | None = None
    parts: Parts | None = None  # of a run with --words

    @property
    def pieces(self) -> list[Piece]:
        """The caption, cut at its words."""
        return pieces(self.caption, self.words, self.values)

    @property
    def scale(self) -> float | None:
        """The cosine at both ends of its colours, None where it has none."""
        return scale_of(self.values)


@dataclass(frozen=True)
class ReportSummary:
    """What stands above the gallery."""

    model: str
    method: str
    done: int
    failed: int
    created: str
    pictures: bool = True
    words: bool = False  # whether the run has word values
    against: bool = False  # whether it explains differences
    phrases: bool = False  # whether it has words x regions
    share: str = ""  # what the share of a phrase is


def write_report(
    folder: Path, records: Iterable[ReportRecord], summary: ReportSummary, failures: Iterable[Failure]
) -> list[Path]:
    """Write the gallery of `summary.done` records, PAGE_SIZE a page, and remove pages of an earlier, longer one.

    Returns:
        The pages, index.html first.
    """
    environment = Environment(
        loader=PackageLoader("mmel_cli.render"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["url"] = lambda path: quote(str(path))
    environment.filters |= {"says": says, "tint": lambda piece: _rgb(colour(piece.tint)), "rgb": _rgb}
    environment.globals |= {"falls": _rgb(FALLS), "rises": _rgb(RISES)}
    template = environment.get_template("gallery.html")
    pages = [_page_name(n) for n in range(1, max(1, -(-summary.done // PAGE_SIZE)) + 1)]
    stream, shown = iter(records), list(islice(failures, PAGE_SIZE))
    written = []
    for number, name in enumerate(pages):
        text = template.render(
            records=list(islice(stream, PAGE_SIZE)),
            summary=summary,
            failures=shown if number == 0 else [],
            more_failures=max(0, summary.failed - len(shown)),
            pages=pages,
            number=number,
        )
        temporary = folder / f"{name}.tmp"
        temporary.write_text(text, "utf-8")
        written.append(temporary.rename(folder / name))
    for stale in set(folder.glob("page-*.html")) - set(written):
        stale.unlink()
    return written


def _rgb(levels: tuple[int, int, int]) -> str:
    return f"rgb({levels[0]}, {levels[1]}, {levels[2]})"


def _page_name(number: int) -> str:
    return "index.html" if number == 1 else f"page-{number:05}.html"

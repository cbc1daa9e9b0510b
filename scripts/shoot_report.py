"""Screenshots of a real report in Chromium: gallery, record and charts, at 400 and 1,600 pixels, light and dark.

python scripts/shoot_report.py runs/demo --out shots [--record ID] [--whole] [--width 1600] [--view phrases]
"""

import argparse
import json
import sys
import time
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "report"))
from browser import Browser, Page

PAINTED = "[...document.querySelectorAll('.card canvas')].some((n) => /^Heatmap( of .*)?:/.test(n.ariaLabel))"
OPENED = "document.querySelector('.viewer .legend p') && document.querySelector('.words p')"
HEIGHTS = {400: 860, 1600: 1000}


def shoot(page: Page, index: Path, record: str, view: str, save: dict[str, Path], *, whole: bool) -> None:
    """Save each part of the report under the path that its name has."""
    page.open(f"file://{index}", PAINTED)
    page.wait(
        "[...document.querySelectorAll('.card img')].every((n) => n.complete"
        " || n.getBoundingClientRect().top > innerHeight)"
    )
    time.sleep(0.8)  # the last maps on the screen
    page.screenshot(save["gallery"])
    page.run(f"mmel.display.set({{view: {json.dumps(view)}}})")
    page.run(f"location.hash = {json.dumps(record)}")
    page.wait(OPENED)
    page.wait("document.querySelector('.photo').complete")
    time.sleep(0.8)
    page.hover(".viewer .stage", (0.42, 0.4))
    page.run("scrollTo(0, 0)")
    page.screenshot(save["record"], whole=whole)
    page.run("location.hash = '#charts'")
    page.wait("document.querySelector('.charts canvas')")
    time.sleep(0.5)
    page.screenshot(save["charts"], whole=whole)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder with index.html")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--record", help="its id [default: the first record]")
    parser.add_argument("--view", default="positive", choices=("positive", "signed", "phrases"))
    parser.add_argument("--width", type=int, action="append", help="400 and 1600 by default")
    parser.add_argument("--whole", action="store_true", help="records and charts to their lower end")
    given = parser.parse_args()
    index = (given.run / "index.html").resolve()
    given.out.mkdir(parents=True, exist_ok=True)
    record = f"#r={quote(given.record, safe='')}" if given.record else "#n=0"
    with Browser() as browser:
        for width in given.width or [400, 1600]:
            for scheme in ("light", "dark"):
                page = browser.page(width, HEIGHTS.get(width, 900), dark=scheme == "dark")
                parts = ("gallery", "record", "charts")
                save = {part: given.out / f"{part}-{width}-{scheme}.jpg" for part in parts}
                shoot(page, index, record, given.view, save, whole=given.whole)
                if page.errors:
                    raise SystemExit(f"{index}: {page.errors}")
                page.close()
                for path in save.values():
                    print(f"{path}: {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()

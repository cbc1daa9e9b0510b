"""Measure a report of N records in Chromium: seconds to the first pictures of the gallery, and memory.

    python scripts/bench_page.py --records 10000

The run is synthetic (scripts/bench_report.py), with a photo and thumbnail an image; one opening warms the disk's
cache and does not count. Memory is the proportional set size (what processes share is parted among them): of the
process that shows the page, and of all processes of the browser, beside that of a browser with an empty page. `used` is
after records were sorted, searched, scrolled through from end to end and opened; `collected` after its garbage is gone.
"""

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_report import measure, write_run
from PIL import Image

from mmel_cli.archive import load_archive
from mmel_cli.render import photo_name

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "report"))
from browser import Browser, Page

PAINTED = "[...document.querySelectorAll('.card canvas')].some((n) => /^Heatmap( of .*)?:/.test(n.ariaLabel))"


def write_photos(run: Path) -> None:
    """A photo of 640 x 480 and a thumbnail an image, all with the same noise, as large as photographs are."""
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    photo = Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC)
    with load_archive(run) as archive:
        images = sorted({str(image) for image in archive.column("image")})
    for kind, side in (("photos", 640), ("thumbnails", 320)):
        small = photo.resize((side, side * 3 // 4))
        (first, *others) = (run / kind / photo_name(image) for image in images)
        for path in (first, *others):
            path.parent.mkdir(parents=True, exist_ok=True)
        small.save(first, quality=88)
        for path in others:
            path.write_bytes(first.read_bytes())


def memory(browser: Browser) -> dict[str, float]:
    """MB of the largest process that shows a page, and of all processes of the session that the browser leads."""
    leader = browser.process.pid
    sizes: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == leader:
                rolled = (entry / "smaps_rollup").read_text()
                sizes[int(entry.name)] = int(re.findall(r"^Pss: +(\d+)", rolled, re.MULTILINE)[0]) / 1024
        except OSError:
            continue
    told = browser.call("SystemInfo.getProcessInfo")["processInfo"]
    pages = [sizes.get(process["id"], 0.0) for process in told if process["type"] == "renderer"]
    return {"page": round(max(pages), 1), "all": round(sum(sizes.values()), 1)}


def first_gallery(page: Page, address: str, repeat: int) -> float:
    """Seconds from asking for the page, under an address of its own, to the first map on a card."""
    started = time.monotonic()
    page.open(f"{address}?{repeat}", f"location.search === '?{repeat}' && {PAINTED}", seconds=300)
    return time.monotonic() - started


def use(page: Page, records: int) -> dict[str, float]:
    """Seconds of what a reader does; all of it counts for the memory."""
    seconds: dict[str, float] = {}

    def timed(name: str, script: str, until: str) -> None:
        started = time.monotonic()
        page.run(script)
        page.wait(until, 300)
        seconds[name] = round(time.monotonic() - started, 2)

    timed("sort", "void mmel.gallery.want({key: 'score', down: true})", "mmel.gallery.rows[0] !== 0")
    timed("search", "void mmel.gallery.want({text: 'red boat'})", f"mmel.gallery.rows.length < {records}")
    timed("search again", "void mmel.gallery.want({text: 'green'})", "mmel.gallery.wish.text === 'green' && true")
    timed("all", "void mmel.gallery.want({text: ''})", f"mmel.gallery.rows.length === {records}")
    for part in range(21):
        page.run(f"scrollTo(0, {part} / 20 * document.documentElement.scrollHeight)")
        time.sleep(0.15)
    for part in range(10):
        timed("record", f"location.hash = '#n={part * (records - 1) // 9}'", "document.querySelector('.layers canvas')")
    page.run("location.hash = '#'")
    return seconds


def measure_page(index: Path, records: int, repeats: int) -> dict[str, Any]:
    """All figures of a report."""
    with Browser() as browser:
        page = browser.page(1280, 900)
        times = [first_gallery(page, f"file://{index}", repeat) for repeat in range(repeats + 1)][1:]
    with Browser() as browser:  # another: the first keeps the pages that were left
        page = browser.page(1280, 900)
        empty = memory(browser)
        first_gallery(page, f"file://{index}", 0)
        cards = page.run("document.querySelectorAll('.card').length")
        opened = memory(browser)
        seconds = use(page, records)
        used = memory(browser)
        heap = round(page.heap() / 2**20, 1)
        time.sleep(1)
        return {
            "records": records,
            "first_gallery_s": round(statistics.median(times), 2),
            "slowest_s": round(max(times), 2),
            "cards_in_the_document": cards,
            "seconds": seconds,
            "mb": {"empty": empty, "opened": opened, "used": used, "collected": memory(browser)},
            "heap_mb": heap,
            "errors": page.errors,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--side", type=int, default=14, help="patches a side")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--run", type=Path, help="keep the run here, or take the one that lies here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = (given.run or Path(scratch) / "run").resolve()
        if not (run / "archive").is_dir():
            write_run(run, given.records, given.layers, given.side)
        if not (run / "photos").is_dir():
            write_photos(run)
        if not (run / "index.html").is_file():
            measure([run], run)
        print(json.dumps(measure_page(run / "index.html", given.records, given.repeats), indent=2))


if __name__ == "__main__":
    main()

"""Make the picture at the top of README: six pairs of the test scenes, explained by the builtin model.

    python scripts/make_example.py [--out .assets/example.jpg] [--seed 0]

The first object caption of each of the first six scenes, none chosen by its result; image, map and overlay.
"""

import argparse
import json
import tempfile
from pathlib import Path

from PIL import Image

from mmel_cli.config import load_config
from mmel_cli.data.scenes.folder import write_scenes
from mmel_cli.pipelines.explain import explain
from mmel_cli.render import picture_name
from mmel_cli.runs.folder import HEATMAPS

COLUMNS, ROWS, GAP = 2, 3, 16


def one_a_scene(scenes: Path) -> list[str]:
    """Keep the first object caption of each scene; the record ids."""
    table = scenes / "metadata.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    first = {row["file_name"]: row for row in reversed(rows) if row["kind"] == "object"}
    chosen = sorted(first.values(), key=lambda row: row["file_name"])[: COLUMNS * ROWS]
    table.write_text("".join(json.dumps(row) + "\n" for row in chosen))
    return [f"{row['file_name']}#0" for row in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(".assets/example.jpg"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        scenes, run = Path(place) / "scenes", Path(place) / "run"
        write_scenes(scenes, 2 * COLUMNS * ROWS, args.seed, split="test")
        names = one_a_scene(scenes)
        explain(scenes, run, load_config(None, ["model=builtin", "device=cpu", "heatmap.panels=side-by-side"]))
        pictures = [Image.open(run / HEATMAPS / picture_name(name)).convert("RGB") for name in names]
    width, height = (max(picture.size[axis] for picture in pictures) // 2 for axis in (0, 1))
    sheet = Image.new("RGB", (COLUMNS * width + (COLUMNS - 1) * GAP, ROWS * height), "white")
    for number, picture in enumerate(pictures):
        small = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)
        sheet.paste(small, (number % COLUMNS * (width + GAP), number // COLUMNS * height))
    sheet.save(args.out, quality=88)


if __name__ == "__main__":
    main()

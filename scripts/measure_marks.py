"""How often records get marks, and what marks tell: scenes with their own captions, and with those of other images.

    python scripts/measure_marks.py [--split validation] [--count 60] [--methods mmel,flow] [--geometry native]

Scenes are explained with the builtin model, once as they are and once with the captions of all images shuffled among
the images (some are true of their new image by chance). With --geometry letterbox images are cut to their middle rows,
two thirds, so that a third of each input is padding. Prints Markdown: for thresholds of each mark the part of records
that it has with own and with shuffled captions, and how often the strongest cell of the map touches the caption's
object, of own captions with the mark and without it.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from mmel_cli import load_archive
from mmel_cli.config import load_configs
from mmel_cli.data.scenes.folder import write_scenes
from mmel_cli.pipelines.explain import explain_several
from mmel_cli.trust import high_norm_part, outside_part


def shuffle(folder: Path, *, seed: int = 0) -> None:
    """Give each row the caption of a row of another image; masks and boxes stay those of the row."""
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    rng, names = np.random.default_rng(seed), [row["file_name"] for row in rows]
    order = rng.permutation(len(rows))
    while clash := [n for n, other in enumerate(order) if names[n] == names[other]]:
        swaps = rng.integers(len(rows), size=len(clash))
        for n, other in zip(clash, swaps, strict=True):
            order[n], order[other] = order[other], order[n]
    texts = [rows[other]["text"] for other in order]
    kept = [
        {"file_name": row["file_name"], "text": text, "mask": row["mask"]}
        for row, text in zip(rows, texts, strict=True)
    ]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))


def cut(folder: Path) -> None:
    """The middle rows of images and masks, two thirds of them; captions of what is gone go too."""
    for path in [*(folder / "images").iterdir(), *(folder / "masks").iterdir()]:
        image = Image.open(path)
        image.crop((0, image.height // 6, image.width, image.height - image.height // 6)).save(path)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    kept = [
        {key: row[key] for key in ("file_name", "text", "mask")}
        for row in rows
        if np.asarray(Image.open(folder / row["mask"])).any()
    ]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))


def measures(run: Path, method: str) -> dict[str, np.ndarray]:
    """What marks are made from, and whether the strongest cell touches the object."""
    with load_archive(run / method) as archive, load_archive(run / "mask") as truth:
        maps = archive.column("map").astype(np.float64)
        evidence = maps.clip(min=0).sum((1, 2))
        others = (archive.column("match/among") - 1).clip(min=1)
        inside = truth.column("map").reshape(len(maps), -1)
        top = maps.reshape(len(maps), -1).argmax(1)
        return {
            "rank: part of the others at least as high": (archive.column("match/rank") - 1) / others,
            "evidence: 1 - its part of the median": 1 - evidence / np.median(evidence),
            "padding: part of absolute evidence": outside_part(
                maps, archive.column("box"), archive.column("image_size")
            ),
            "long patches: part of absolute evidence": high_norm_part(maps, archive.column("high_norm")),
            "score below": -archive.column("score"),
            "hit": inside[np.arange(len(maps)), top] > 0,
        }


THRESHOLDS = {
    "rank: part of the others at least as high": (1 / 16, 1 / 8, 1 / 4, 1 / 3, 1 / 2),
    "evidence: 1 - its part of the median": (0.5, 0.75, 0.9, 0.95, 0.98),
    "padding: part of absolute evidence": (0.02, 0.05, 0.1, 0.2, 0.3),
    "long patches: part of absolute evidence": (0.02, 0.05, 0.1, 0.25, 0.5),
    "score below": (-0.2, -0.1, 0.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--methods", default="mmel,flow")
    parser.add_argument("--geometry", default="native", choices=("native", "squash", "letterbox"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings = [f"image.geometry={args.geometry}", "heatmaps=false", "archive.channels=final"]
    with tempfile.TemporaryDirectory() as place:
        for name in ("own", "shuffled"):
            folder = Path(place) / name
            write_scenes(folder, args.count, args.seed, split=args.split)
            if args.geometry == "letterbox":
                cut(folder)
            if name == "shuffled":
                shuffle(folder)
            configs = load_configs(f"{args.methods},mask", None, settings, {"model": "builtin", "device": "cpu"})
            explain_several(folder, Path(place) / f"run-{name}", configs)
        for method in args.methods.split(","):
            own, other = (measures(Path(place) / f"run-{name}", method) for name in ("own", "shuffled"))
            hit = own["hit"]
            print(f"\n{method}: {len(hit)} records of {args.count} {args.split} scenes, {hit.mean():.3f} hit\n")
            print("| above | own | shuffled | hit with it | hit without |\n| --- | ---: | ---: | ---: | ---: |")
            for measure, limits in THRESHOLDS.items():
                for limit in limits:
                    mark, rate = own[measure] >= limit, (other[measure] >= limit).mean()
                    hits = [f"{hit[part].mean():.3f}" if part.any() else "-" for part in (mark, ~mark)]
                    print(f"| {measure} {limit:.3g} | {mark.mean():.3f} | {rate:.3f} | {' | '.join(hits)} |")


if __name__ == "__main__":
    main()

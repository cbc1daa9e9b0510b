"""What the score itself says about a mosaic: how well any faithful map could do in `mmel eval --metrics recognition-*`.

    python scripts/measure_quarters.py --scenes runs/mosaics/scenes [--model MODEL] [--mosaics 200]

Mosaics of four one-object scenes of different names, with a caption of one name to four. Each quarter is covered (by
0 after preprocessing), and the name left out where others remain: the drop of the cosine, or with two names and more
the second difference, is what the score says of the name and the quarter. Prints Markdown: how often it is largest in
the name's own quarter, and FIxLIP's recognition with these four numbers as the map.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from mmel_cli.evaluation.mosaics import listing, mosaic, squash
from mmel_cli.model import Adapter, load_model

MOST = 4  # names, and quarters


@dataclass
class Tally:
    """Over all names of all mosaics with one number of names."""

    own: list[bool]
    good: float = 0.0
    total: float = 0.0


def quarters_covered(pixels: Tensor) -> Tensor:
    """The mosaic, and the same without each quarter, (5, 3, height, width)."""
    copies = pixels.repeat(1 + MOST, 1, 1, 1)
    rows, columns = pixels.shape[1] // 2, pixels.shape[2] // 2
    for place in range(MOST):
        row, column = divmod(place, 2)
        copies[1 + place, :, row * rows : (row + 1) * rows, column * columns : (column + 1) * columns] = 0
    return copies


def cosines(model: Adapter, images: Tensor, texts: list[str]) -> np.ndarray:
    """(texts, images), float64; `images` are embeddings of unit length."""
    embeds = normalize(model.embed_texts(model.tokenize(texts)).float(), dim=-1)
    return (embeds @ images.T).double().numpy()


def effects(model: Adapter, images: Tensor, names: list[str]) -> np.ndarray:
    """What the score says of each name and each quarter, (names, 4)."""
    without = [listing([*names[:number], *names[number + 1 :]])[0] for number in range(len(names)) if len(names) > 1]
    scores = cosines(model, images, [listing(names)[0], *without])
    drops = scores[:, :1] - scores[:, 1:]
    return drops[:1] - drops[1:] if without else drops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True, help="one-object scenes: table_scenes.py --objects 1")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--mosaics", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model, rng = load_model(args.model, "cpu", "float32"), np.random.default_rng(args.seed)
    rows = [json.loads(line) for line in (args.scenes / "metadata.jsonl").read_text("utf-8").splitlines()]
    images = {row["phrases"][0]["text"]: [] for row in rows}
    for row in rows:
        images[row["phrases"][0]["text"]].append(args.scenes / row["file_name"])
    tallies = [Tally([]) for _ in range(MOST)]
    for _ in range(args.mosaics):
        names = [str(name) for name in rng.permutation(sorted(images))[:MOST]]
        chosen = [images[name][int(rng.integers(len(images[name])))] for name in names]
        sheet = mosaic([squash(Image.open(path).convert("RGB"), model.spec.image_size) for path in chosen])
        with torch.no_grad():
            pixels = quarters_covered(model.preprocess(sheet, "squash").values)
            embeds = normalize(model.embed_images(pixels).float(), dim=-1)
            for number, tally in enumerate(tallies, 1):
                for place, values in enumerate(effects(model, embeds, names[:number])):
                    tally.own.append(int(values.argmax()) == place)
                    outside = np.delete(values, place)
                    tally.good += max(values[place], 0) - outside[outside < 0].sum()
                    tally.total += np.abs(values).sum()
    print("| names | largest in its own quarter | recognition of these numbers |\n| --- | ---: | ---: |")
    for number, tally in enumerate(tallies, 1):
        print(f"| {number} | {np.mean(tally.own):.3f} | {tally.good / tally.total:.3f} |")


if __name__ == "__main__":
    main()

"""How far estimated shares of words are from exact ones, by how many texts are read, and what stands in their place.

    python scripts/compare_shares.py --captions 24
    python scripts/compare_shares.py --model FOLDER --texts 64,128

Captions of 8 to 11 words of validation scenes; the error is the distance of all words' vectors over their length,
mean and largest over captions and seeds. `orders` draws orders of the words in pairs of reverses until as many texts
are read, the estimate that needs no regression. Prints Markdown.
"""

import argparse

import numpy as np
import torch

from mmel_cli.data.scenes.captions import captions_of
from mmel_cli.data.scenes.sample import sample_scene
from mmel_cli.model import load_model
from mmel_cli.model.many_texts import ManyTexts
from mmel_cli.model.words import only
from mmel_cli.shapley import design

SEEDS = range(5)
_ORDERS = 400  # drawn at most: all texts may be read before the budget is


def captions(count: int) -> list[str]:
    """Distinct captions of 8 to 11 words."""
    rng, texts, index = np.random.default_rng(0), dict[str, None](), 0
    while len(texts) < count:
        said = captions_of(sample_scene(5, "validation", index), rng)
        texts |= {caption.text: None for caption in said if 8 <= len(caption.text.split()) <= 11}
        index += 1
    return list(texts)[:count]


def by_orders(worths: np.ndarray, players: int, most: int, seed: int) -> np.ndarray:
    """The mean of what each word adds over drawn orders and their reverses, of which `most` texts are read."""
    rng, read, sums, count = (
        np.random.default_rng(seed),
        {0, (1 << players) - 1},
        np.zeros((players, worths.shape[1])),
        0,
    )
    while True:
        order = rng.permutation(players)
        steps = [np.cumsum([0, *(1 << one for one in way)]) for way in (order, order[::-1])]
        now = {int(step) for way in steps for step in way}
        if len(read | now) > most or count >= _ORDERS:
            return sums / count
        read |= now
        for way, passed in zip((order, order[::-1]), steps, strict=True):
            sums[way] += worths[passed[1:]] - worths[passed[:-1]]
        count += 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--captions", type=int, default=24)
    parser.add_argument("--texts", default="64,128,256")
    args = parser.parse_args()
    model = load_model(args.model, "cpu", "float32")
    budgets, reader = [int(text) for text in args.texts.split(",")], ManyTexts(model)
    errors: dict[tuple[str, int], list[float]] = {}
    for text in captions(args.captions):
        words = model.tokenize([text]).words[0]
        whole = design(len(words), 1 << len(words))
        [embeds] = reader.embeds([[only(text, words, members) for members in whole.members.tolist()]])
        worths = embeds.double().numpy()
        exact = whole.weights @ worths
        for most in budgets:
            for seed in SEEDS:
                chosen = design(len(words), most, seed)
                rows = chosen.members @ (1 << np.arange(len(words)))
                estimates = {"regression": chosen.weights @ worths[rows]}
                estimates["orders"] = by_orders(worths, len(words), most, seed)
                for name, estimate in estimates.items():
                    off = np.linalg.norm(estimate - exact) / np.linalg.norm(exact)
                    errors.setdefault((name, most), []).append(float(off))
    print("| texts | " + " | ".join(map(str, budgets)) + " |\n| --- |" + " --- |" * len(budgets))
    for name in ("regression", "orders"):
        cells = [f"{np.mean(errors[name, most]):.3f} ({np.max(errors[name, most]):.3f})" for most in budgets]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()

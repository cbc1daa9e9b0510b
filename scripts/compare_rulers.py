"""How well each metric of an evaluation tells its runs apart: for every pair of runs the paired effect size.

    python scripts/table_scenes.py --out runs/rulers --scenes 50 --metrics faithfulness \
        --runs random,mask,grad-eclip-last,flow,gae,mmel
    python scripts/compare_rulers.py runs/rulers/eval-grad-eclip-last-all/per_record.csv

The effect size is the mean difference of a pair divided by its standard error, over images (the mean of an image's
records counts once): about 2 is significant at 5 %. Positive: the first run of the pair is better. Prints Markdown.
"""

import argparse
import csv
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np

from mmel_cli.evaluation import named

RULERS = ("insertion-deletion", "insertion-deletion-fine", "insertion-deletion-log")


def read(table: Path, metrics: list[str]) -> dict[str, dict[str, np.ndarray]]:
    """By metric and run, the mean of each image's records, (images,), in one order; signed so that more is better."""
    sums: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for metric in metrics:
                if row[metric]:
                    sums[metric, row["run"]][row["image"]].append(float(row[metric]))
    means: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for metric in metrics:
        runs = [run for name, run in sums if name == metric]
        images = sorted(set.intersection(*(set(sums[metric, run]) for run in runs)))
        for run in runs:
            means[metric][run] = sign(metric) * np.array([np.mean(sums[metric, run][image]) for image in images])
    return means


def effect(one: np.ndarray, other: np.ndarray) -> float:
    """Mean of the paired difference in its standard errors."""
    gaps = one - other
    return float(gaps.mean() / (gaps.std(ddof=1) / np.sqrt(len(gaps))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="per_record.csv of an evaluation")
    parser.add_argument("--metrics", default=",".join(RULERS))
    parser.add_argument("--leave-out", default="", help="runs, with commas")
    args = parser.parse_args()
    metrics, gone = args.metrics.split(","), set(args.leave_out.split(","))
    means = read(args.table, metrics)
    runs = [run for run in means[metrics[0]] if run not in gone]
    print("| runs | " + " | ".join(metrics) + " |\n|" + " --- |" * (len(metrics) + 1))
    for run in runs:
        cells = (f"{sign(metric) * means[metric][run].mean():.3f}" for metric in metrics)
        print(f"| mean of {run} | " + " | ".join(cells) + " |")
    sizes = {m: [effect(means[m][a], means[m][b]) for a, b in combinations(runs, 2)] for m in metrics}
    for number, (one, other) in enumerate(combinations(runs, 2)):
        print(f"| {one} - {other} | " + " | ".join(f"{sizes[m][number]:+.1f}" for m in metrics) + " |")
    print("| mean magnitude | " + " | ".join(f"{np.abs(sizes[m]).mean():.1f}" for m in metrics) + " |")


def sign(metric: str) -> int:
    """Of the value as it is reported."""
    return 1 if named()[metric][1].better == "up" else -1


if __name__ == "__main__":
    main()

"""The table of README: every method on test scenes of the builtin model, scored by `mmel eval`.

    python scripts/table_scenes.py --out runs/table --scenes 300                             (localisation, sanity)
    python scripts/table_scenes.py --out runs/table --scenes 300 --metrics all --limit 500   (over an hour on two cores)

Scenes of the test split with 2-4 objects; their captions of an object and of attributes. The explained runs are kept in
--out and used again, and the evaluation goes on where it stopped. Prints Markdown: mean and 95 % interval.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from mmel_cli.config import load_config, load_eval_config
from mmel_cli.data.scenes.folder import write_scenes
from mmel_cli.pipelines.evaluate import evaluate
from mmel_cli.pipelines.explain import explain

RUNS = {
    "random": ["method.name=random"],
    "mask": ["method.name=mask"],
    "grad-eclip-last": ["method.name=grad-eclip", "method.layers=last"],
    "grad-eclip-all": ["method.name=grad-eclip", "method.layers=all"],
    "flow": ["method.name=flow"],
    "mmel": ["method.name=mmel"],
}
REFERENCE = "grad-eclip-last"
COMMON = ["heatmaps=false", "archive.channels=layers", "batch_size=32"]
KINDS = ("object", "attributes")


def write_subset(folder: Path, seed: int, scenes: int) -> None:
    """An imagefolder of `scenes` images with 2-4 objects, and their captions of KINDS."""
    if (folder / "metadata.jsonl").exists():
        return
    write_scenes(folder, scenes * 2, seed)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["objects"] >= 2 and row["kind"] in KINDS]
    images = list(dict.fromkeys(row["file_name"] for row in rows))[:scenes]
    (folder / "metadata.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows if row["file_name"] in images)
    )


def cell(report: dict[str, Any], metric: str, run: str) -> str:
    """Mean and interval of one run, in bold where the difference from the reference is significant at 5 %."""
    held = report["metrics"][metric]
    value = held["runs"].get(run)
    if not value or value["mean"] is None:
        return "-"
    text = f"{value['mean']:.3f}" + (f" [{value['low']:.3f}, {value['high']:.3f}]" if value["low"] is not None else "")
    p = (held["differences"].get(run) or {}).get("p_holm")
    return f"**{text}**" if p is not None and p < 0.05 else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--metrics", default="localisation,sanity")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    write_subset(args.out / "scenes", args.seed, args.scenes)
    for name, settings in RUNS.items():
        explain(args.out / "scenes", args.out / name, load_config(None, [f"model={args.model}", *COMMON, *settings]))
    runs = [args.out / name for name in (REFERENCE, *(name for name in RUNS if name != REFERENCE))]
    config = load_eval_config(None, [], {"metrics": args.metrics, "limit": args.limit})
    folder = args.out / f"eval-{args.metrics.replace(',', '-')}-{args.limit or 'all'}"
    report = evaluate(runs, config, folder).report
    print(
        f"{report['records']} records of {report['images']} images; bold: differs from {REFERENCE} (p < 0.05, Holm)\n"
    )
    print("| metric | " + " | ".join(RUNS) + " |\n|" + " --- |" * (len(RUNS) + 1))
    for name, metric in report["metrics"].items():
        arrow = "↑" if metric["better"] == "up" else "↓"
        print(f"| {name} {arrow} | " + " | ".join(cell(report, name, run) for run in RUNS) + " |")


if __name__ == "__main__":
    main()

"""The tables of RESULTS.md: every method on test scenes, scored by `mmel eval`.

    python scripts/table_scenes.py --out runs/table                             (localisation, sanity: minutes)
    python scripts/table_scenes.py --out runs/table --metrics all --limit 500   (about an hour on two cores)
    python scripts/table_scenes.py --out runs/table --metrics localisation,insertion-deletion --limit 200 \
        --runs flow,gae,mmel --reference gae --differences
    python scripts/table_scenes.py --out runs/words --kinds pair --scenes 500 --metrics words --rows runs \
        --runs words --reference words-mmel

Scenes with 2-4 objects (or --objects), of the test split unless told otherwise; their captions of --kinds. The
explained runs are kept in --out and used again, and the evaluation goes on where it stopped. Prints Markdown: mean
and 95 % interval.
"""

import argparse
import json
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mmel_cli.config import load_config, load_eval_config
from mmel_cli.data.scenes.folder import write_scenes
from mmel_cli.pipelines.evaluate import evaluate
from mmel_cli.pipelines.explain import explain

RUNS = {
    "random": ["method.name=random"],
    "mask": ["method.name=mask"],
    "attention": ["method.name=attention"],
    "rollout": ["method.name=rollout"],
    "grad-cam": ["method.name=grad-cam"],
    "eigen-cam": ["method.name=eigen-cam"],
    "mask-clip": ["method.name=mask-clip"],
    "clip-surgery": ["method.name=clip-surgery"],
    "legrad": ["method.name=legrad"],
    "input-x-gradient": ["method.name=input-x-gradient"],
    "grad-eclip-last": ["method.name=grad-eclip", "method.layers=last"],
    "grad-eclip-all": ["method.name=grad-eclip", "method.layers=all"],
    "gae": ["method.name=gae"],
    "flow-plain": ["method.name=flow", "method.gradient=plain"],
    "flow": ["method.name=flow"],
    "mmel-untrained-plain": ["method.weights=untrained", "method.gradient=plain"],
    "mmel-untrained": ["method.weights=untrained"],
    "mmel": ["method.weights=auto"],
}
BALANCED = {  # methods that reproduce a paper, with balanced gradients
    f"{name}-balanced": [*settings, "method.gradient=balanced"]
    for name, settings in RUNS.items()
    if name in ("grad-eclip-last", "grad-eclip-all", "gae", "legrad", "grad-cam")
} | {
    f"{name}-norms": [*settings, "method.gradient=balanced-norms"]
    for name, settings in RUNS.items()
    if name in ("input-x-gradient", "flow", "mmel-untrained")
}
MANY_PASSES = {
    "integrated-gradients": ["method.name=integrated-gradients"],
    "smoothgrad": ["method.name=smoothgrad"],
    "occlusion": ["method.name=occlusion"],
    "rise": ["method.name=rise"],
    "rise-4000": ["method.name=rise", "method.masks=4000"],
    "region-search": ["method.name=region-search"],
    "flow-shifts-5": ["method.name=flow", "method.shifts=5"],
    "mmel-untrained-shifts-5": ["method.weights=untrained", "method.shifts=5"],
    "mmel-shifts-5": ["method.weights=auto", "method.shifts=5"],
    "mmel-zooms-2": ["method.weights=auto", "method.zooms=[0.8,1.25]"],
}
LEARNED = {
    "mmel-localization": ["method.weights={weights}/localization.safetensors", "method.transfer=true"],
    "mmel-faithfulness": ["method.weights={weights}/faithfulness.safetensors", "method.transfer=true"],
    "mmel-localization-shifts-5": [
        "method.weights={weights}/localization.safetensors",
        "method.transfer=true",
        "method.shifts=5",
    ],
}
_WORDS = ["words.regions=true"]
_LEARNED = ["method.weights={weights}/localization.safetensors", "method.transfer=true"]
WORDS = {  # words x regions: what stands for a phrase, and by which method
    "words-mmel": [*_WORDS, "method.weights=auto"],
    "words-mmel-alone": [*_WORDS, "method.weights=auto", "words.phrase=alone", "words.texts=2"],
    "words-mmel-left-out": [*_WORDS, "method.weights=auto", "words.phrase=left-out", "words.texts=2"],
    "words-mmel-sum": [*_WORDS, "method.weights=auto", "words.phrase=words"],
    "words-mmel-untrained": [*_WORDS, "method.weights=untrained"],
    "words-mmel-untrained-alone": [*_WORDS, "method.weights=untrained", "words.phrase=alone", "words.texts=2"],
    "words-flow": [*_WORDS, "method.name=flow"],
    "words-flow-alone": [*_WORDS, "method.name=flow", "words.phrase=alone", "words.texts=2"],
    "words-flow-sum": [*_WORDS, "method.name=flow", "words.phrase=words"],
}
WORDS_LEARNED = {
    "words-learned": [*_WORDS, *_LEARNED],
    "words-learned-alone": [*_WORDS, *_LEARNED, "words.phrase=alone", "words.texts=2"],
    "words-learned-left-out": [*_WORDS, *_LEARNED, "words.phrase=left-out", "words.texts=2"],
    "words-learned-sum": [*_WORDS, *_LEARNED, "words.phrase=words"],
}
RIVALS = {
    "words-flow-left-out": [*_WORDS, "method.name=flow", "words.phrase=left-out", "words.texts=2"],
    "fixlip": ["method.name=fixlip"],
    "fixlip-4000": ["method.name=fixlip", "method.masks=4000"],
    "exclip": ["method.name=exclip"],
    "exclip-text-1": ["method.name=exclip", "method.text_block=1"],
}
MORE_RUNS = BALANCED | MANY_PASSES | LEARNED | WORDS | WORDS_LEARNED | RIVALS
COMMON = ["heatmaps=false", "batch_size=32"]
KINDS = ("object", "attributes")
OBJECTS = (2, 3, 4)


def write_subset(
    folder: Path,
    seed: int,
    scenes: int,
    split: str = "test",
    kinds: Collection[str] = KINDS,
    objects: Collection[int] = OBJECTS,
) -> None:
    """An imagefolder of `scenes` images of a split with so many objects, and their captions of some kinds."""
    if (folder / "metadata.jsonl").exists():
        return
    write_scenes(folder, scenes * (2 if len(objects) > 1 else 6), seed, split=split)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["objects"] in objects and row["kind"] in kinds]
    images = list(dict.fromkeys(row["file_name"] for row in rows))[:scenes]
    (folder / "metadata.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows if row["file_name"] in images)
    )


def cell(report: dict[str, Any], metric: str, run: str) -> str:
    """Mean and interval of one run, in bold where the difference from the reference is significant at 5 %."""
    summary = report["metrics"][metric]
    value = summary["runs"].get(run)
    if not value or value["mean"] is None:
        return "-"
    text = f"{value['mean']:.3f}" + (f" [{value['low']:.3f}, {value['high']:.3f}]" if value["low"] is not None else "")
    p = (summary["differences"].get(run) or {}).get("p_holm")
    return f"**{text}**" if p is not None and p < 0.05 else text


def gap(report: dict[str, Any], metric: str, run: str) -> str:
    """The paired difference of one run from the reference with its interval, in bold where significant at 5 %."""
    difference = report["metrics"][metric]["differences"].get(run)
    if not difference or difference["mean"] is None:
        return "-"
    text = f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"
    return f"**{text}**" if difference["p_holm"] < 0.05 else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--metrics", default="localisation,sanity")
    parser.add_argument("--limit", type=int, help="records that are scored")
    parser.add_argument("--explain", type=int, help="records that are explained, for methods of many passes")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of captions")
    parser.add_argument("--objects", default=",".join(map(str, OBJECTS)), help="of a scene")
    parser.add_argument("--split", default="test")
    parser.add_argument(
        "--runs",
        default=",".join(RUNS),
        help=f"also {', '.join(MORE_RUNS)}; one-pass: all of one pass, with balanced gradients; words: all of words",
    )
    parser.add_argument("--reference", default="grad-eclip-last", help="the run that all others are compared with")
    parser.add_argument("--differences", action="store_true", help="print paired differences from it instead of means")
    parser.add_argument("--weights", type=Path, help="OUT of train_shipped.py, for the runs of LEARNED")
    parser.add_argument("--rows", choices=("metrics", "runs"), default="metrics", help="what stands in a row")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    objects = [int(count) for count in args.objects.split(",")]
    write_subset(args.out / "scenes", args.seed, args.scenes, args.split, args.kinds.split(","), objects)
    groups = {"one-pass": [*RUNS, *BALANCED], "words": [*WORDS]}
    names = [name for part in args.runs.split(",") for name in groups.get(part, [part])]
    for name in names:
        settings = [setting.format(weights=args.weights) for setting in (RUNS | MORE_RUNS)[name]]
        started = time.monotonic()
        options = {} if args.explain is None else {"limit": args.explain}
        config = load_config(None, [f"model={args.model}", *COMMON, *settings], options)
        summary, _ = explain(args.out / "scenes", args.out / name, config)
        if not summary.resumed:
            print(f"{name}: {summary.done / (time.monotonic() - started):.1f} records a second", file=sys.stderr)
    runs = [args.out / name for name in (args.reference, *(name for name in names if name != args.reference))]
    config = load_eval_config(None, [], {"metrics": args.metrics, "limit": args.limit})
    folder = args.out / f"eval-{args.reference}-{args.limit or 'all'}"
    report = evaluate(runs, config, folder).report
    print(
        f"{report['records']} records of {report['images']} images; bold: differs from {args.reference} "
        "(p < 0.05, Holm)\n"
    )
    show = gap if args.differences else cell
    signs = {"up": " ↑", "down": " ↓", "neither": ""}
    arrows = {name: signs[metric["better"]] for name, metric in report["metrics"].items()}
    table = [["metric", *names]]
    table += [[f"{name}{arrow}", *(show(report, name, run) for run in names)] for name, arrow in arrows.items()]
    if args.rows == "runs":
        table = [list(column) for column in zip(*table, strict=True)]
    first, *others = ["| " + " | ".join(row) + " |" for row in table]
    print("\n".join([first, "|" + " --- |" * len(table[0]), *others]))


if __name__ == "__main__":
    main()

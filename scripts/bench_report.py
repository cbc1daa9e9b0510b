"""Measure how long the report of N synthetic records takes to build, and how much memory: no model, no images.

    python scripts/bench_report.py --records 10000

The archive has the shape of a run of mmel on ViT-B/16 with --words: 12 layers of 14 x 14, 77 tokens. It is written by
ShardWriter like any other; the report is built in a process of its own, whose peak memory the system tells.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from mmel_cli.archive import ArchiveOptions, ShardWriter
from mmel_cli.fields import MAP, PHRASE_REGIONS, TOKEN_MAP, WORD_REGIONS, WORD_VALUE, Field
from mmel_cli.types import Explanation, RunInfo, Word

_LAYER = ("layers", "rows", "columns")
_FIELDS = (
    MAP,
    TOKEN_MAP,
    *(Field(f"layers/{name}", _LAYER, "of a layer", evidence=True) for name in ("loosened", "flow")),
    *(Field(f"layers/{name}", _LAYER, "of a layer") for name in ("alignment", "attention", "lambda")),
    *(Field(f"layers/shared_{r}", ("layers", "channels(4)", f"regions({r})"), "shared") for r in (1, 2, 4)),
    WORD_VALUE,
    *WORD_REGIONS,
    *PHRASE_REGIONS,
)
_WORDS = ("a", "the", "small", "red", "green", "dog", "cat", "boat", "on", "in", "under", "beside", "near", "of")
_CAPTIONS = 5  # an image


def info_of(layers: int, side: int) -> RunInfo:
    """Of a run that might have made such records."""
    return RunInfo(
        model="synthetic ViT-B/16",
        model_sha256="0" * 64,
        method="mmel",
        layers=tuple(range(1, layers + 1)),
        grid=(side, side),
        patch=16,
        image_size=(16 * side, 16 * side),
        geometry="native",
        max_tokens=75,
        device="cpu",
        dtype="float32",
        config={"words": {"regions": True, "phrase": "mean"}, "method": {"name": "mmel"}},
        config_sha256="0" * 64,
        versions={"mmel": "bench"},
        fields=_FIELDS,
    )


def records(count: int, info: RunInfo, rng: np.random.Generator) -> Iterator[Explanation]:
    """Captions of 8 to 12 words with three phrases, five an image."""
    for number in range(count):
        image = f"images/{number // _CAPTIONS:07}.jpg"
        caption = " ".join(rng.choice(_WORDS, int(rng.integers(8, 13))))
        words = tuple(Word(m.group(), m.start(), m.end()) for m in re.finditer(r"\S+", caption))
        spans = np.array([(words[k].start, words[k + 1].end) for k in (0, 3, 6)], np.int32)
        record = Explanation(
            id=f"{image}#{number % _CAPTIONS}",
            image=image,
            caption=caption,
            truncated=False,
            score=float(rng.normal(0.28, 0.04)),
            logit=0.0,
            image_size=(480, 640),
            box=(80.0, 0.0, 560.0, 480.0),
            fields={},
            tokens=tuple(word.text for word in words),
            words=words,
        )
        own = replace(info.sizes, tokens=len(words), words=len(words), phrases=len(spans))
        fields = {f.name: rng.standard_normal(f.shape(own), np.float32) for f in info.fields if f.dtype == "float32"}
        yield replace(record, fields=fields | {"phrases/span": spans})


def write_run(folder: Path, count: int, layers: int, side: int) -> None:
    """A run folder as mmel explain leaves it, without pictures."""
    info = info_of(layers, side)
    with ShardWriter(folder / "archive", info, ArchiveOptions()) as writer:
        for record in records(count, info, np.random.default_rng(0)):
            writer.extend([record])
    (folder / "run.yaml").write_text(yaml.safe_dump({"format": "mmel-run", "config": info.config}), "utf-8")
    (folder / "failures.jsonl").write_text("", "utf-8")


def measure(runs: list[Path], out: Path) -> dict[str, float]:
    """Build in a process of its own: seconds, those of them that a core worked, and its peak memory in MB."""
    started = time.monotonic()
    command = [sys.executable, "-m", "mmel_cli", "report", *map(str, runs), "--out", str(out), "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - started
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    core, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 2**10
    told = {"seconds": seconds, "core_seconds": core, "peak_mb": peak, "report_mb": size / 2**20}
    return {name: round(value, 1) for name, value in told.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--side", type=int, default=14, help="patches a side")
    parser.add_argument("--run", type=Path, help="keep the archive here, or take the one that lies here")
    parser.add_argument("--out", type=Path, help="keep the report here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run, out = given.run or Path(scratch) / "run", given.out or Path(scratch) / "report"
        if not (run / "archive").is_dir():
            write_run(run, given.records, given.layers, given.side)
        print(json.dumps({"records": given.records} | measure([run], out)))


if __name__ == "__main__":
    main()

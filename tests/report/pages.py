"""Runs to look at in a browser: archives of random maps, with photos, made without a model."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mmel_cli.archive import ArchiveOptions, ShardWriter, load_archive
from mmel_cli.fields import MAP, MATCH_AMONG, MATCH_RANK, PHRASE_REGIONS, WORD_REGIONS, WORD_VALUE, Field
from mmel_cli.render import photo_name
from mmel_cli.runs.digests import ids_sha256, maps_sha256
from mmel_cli.types import Explanation, RunInfo, Word

FLOW = Field("layers/flow", ("layers", "rows", "columns"), "of a layer", evidence=True)
LOOSENED = Field("layers/loosened", ("layers", "rows", "columns"), "of a layer", evidence=True)
MATCH = (MATCH_RANK, MATCH_AMONG)
ALL = (MAP, FLOW, LOOSENED, WORD_VALUE, *WORD_REGIONS, *PHRASE_REGIONS, *MATCH)
SIZE = (90, 120)  # of every image: height, width
BOX = (10.0, -5.0, 110.0, 95.0)  # cut off above and below, and less wide than the image
CAPTIONS = ("a red dog on grass", "two cats", "the old boat by a pier", "dogs and cats", "a boat, red and white")


def info_of(method="mmel", fields=ALL, grid=(5, 7), **changes):
    info = RunInfo(
        model="made",
        model_sha256="0" * 64,
        method=method,
        layers=(2, 3, 4),
        grid=grid,
        patch=8,
        image_size=(40, 56),
        geometry="native",
        max_tokens=16,
        device="cpu",
        dtype="float32",
        config={"method": {"name": method}, "words": {"phrase": "mean", "regions": True}},
        config_sha256=method.ljust(64, "0"),
        versions={"mmel": "test"},
        fields=fields,
        described={"layer_weights": "0.5000 1.5000 0.2500"} if method == "mmel" else {},
    )
    return replace(info, **changes)


def record_of(number, info, rng, record_id, image, caption):
    words = tuple(Word(m.group(), m.start(), m.end()) for m in re.finditer(r"\S+", caption))[: info.max_tokens]
    phrases = [(words[0].start, words[1].end), (words[-1].start, words[-1].end)] if len(words) > 2 else []
    spans = np.array(phrases, np.int32).reshape(-1, 2)
    own = replace(info.sizes, tokens=len(words), words=len(words), phrases=len(spans))
    fields = {
        f.name: (rng.standard_normal(f.shape(own)) / 100).astype(np.float32)
        for f in info.fields
        if f.dtype == "float32"
    }
    fixed = {"phrases/span": spans, "match/rank": np.int32(1 + number % 3), "match/among": np.int32(9)}
    fields |= {name: np.asarray(value) for name, value in fixed.items() if name in {f.name for f in info.fields}}
    return Explanation(
        id=record_id,
        image=image,
        caption=caption,
        truncated=number % 7 == 6,
        score=float(np.float32(rng.normal(0.3, 0.1))),
        image_size=SIZE,
        box=BOX,
        fields=fields,
        tokens=tuple(word.text for word in words),
        words=words,
        logit=1.0,
        against=f"not {caption}" if info.against else None,
        against_score=0.125 if info.against else None,
    )


def write_run(folder, info=None, *, seed=0, records=None, images=9):
    """A run folder. `records`: (id, image, caption) each; by default five captions an image."""
    info, rng = info or info_of(), np.random.default_rng(seed)
    records = records or [
        (f"im{k // 5:02}.png#{k % 5}", f"im{k // 5:02}.png", f"{CAPTIONS[k % 5]} {k}") for k in range(5 * images)
    ]
    with ShardWriter(folder / "archive", info, ArchiveOptions(shard_size=17)) as writer:
        for number, record in enumerate(records):
            writer.extend([record_of(number, info, rng, *record)])
    (folder / "run.yaml").write_text("format: mmel-run\n")
    for number, image in enumerate(sorted({image for _, image, _ in records})):
        shade = np.linspace(40, 215, SIZE[1], dtype=np.float32)[None].repeat(SIZE[0], 0)
        pixels = np.stack([shade, shade[:, ::-1], np.full(SIZE, 25 * (number % 10))], -1).astype(np.uint8)
        for kind in ("photos", "thumbnails"):
            path = folder / kind / photo_name(image)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


def report(*arguments):
    """mmel report, as typed."""
    command = [sys.executable, "-m", "mmel_cli", "report", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def write_evaluation(folder: Path, runs: dict[str, Path], values: dict[str, np.ndarray], records):
    """What mmel eval leaves: one metric, "energy-inside", with a tie, and "pixel-ap", without."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = list(runs)

    def estimates(low_high):
        return {
            label: {"mean": (low + high) / 2, "low": low, "high": high, "records": len(records), "undefined": 0}
            for label, (low, high) in zip(labels, low_high, strict=True)
        }

    def difference(mean, p):
        return {labels[1]: {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "records": 9, "p": p, "p_holm": p}}

    common = {"group": "localisation", "better": "up", "source": "", "by_size": {}}
    metrics = {
        "energy-inside": {"definition": "evidence inside the mask", "runs": estimates([(0.5, 0.7), (0.55, 0.75)])}
        | common
        | {"differences": difference(0.05, 0.4)},
        "pixel-ap": {"definition": "of the mask's pixels", "runs": estimates([(0.7, 0.9), (0.2, 0.4)])}
        | common
        | {"differences": difference(-0.5, 0.0001)},
    }
    line = {"mean": [0.1, 0.2, 0.4, 0.3], "error": [0.01] * 4, "records": len(records)}
    content = {
        "config": {},
        "runs": [
            {"label": label, "path": str(path), "config_sha256": sha, "layers": [2, 3, 4]} | _content(path)
            for (label, path), sha in zip(runs.items(), (name.ljust(64, "0") for name in ("mmel", "flow")), strict=True)
        ],
        "records": len(records),
        "images": 9,
        "reference": labels[0],
        "metrics": metrics,
        "curves": {label: {"insertion": line, "deletion": line} for label in labels},
        "curves_at": {},
        "layers": {label: {"flow/energy-inside": {"mean": [0.1, 0.4, 0.2], "error": [0.01] * 3}} for label in labels},
        "refused": {labels[1]: {"pointing-game": "no masks in the input"}},
        "failed": dict.fromkeys(labels, 0),
    }
    (folder / "metrics.json").write_text(json.dumps(content))
    rows = ["run,id,image,caption,size,energy-inside,pixel-ap"]
    for label in labels:
        for k, (record_id, image, caption) in enumerate(records):
            quoted = ",".join(f'"{text}"' for text in (record_id, image, caption))
            rows.append(f"{label},{quoted},small,{values[label][k]},{values[label][k] / 2}")
    (folder / "per_record.csv").write_text("\n".join(rows) + "\n")


def _content(run: Path) -> dict[str, str]:
    with load_archive(run) as archive:
        return {"ids_sha256": ids_sha256(archive), "maps_sha256": maps_sha256(archive)}

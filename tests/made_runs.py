"""Run folders with known numbers, without a model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from mmel_cli.archive import ArchiveOptions, ShardWriter, fingerprint
from mmel_cli.fields import MAP, WORD_VALUE, Field
from mmel_cli.types import Explanation, RunInfo, Word

MATCH = (Field("match/rank", (), "rank", dtype="int32"), Field("match/among", (), "captions", dtype="int32"))
INFO = RunInfo(
    model="m", model_sha256="a" * 64, method="flow", layers=(1,), grid=(6, 4), patch=8, image_size=(48, 32),
    geometry="native", max_tokens=5, device="cpu", dtype="float32", config={"words": {"phrase": "mean"}},
    config_sha256=fingerprint({}), versions={"mmel": "0"}, fields=(MAP, WORD_VALUE, *MATCH),
)  # fmt: skip


def record(n: int, **changed) -> Explanation:
    """Record n: score n / 100, the first among 9 captions, a word that the score needs, and a map of its own."""
    rng = np.random.default_rng(n)
    fields = {"map": rng.normal(size=INFO.grid).astype(np.float32), "words/value": np.array([0.1, 0.2], np.float32)}
    fields |= {"match/rank": np.int32(1), "match/among": np.int32(9)} | changed.pop("fields", {})
    explanation = Explanation(
        id=f"photos/{n:03}.jpg#0",
        image=f"photos/{n:03}.jpg",
        caption=f"dog {n}",
        truncated=False,
        score=n / 100,
        image_size=(60, 40),
        box=(0.0, 0.0, 40.0, 60.0),
        fields=fields,
        logit=n / 10,
        tokens=("dog", str(n)),
        words=(Word("dog", 0, 3), Word(str(n), 4, 4 + len(str(n)))),
    )
    return replace(explanation, **changed)


def write_run(folder: Path, records: list[Explanation], info: RunInfo = INFO, shard_size: int = 4) -> Path:
    """A run folder of these records, with the fields that `info` declares."""
    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text(yaml.safe_dump({"format": "mmel-run"}))
    kept = {field.name for field in info.fields}
    with ShardWriter(folder / "archive", info, ArchiveOptions(shard_size=shard_size)) as writer:
        for one in records:
            writer.extend([replace(one, fields={name: one.fields[name] for name in kept})])
    return folder

"""Bytes of the archive a pair, for the settings that change them; the maps are noise, the worst case for compression.

python scripts/measure_archive.py
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmel_cli.archive import ArchiveOptions, ShardWriter
from mmel_cli.attribution.hsrm import declared
from mmel_cli.fields import MAP, TOKEN_MAP, WORD_VALUE, Sizes
from mmel_cli.types import Explanation, RunInfo, Word

MODELS = {"6 layers, 12 x 12": (6, 12, 30), "12 layers, 14 x 14": (12, 14, 75)}
RECORDS, TOKENS = 128, 8
FIELDS = (MAP, TOKEN_MAP, *declared((1, 2, 4)), WORD_VALUE)


def info(layers: int, side: int, tokens: int) -> RunInfo:
    return RunInfo(
        model="m",
        model_sha256="",
        method="mmel",
        layers=tuple(range(1, layers + 1)),
        grid=(side, side),
        patch=16,
        image_size=(side * 16, side * 16),
        geometry="native",
        max_tokens=tokens,
        device="cpu",
        dtype="float32",
        config={},
        config_sha256="",
        versions={},
        fields=FIELDS,
    )


def record(number: int, layers: int, side: int) -> Explanation:
    rng = np.random.default_rng(number)

    def noise(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    sizes = Sizes(layers, (side, side), TOKENS, TOKENS)
    return Explanation(
        id=f"{number:09}.jpg#0",
        image=f"{number:09}.jpg",
        caption="a photo of a dog on a beach",
        truncated=False,
        score=0.3,
        image_size=(480, 640),
        box=(80.0, 0.0, 560.0, 480.0),
        fields={field.name: noise(*field.shape(sizes)) for field in FIELDS},
        tokens=("word",) * TOKENS,
        words=tuple(Word("word", 5 * n, 5 * n + 4) for n in range(TOKENS)),
    )


def main() -> None:
    print("| model | archive.channels | archive.dtype | bytes a pair |\n| --- | --- | --- | --- |")
    for name, (layers, side, tokens) in MODELS.items():
        records = [record(n, layers, side) for n in range(RECORDS)]
        for channels in ("all", "layers", "final"):
            for dtype in ("float32", "float16"):
                with tempfile.TemporaryDirectory() as folder:
                    options = ArchiveOptions(channels=channels, dtype=dtype)
                    about = info(layers, side, tokens)
                    kept = replace(about, fields=options.kept(about.fields))
                    with ShardWriter(Path(folder), kept, options) as writer:
                        writer.extend(records)
                    size = sum(path.stat().st_size for path in Path(folder).iterdir())
                print(f"| {name} | {channels} | {dtype} | {size / RECORDS:,.0f} |")


if __name__ == "__main__":
    main()

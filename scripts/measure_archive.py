"""Bytes of the archive a pair, for the settings that change them; the maps are noise, the worst case for compression.

python scripts/measure_archive.py
"""

import tempfile
from pathlib import Path

import numpy as np

from mmel_cli.archive import ArchiveOptions, ShardWriter
from mmel_cli.archive.schema import CHANNELS, KINDS
from mmel_cli.types import Explanation, RunInfo

MODELS = {"6 layers, 12 x 12": (6, 12, 30), "12 layers, 14 x 14": (12, 14, 75)}
RECORDS, SCALES = 128, (1, 2, 4)


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
    )


def record(number: int, layers: int, side: int) -> Explanation:
    rng = np.random.default_rng(number)

    def noise(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    regions = {scale: -(-side // scale) for scale in SCALES}
    return Explanation(
        id=f"{number:09}.jpg#0",
        image=f"{number:09}.jpg",
        caption="a photo of a dog on a beach",
        truncated=False,
        score=0.3,
        image_size=(480, 640),
        box=(80.0, 0.0, 560.0, 480.0),
        map=noise(side, side),
        layers={kind: noise(layers, side, side) for kind in KINDS},
        shared={scale: noise(layers, CHANNELS, size, size) for scale, size in regions.items()},
        tokens=("a</w>",) * 8,
        token_map=noise(8),
    )


def main() -> None:
    print("| model | archive.channels | archive.dtype | bytes a pair |\n| --- | --- | --- | --- |")
    for name, (layers, side, tokens) in MODELS.items():
        records = [record(n, layers, side) for n in range(RECORDS)]
        for channels in ("all", "layers", "final"):
            for dtype in ("float32", "float16"):
                with tempfile.TemporaryDirectory() as folder:
                    options = ArchiveOptions(channels=channels, dtype=dtype)
                    with ShardWriter(Path(folder), info(layers, side, tokens), options) as writer:
                        for one in records:
                            writer.add(one)
                    size = sum(path.stat().st_size for path in Path(folder).iterdir())
                print(f"| {name} | {channels} | {dtype} | {size / RECORDS:,.0f} |")


if __name__ == "__main__":
    main()

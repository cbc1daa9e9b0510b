import numpy as np
import pytest

from mmel_cli.types import Explanation, RunInfo


@pytest.fixture
def info():
    return RunInfo(
        model="m", model_sha256="a" * 64, method="mmel", layers=(1, 2, 3), grid=(6, 4), patch=8, image_size=(48, 32),
        geometry="native", max_tokens=5, device="cpu", dtype="float32", config={"b": [1, 2], "a": "ü"},
        config_sha256="f" * 64, versions={"mmel": "0", "torch": "2", "transformers": "5"},
    )  # fmt: skip


@pytest.fixture
def make():
    """Explanation number n, from a generator seeded with n."""

    def one(n, size=1e-3):
        rng = np.random.default_rng(n)

        def draw(*shape):
            return (rng.normal(size=shape) * size).astype(np.float32)

        tokens = ("a</w>", "ß", "🐕</w>")[: 1 + n % 3]
        return Explanation(
            id=f"ordner/bild {n}.jpg#{n % 2}",
            image=f"ordner/bild {n}.jpg",
            caption=f"ein Hund 🐕 [/b] {n}",
            truncated=n % 2 == 0,
            score=float(np.float32(rng.normal())),
            image_size=(10 + n, 20),
            box=(0.5, -1.0, 19.5, 11.0),
            map=draw(6, 4),
            layers={kind: draw(3, 6, 4) for kind in ("loosened", "flow", "alignment", "attention", "lambda")},
            shared={1: draw(3, 4, 6, 4), 2: draw(3, 4, 3, 2), 4: draw(3, 4, 2, 1)},
            tokens=tokens,
            token_map=draw(len(tokens)),
        )

    return one

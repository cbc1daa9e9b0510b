import dataclasses

import numpy as np
import pytest

from mmel_cli.archive import fingerprint
from mmel_cli.attribution.hsrm import declared
from mmel_cli.fields import MAP, TOKEN_MAP, Field
from mmel_cli.types import Explanation, RunInfo, Word

IDENTITY = {"method.name": "mmel", "tokenizer (SHA-256)": "a" * 64}
WORD_LAYERS = Field("words/seen", ("words", "layers"), "a field of whole numbers with two dimensions", dtype="int32")


@pytest.fixture
def info():
    return RunInfo(
        model="m", model_sha256="a" * 64, method="mmel", layers=(1, 2, 3), grid=(6, 4), patch=8, image_size=(48, 32),
        geometry="native", max_tokens=5, device="cpu", dtype="float32", config={"b": [1, 2], "a": "ü"},
        config_sha256=fingerprint(IDENTITY), versions={"mmel": "0", "torch": "2", "transformers": "5"},
        fields=(MAP, TOKEN_MAP, *declared((1, 2, 4)), WORD_LAYERS), gradient="plain", trained="file",
        identity=IDENTITY, described={"weights": "w.safetensors"},
    )  # fmt: skip


@pytest.fixture
def make(info):
    """Explanation number n, from a generator seeded with n."""

    def one(n, size=1e-3):
        rng = np.random.default_rng(n)

        def draw(*shape):
            return (rng.normal(size=shape) * size).astype(np.float32)

        tokens = ("a", "ß", "🐕")[: 1 + n % 3]
        words = (Word("ein", 0, 3), Word("Hund", 4, 8))[: n % 3]
        own = dataclasses.replace(info.sizes, tokens=len(tokens), words=len(words))
        return Explanation(
            id=f"ordner/bild {n}.jpg#{n % 2}",
            image=f"ordner/bild {n}.jpg",
            caption=f"ein Hund 🐕 [/b] {n}",
            truncated=n % 2 == 0,
            score=float(np.float32(rng.normal())),
            image_size=(10 + n, 20),
            box=(0.5, -1.0, 19.5, 11.0),
            logit=float(np.float32(rng.normal())),
            fields={f.name: draw(*f.shape(own)).astype(f.dtype) for f in info.fields},
            tokens=tokens,
            words=words,
        )

    return one

"""Archives of random numbers and hostile texts, without a model."""

import re
from dataclasses import replace

import numpy as np
from PIL import Image

from mmel_cli.archive import ArchiveOptions, ShardWriter
from mmel_cli.fields import MAP, PHRASE_REGIONS, WORD_REGIONS, WORD_VALUE, Field
from mmel_cli.render import photo_name
from mmel_cli.types import Explanation, RunInfo, Word

FLOW = Field("layers/flow", ("layers", "rows", "columns"), "of a layer", evidence=True)
OTHER = Field("layers/alignment", ("layers", "rows", "columns"), "no evidence")
HOSTILE = [
    "a dog [/b] <script>document.title='owned'</script>",
    "</script><!-- & --> \"quoted\" 'twice' \\u003c \\",
    "line\u2028para\u2029 \u202eright to left",
    "\U0001f9ac a bison \U0001f9ac and a dog",
    "{{ 7 * 7 }} {% for x in y %}",
    "];}mmel.head({});//",
]


def info_of(method="mmel", fields=(MAP, FLOW, OTHER, WORD_VALUE, *WORD_REGIONS, *PHRASE_REGIONS), **changes):
    values = RunInfo(
        model="tiny <model>",
        model_sha256="0" * 64,
        method=method,
        layers=(3, 4),
        grid=(3, 4),
        patch=8,
        image_size=(24, 32),
        geometry="native",
        max_tokens=16,
        device="cpu",
        dtype="float32",
        config={"method": {"name": method}, "words": {"phrase": "alone", "regions": True}},
        config_sha256=method.ljust(64, "0"),
        versions={"mmel": "test"},
        fields=fields,
        described={"layer_weights": "0.5000 1.5000"},
    )
    return replace(values, **changes)


def record_of(number, info, rng, caption, image=None):
    words = tuple(Word(m.group(), m.start(), m.end()) for m in re.finditer(r"\S+", caption))[: info.max_tokens]
    spans = np.array([(words[0].start, words[-1].end)][: number % 3], np.int32).reshape(-1, 2)
    image = image or f"a b/{number // 2:03}%.png"
    record = Explanation(
        id=f"{image}#{number}",
        image=image,
        caption=caption,
        truncated=number % 5 == 0,
        score=float(np.float32(rng.normal())),
        image_size=(48, 64),
        box=(0.1, -2.0, 64.3, 50.0),
        fields={},
        tokens=tuple(word.text for word in words),
        words=words,
        logit=1.0,
    )
    own = replace(info.sizes, tokens=len(words), words=len(words), phrases=len(spans))
    fields = {
        f.name: (rng.standard_normal(f.shape(own)) * 10.0 ** rng.integers(-9, 9)).astype(np.float32)
        for f in info.fields
        if f.dtype == "float32"
    }
    whole = {"phrases/span": spans, "match/rank": np.int32(1 + number % 4), "match/among": np.int32(1 + number % 9)}
    return replace(record, fields=fields | {f.name: whole[f.name] for f in info.fields if f.name in whole})


def write(folder, count, info=None, order=None, captions=HOSTILE, seed=0, **options):
    """A run folder with an archive of random records, without pictures."""
    info, rng = info or info_of(), np.random.default_rng(seed)
    made = [record_of(n, info, rng, captions[n % len(captions)]) for n in range(count)]
    with ShardWriter(folder / "archive", info, ArchiveOptions(shard_size=29, **options)) as writer:
        for n in order if order is not None else range(count):
            writer.extend([made[n]])
    (folder / "run.yaml").write_text("format: mmel-run\n")
    return made


def photos(folder, image, colour="teal"):
    for kind in ("photos", "thumbnails"):
        path = folder / kind / photo_name(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), colour).save(path)


def same(values, wanted):
    return np.array_equal(np.array(values, np.float32), np.asarray(wanted, np.float32), equal_nan=True)

"""Shapes are checked in every test run; models are tiny, random and made here."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the hub's client
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core; before anything imports torch

from jaxtyping import install_import_hook

install_import_hook(["mmel_cli.tensors", "mmel_cli.attribution", "mmel_cli.model"], "beartype.beartype")

import json  # noqa: E402 - the hook must come first
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402
from tiny_clip import make_tiny  # noqa: E402


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny") / "clip")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of several sizes with two captions each, as an imagefolder."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(7)
    rows = []
    for i in range(12):
        height, width = (int(n) for n in rng.integers(30, 90, 2))
        blocks = rng.integers(0, 255, (5, 4, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{i:02}.png")
        rows += [{"file_name": f"{i:02}.png", "text": f"a {w} {n}"} for w, n in (("red", "dog"), ("blue", f"cat{i}"))]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def mmel(capfd, monkeypatch):
    """Run the command line in this process: (exit code, stdout, stderr)."""
    import sys

    from mmel_cli.cli import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["mmel", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capfd.readouterr()
        return code, out, err

    return run

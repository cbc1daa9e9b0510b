"""What a run says of itself: what decides its numbers, and what made them."""

from dataclasses import replace
from importlib.metadata import version
from typing import Any, cast

from mmel_cli import __version__
from mmel_cli.archive import ArchiveOptions
from mmel_cli.attribution.base import METHOD_VERSION, gradient_of
from mmel_cli.config import RunConfig
from mmel_cli.data import Source
from mmel_cli.data.scenes.folder import made_here
from mmel_cli.model import ModelSpec
from mmel_cli.pipelines.engine import Engine
from mmel_cli.runs import fingerprint, run_identity
from mmel_cli.trust import BLIND, CONTROLS, OWN_SCENES
from mmel_cli.types import RunInfo, Trained


def run_info(engine: Engine, config: RunConfig, source: Source) -> RunInfo:
    """What every shard of a run says of it."""
    spec = engine.model.spec
    described = engine.described | ({OWN_SCENES: "yes"} if made_here(source.request.folder) else {})
    described |= {BLIND: "yes"} if engine.method.caption_blind and engine.method.name not in CONTROLS else {}
    decides = engine.decides | engine.signs.decides | source.decides
    info = RunInfo(
        model=spec.name,
        model_sha256=spec.sha256,
        method=config.method.name,
        layers=engine.request.layers,
        grid=engine.grid,
        patch=spec.patch,
        image_size=spec.image_size,
        geometry=config.image.geometry,
        max_tokens=spec.max_tokens,
        device=spec.device,
        dtype=spec.dtype,
        config=config.plain(),
        config_sha256="",
        versions=versions(),
        fields=cast("ArchiveOptions", config.archive).kept(engine.fields),
        gradient=gradient_of(engine.params),
        trained=cast("Trained", engine.described.get("trained", "untrained")),
        identity=run_identity(config.plain(), made_with(spec) | versions_of(engine) | decides),
        described=described,
    )
    return replace(info, config_sha256=fingerprint(info.identity))


def made_with(spec: ModelSpec) -> dict[str, str]:
    """What decides numbers of a loaded model: its files, and the device type and dtype that it runs in."""
    files = {f"{role} (SHA-256)": sha256 for role, sha256 in spec.files.items()}
    return files | {"device type": spec.device.split(":")[0], "dtype of the model": spec.dtype}


def changed(spec: ModelSpec, info: RunInfo) -> str:
    """Which of a loaded model's files is not what a run was made with, with both checksums; empty if none.

    A run of an older version recorded the weights alone.
    """
    known = {role: info.identity.get(f"{role} (SHA-256)") for role in spec.files} | {"weights": info.model_sha256}
    for role, was in known.items():
        if was is not None and spec.files[role] != was:
            return f"SHA-256 of its {role} was {was[:12]}, is {spec.files[role][:12]}"
    return ""


def versions_of(engine: Engine) -> dict[str, str]:
    """Of the mathematics: METHOD sections 1 and 2, and the method's own."""
    return {"version of METHOD": METHOD_VERSION, f"version of method {engine.method.name}": engine.method.version}


def other_version(engine: Engine, info: RunInfo) -> str:
    """Which mathematics is not that of a run, with both versions; empty if none. Format 1 recorded none."""
    for name, now in versions_of(engine).items():
        was = info.identity.get(name, now)
        if was != now:
            return f"{name} was {was}, is now {now}"
    return ""


def versions() -> dict[str, str]:
    """Of what computed the maps."""
    return {"mmel": __version__} | {name: version(name) for name in ("torch", "transformers")}


def notes(engine: Engine, info: RunInfo, source: Source) -> dict[str, Any]:
    """What run.yaml says."""
    texts = engine.signs.texts
    return {
        "config": info.config,
        "config_sha256": info.config_sha256,
        "identity": info.identity,
        "input": source.plain(),
        "model": {
            "name": info.model,
            "sha256": info.model_sha256,
            "device": info.device,
            "dtype": info.dtype,
            "grid": list(info.grid),
            "layers": list(info.layers),
            "image_processor": engine.model.spec.processor,
        },
        "versions": info.versions,
        **({"match": texts.plain()} if texts else {}),
    } | info.described

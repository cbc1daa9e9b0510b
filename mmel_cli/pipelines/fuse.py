"""`mmel fuse`: new final maps and heatmaps from the channels of an archive, without the model."""

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pydantic import ValidationError

from mmel_cli.archive import Archive, ShardWriter, load_archive
from mmel_cli.attribution import METHODS, Method, Target, find_method
from mmel_cli.config import MethodConfig, RunConfig, method_of, settings_of
from mmel_cli.data.images import ImageLimits
from mmel_cli.errors import ArchiveError, UsageError
from mmel_cli.fields import HIGH_NORM, MAP, MATCH_RANK, PHRASE_REGIONS
from mmel_cli.pipelines.batches import Batch, Loader
from mmel_cli.pipelines.drawing import Drawing
from mmel_cli.pipelines.ending import finish
from mmel_cli.pipelines.origin import Input, find_input, noted_origin
from mmel_cli.pipelines.pictures import Painter
from mmel_cli.pipelines.provenance import versions
from mmel_cli.pipelines.subjects import Stream
from mmel_cli.runs import EXPLAINED, CommittedRecords, Events, RunFolder, committed_records, fingerprint, run_identity
from mmel_cli.runs.folder import ARCHIVE
from mmel_cli.runs.summary import Summary, write_summary
from mmel_cli.tensors import Pixels
from mmel_cli.trust import OWN_SCENES
from mmel_cli.types import Explanation, RunInfo, Trained

_BATCH = 32


def check_fusable(archive: Archive, path: Path) -> MethodConfig:
    """The method of an archive that can be fused anew, with its parameters.

    Raises:
        ArchiveError: if its method cannot fuse, or the archive lacks a field that it fuses.
    """
    info = archive.info
    config = method_of(settings_of(info))
    method = find_method(config.name)
    declared = method.fields(config.params, Target(info.model, info.model_sha256, info.layers))
    lacking = {(field.name, field.dims) for field in declared} - {(field.name, field.dims) for field in info.fields}
    if method.fuse is None or lacking or not len(archive):
        can = [name for name, other in METHODS.items() if other.fuse is not None]
        raise ArchiveError(
            f"{path}: does not hold the fields that a method fuses; explain with --method {' or '.join(can)} --set "
            "archive.channels=all, without shifts or zooms"
        )
    return config


@dataclass(frozen=True)
class FuseOptions:
    """`weights`: a file, "auto" or "untrained"; `transfer` takes a file of another model.

    `heatmaps`: whether to draw them, from the images of the run's input, which lies at `data` if it has moved;
    `limits`: which of these images are refused; `report`: whether to write index.html.
    """

    weights: str
    transfer: bool = False
    heatmaps: bool = True
    data: Path | None = None
    limits: ImageLimits = field(default_factory=ImageLimits)
    report: bool = True


def fuse_run(
    path: Path, out: Path, options: FuseOptions, *, overwrite: bool = False, events: Events | None = None
) -> tuple[Summary, int | None]:
    """Fuse every record of an archive with other weights into the run folder `out`.

    Token maps, words with their regions, and raw channels stay as they are; phrases are left out, since their maps were
    fused with the weights of then. Heatmaps are drawn where the input can still be read. A record whose image is gone
    or changed is fused without one, and counts as failed.

    Args:
        path: a run folder, a shard or a merged file of `mmel`, with all channels.
        out: the new run folder.
        options: see FuseOptions.
        overwrite: remove an earlier run in `out`.
        events: what to tell meanwhile.

    Returns:
        The summary, and the signal that ended it early.

    Raises:
        UsageError: weights that do not fit, or a folder that holds another run.
        ArchiveError: an archive without the channels.
    """
    events, started = events or Events(), time.monotonic()
    with load_archive(path) as archive:
        fused = _FusedRun.plan(path, archive, options)
        _check_apart(path, out)
        with RunFolder(out, EXPLAINED, overwrite=overwrite) as folder:
            done, damaged = committed_records(out, out / ARCHIVE, fused.info.identity)
            source = find_input(path, archive.info, options.data)
            folder.note(fused.notes(noted_origin(path, archive.info, source)))
            warnings = [f"{name}: damaged, set aside; its records are fused again" for name in damaged]
            warnings += [f"no heatmaps: {source.gone}"] if options.heatmaps and source.gone else []
            if len(fused.info.fields) < len(archive.info.fields):
                warnings.append("phrases are left out: their maps are of other weights; run mmel explain --words again")
            for warning in warnings:
                events.message(f"Warning: {warning}")
            count = _fuse_all(fused, (archive, source, options), (folder, done), events)
            summary = Summary(
                out=str(out),
                layout=f"archive {path}",
                model=fused.info.model,
                method=fused.info.method,
                done=len(done) + count,
                failed=folder.failures.stages.total(),
                failed_by_stage=dict(folder.failures.stages),
                without_caption=0,
                truncated_captions=0,
                resumed=len(done),
                seconds=round(time.monotonic() - started, 3),
                complete=not folder.stop.asked(),
                remaining=len(archive) - len(done) - count,
                warnings=warnings,
            )
            write_summary(folder, summary)
            summary = finish(folder, fused.info, summary, events, wanted=options.report)
    return summary, folder.stop.signal


def _check_apart(path: Path, out: Path) -> None:
    """Refuse to write where the channels are read from."""
    source, target = path.resolve(), out.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise UsageError(f"--out {out}: lies in {path}, or that in it; give a folder of its own")


@dataclass(frozen=True)
class _FusedRun:
    """A method with other weights, and what the run that it makes says of itself."""

    method: Method
    state: Any  # of the method, with these weights
    config: RunConfig
    info: RunInfo
    source: str  # the archive that is fused

    @classmethod
    def plan(cls, path: Path, archive: Archive, options: FuseOptions) -> "_FusedRun":
        """Check that archive and weights fit."""
        old_method, old = check_fusable(archive, path), archive.info
        settings = {name: value for name, value in settings_of(old).items() if name in RunConfig.model_fields}
        settings["method"] = settings["method"] | {"weights": options.weights, "transfer": options.transfer}
        settings["image"] = (settings.get("image") or {}) | {"limits": asdict(options.limits)}
        names = {field.name for field in old.fields}
        settings |= {"word_values": old.word_values, "high_norm": HIGH_NORM.name in names}
        settings["match"] = settings.get("match") if MATCH_RANK.name in names else {"captions": 0}
        try:
            config = RunConfig.model_validate(settings)
        except ValidationError as error:
            raise ArchiveError(
                f"{path}: its configuration is not one that this version knows; explain again"
            ) from error
        method, target = find_method(old_method.name), Target(old.model, old.model_sha256, old.layers)
        decided = method.decides(config.method.params, target)
        described = method.describe(config.method.params, target) | decided | {"fused_from": old.config_sha256}
        described |= {key: text for key, text in old.described.items() if key == OWN_SCENES}
        made_with = {"fused from run": old.config_sha256, f"version of method {method.name}": method.version}
        # eval compares the model that it loads with them
        made_with |= {key: value for key, value in old.identity.items() if key.endswith("(SHA-256)")}
        identity = run_identity(config.plain(), made_with | decided)
        gone = {field.name for field in PHRASE_REGIONS}
        info = replace(
            old,
            fields=tuple(field for field in old.fields if field.name not in gone),
            config=config.plain(),
            config_sha256=fingerprint(identity),
            identity=identity,
            versions=versions(),
            trained=cast("Trained", described.get("trained", "untrained")),
            described=described,
        )
        return cls(method, method.prepare(config.method.params, target), config, info, str(path.resolve()))

    def notes(self, origin: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """run.yaml; it names the `origin` of the first run, so that eval finds input and model."""
        return {
            "config": self.info.config,
            "config_sha256": self.info.config_sha256,
            "identity": self.info.identity,
            "input": origin["input"] | {"fused_from": self.source},
            "model": origin["model"] | {"sha256": self.info.model_sha256, "layers": list(self.info.layers)},
            "versions": self.info.versions,
        } | self.info.described


def _fuse_all(
    fused: _FusedRun,
    given: tuple[Archive, Input, FuseOptions],
    place: tuple[RunFolder, CommittedRecords],
    events: Events,
) -> int:
    """Fuse batch by batch; a record whose image is gone or changed has no heatmap, which is a failure."""
    (archive, source, options), (folder, done) = given, place
    pool = folder.pool(fused.config.workers)
    painter = (
        Painter(folder.path, fused.config.heatmap, Drawing(pool)) if options.heatmaps and not source.gone else None
    )
    loader = Loader(pool, options.limits, _no_pixels, painter.keep) if painter else None
    if painter is None:
        source = replace(source, gone="not needed")  # every record of the archive, whatever became of its image
    else:
        events.message(f"Input: {source.shown}")
    stream = Stream(archive, source, archive.index, _BATCH, loader, truth=False, limits=options.limits, pool=pool)
    events.total(len(archive))
    events.progress(len(done), 0)
    count = 0
    with ShardWriter(folder.path / ARCHIVE, fused.info, fused.config.archive) as writer:
        for subjects, failures in stream.batches(done):
            without = [archive[f.id] for f in failures if f.id in archive and f.id not in done]
            records = _fuse_again([*(s.record for s in subjects), *without], fused)
            images = {s.sample.ref.key: s.image for s in subjects if s.image is not None}
            batch = Batch([s.sample for s in subjects], images)
            for picture in painter.start(records[: len(subjects)], batch) if painter else []:
                picture.result()
            writer.extend(records)
            count += len(records)
            folder.failures.add(failures)
            events.progress(len(subjects), len(failures))
            if folder.stop.asked():
                break
    return count


def _fuse_again(records: list[Explanation], fused: _FusedRun) -> list[Explanation]:
    """The same records with maps fused anew from their other fields."""
    if not records:
        return []
    assert fused.method.fuse is not None  # noqa: S101 - check_fusable has seen to it
    same = [field.name for field in fused.info.fields if not field.ragged]
    fields = {name: torch.from_numpy(np.stack([record.fields[name] for record in records])) for name in same}
    with torch.no_grad():
        maps = fused.method.fuse(fields, fused.config.method.params, fused.state).numpy()
    return [
        replace(record, fields={field.name: record.fields[field.name] for field in fused.info.fields} | {MAP.name: new})
        for record, new in zip(records, maps, strict=True)
    ]


def _no_pixels(_image: Any) -> Pixels:
    """Heatmaps need the image alone."""
    return Pixels(torch.zeros(3, 0, 0), (0.0, 0.0, 0.0, 0.0))

"""The configuration of a run: defaults, a YAML file, --set and options merged in that order, then validated once.

The settings of each part live with the part (image limits, archive, heatmap, method parameters); this module composes
them, refuses what it does not know, and says where the mistake is.
"""

import dataclasses
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_serializer, field_validator
from pydantic.dataclasses import dataclass as validated

from mmel_cli.archive import ArchiveOptions
from mmel_cli.attribution import METHODS, find_method
from mmel_cli.attribution.base import GradientParams, LayerParams
from mmel_cli.data.images import ImageLimits
from mmel_cli.errors import UsageError
from mmel_cli.evaluation import select
from mmel_cli.evaluation.compare import ComparisonOptions
from mmel_cli.evaluation.faithfulness import FaithfulnessOptions
from mmel_cli.evaluation.localisation import LocalisationOptions
from mmel_cli.evaluation.protocols import AidOptions
from mmel_cli.evaluation.sanity import SanityOptions
from mmel_cli.model.preprocess import GEOMETRIES
from mmel_cli.names import hint
from mmel_cli.render import HeatmapOptions
from mmel_cli.training.options import TrainOptions

_STRICT = ConfigDict(extra="forbid")
_Run = TypeVar("_Run", bound="RunConfig")

DEFAULT_MODEL = "openai/clip-vit-base-patch16"
DEFAULT_METHOD = "mmel"


def _strict(part: type) -> type:
    """A stdlib dataclass, validated and with unknown fields forbidden."""
    return cast("type", validated(part, config=_STRICT, frozen=True))


_Image = _strict(ImageLimits)
_Archive = _strict(ArchiveOptions)
_Heatmap = _strict(HeatmapOptions)
_Faithfulness = _strict(FaithfulnessOptions)
_Aid = _strict(AidOptions)
_Localisation = _strict(LocalisationOptions)
_Sanity = _strict(SanityOptions)
_Comparison = _strict(ComparisonOptions)
_Training = _strict(TrainOptions)


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputConfig(Section):
    """How images and captions are found."""

    caption: str | None = None  # for a single image
    caption_column: str | None = None  # of metadata and tables
    image_column: str | None = None  # the same


class ImageConfig(Section):
    """How images are decoded and laid under the patch grid."""

    geometry: str = "native"
    limits: _Image = _Image()  # type: ignore[valid-type]

    @field_validator("geometry")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in GEOMETRIES:
            raise ValueError(f"is not one of {', '.join(GEOMETRIES)}")
        return value


class LimitsConfig(Section):
    """How images are decoded where the geometry is that of a run."""

    limits: _Image = _Image()  # type: ignore[valid-type]


class MethodConfig(Section):
    """A method by name, and its own parameters."""

    name: str
    params: LayerParams

    def plain(self) -> dict[str, Any]:
        """Name and parameters in one flat group, as they are written in YAML."""
        return {"name": self.name} | cast("dict[str, Any]", _jsonable(dataclasses.asdict(self.params)))


class RunConfig(Section):
    """Everything that `mmel explain` can be told."""

    model: str = DEFAULT_MODEL
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = Field(default=16, ge=1)
    workers: int = Field(default=4, ge=1, le=256)
    limit: int | None = Field(default=None, ge=1)
    heatmaps: bool = True
    input: InputConfig = InputConfig()
    image: ImageConfig = ImageConfig()
    method: MethodConfig = Field(default={"name": DEFAULT_METHOD}, validate_default=True)
    archive: _Archive = _Archive()  # type: ignore[valid-type]
    heatmap: _Heatmap = _Heatmap()  # type: ignore[valid-type]

    @field_validator("method", mode="before")
    @classmethod
    def _method(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise ValueError(f"needs a name: one of {', '.join(METHODS)}")  # noqa: TRY004 - pydantic collects ValueError
        method = find_method(value["name"])
        params = _strict(method.params)
        given = {name: _tuples(item) for name, item in value.items() if name != "name"}
        return MethodConfig.model_construct(name=method.name, params=TypeAdapter(params).validate_python(given))

    @field_serializer("method")
    def _flat(self, value: MethodConfig) -> dict[str, Any]:
        return value.plain()

    def plain(self) -> dict[str, Any]:
        """The resolved configuration as plain values, ready for YAML and JSON."""
        return cast("dict[str, Any]", _jsonable(self.model_dump(mode="python")))


class EvalConfig(Section):
    """Everything that `mmel eval` can be told."""

    metrics: tuple[str, ...] = ("standard",)
    model: str | None = None  # where the runs' model lies now; default: where they found it
    data: Path | None = None  # where their input lies now
    captions: Path | None = None  # a text file, one caption a line, to tell the right one from
    rivals: int = Field(default=64, ge=1)  # without a file: so many distinct captions of the first run
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = Field(default=16, ge=1)
    workers: int = Field(default=4, ge=1, le=256)
    limit: int | None = Field(default=None, ge=1)
    plots: bool = True
    image: LimitsConfig = LimitsConfig()
    faithfulness: _Faithfulness = _Faithfulness()  # type: ignore[valid-type]
    aid: _Aid = _Aid()  # type: ignore[valid-type]
    localisation: _Localisation = _Localisation()  # type: ignore[valid-type]
    sanity: _Sanity = _Sanity()  # type: ignore[valid-type]
    comparison: _Comparison = _Comparison()  # type: ignore[valid-type]

    @field_validator("metrics", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
        if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
            raise ValueError("needs names of metrics or groups")
        try:
            select(names)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return tuple(names)

    def plain(self) -> dict[str, Any]:
        """The resolved configuration as plain values, ready for YAML and JSON."""
        return cast("dict[str, Any]", _jsonable(self.model_dump(mode="python")))


class FuseConfig(Section):
    """What of `mmel fuse` is a setting."""

    image: LimitsConfig = LimitsConfig()


class TrainConfig(RunConfig):
    """Everything that `mmel train-weights` can be told: how a dataset is explained first, and how weights are learned.

    With an archive as input, what concerns the explaining is the archive's; `model` then says where its model lies now.
    """

    model: str | None = None  # type: ignore[assignment]  # None: the archive's, or the default one for a dataset
    data: Path | None = None  # where the input of an archive lies now
    training: _Training = _Training()  # type: ignore[valid-type]

    @property
    def objective(self) -> str:
        """What the weights are learned for."""
        return cast("TrainOptions", self.training).objective

    def run_settings(self) -> dict[str, Any]:
        """The configuration of the run that explains a dataset: untrained, every channel, no pictures."""
        plain = self.plain()
        settings = {name: plain[name] for name in RunConfig.model_fields}
        settings |= {"model": self.model or DEFAULT_MODEL, "heatmaps": False}
        settings["method"] |= {"weights": "untrained"}
        settings["archive"] |= {"channels": "all"}
        return settings


def load_config(
    file: Path | None = None, settings: Sequence[str] = (), options: dict[str, Any] | None = None
) -> RunConfig:
    """Merge defaults, a YAML file, "a.b=value" settings and options (dotted keys, None means not given).

    Raises:
        UsageError: for an unreadable file, unknown or duplicate keys, wrong types; it names the key and where it is.
    """
    return _load(RunConfig, file, settings, options)


def load_train_config(
    file: Path | None = None, settings: Sequence[str] = (), options: dict[str, Any] | None = None
) -> TrainConfig:
    """The same for `mmel train-weights`; raises UsageError also for another method than mmel."""
    config = _load(TrainConfig, file, settings, options)
    if config.method.name != DEFAULT_METHOD:
        raise UsageError(f"method.name: {config.method.name} has no weights to learn; leave it out, or say mmel")
    if isinstance(config.method.params, GradientParams) and config.method.params.several:
        raise UsageError("method.shifts, method.zooms: maps are fused before they are averaged; train without them")
    return config


def load_eval_config(
    file: Path | None = None, settings: Sequence[str] = (), options: dict[str, Any] | None = None
) -> EvalConfig:
    """The same for `mmel eval`."""
    tree, node = _read_yaml(file) if file else ({}, None)
    _merge(tree, settings, {key: value for key, value in (options or {}).items() if value is not None})
    try:
        return EvalConfig.model_validate(tree)
    except ValidationError as error:
        raise UsageError(_explain(error, file, node, EvalConfig().plain())) from error


def load_fuse_config(settings: Sequence[str] = ()) -> FuseConfig:
    """The same for `mmel fuse`, which reads no file."""
    tree: dict[str, Any] = {}
    _merge(tree, settings, {})
    try:
        return FuseConfig.model_validate(tree)
    except ValidationError as error:
        raise UsageError(_explain(error, None, None, FuseConfig().model_dump())) from error


def _load(kind: type[_Run], file: Path | None, settings: Sequence[str], options: dict[str, Any] | None) -> _Run:
    """Merge and validate the settings of a command that explains."""
    options = {key: value for key, value in (options or {}).items() if value is not None}
    tree, node = _read_yaml(file) if file else ({}, None)
    method = options.get("method.name")
    if isinstance(tree.get("method"), dict) and method not in (None, tree["method"].get("name")):
        tree["method"] = {}  # parameters of another method do not apply
    if isinstance(tree.setdefault("method", {}), dict):
        tree["method"].setdefault("name", DEFAULT_METHOD)
    _merge(tree, settings, options)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise UsageError(_explain(error, file, node, kind().plain())) from error


def method_of(config: dict[str, Any]) -> MethodConfig:
    """The method of a run, from the configuration that its archive keeps.

    Raises:
        UsageError: if this version does not know it.
    """
    try:
        return RunConfig.model_validate({"method": config.get("method")}).method
    except ValidationError as error:
        raise UsageError(_explain(error, None, None, RunConfig().plain())) from error


def _merge(tree: dict[str, Any], settings: Sequence[str], options: dict[str, Any]) -> None:
    """Lay settings, then options, over what a file gave."""
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {setting}: write key=value, for example --set batch_size=8")
        _put(tree, key, _parse(text, f"--set {setting}"))
    for key, value in options.items():
        _put(tree, key, value)


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise UsageError(f"{self.name}, line {key_node.start_mark.line + 1}: key {key!r} is given twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read_yaml(file: Path) -> tuple[dict[str, Any], yaml.Node | None]:
    """The values, and the node tree that knows the lines."""
    try:
        text = file.read_text("utf-8-sig")
        loader = _Loader(text)
        loader.name = str(file)
        node = loader.get_single_node()
        tree = loader.construct_document(node) if node else {}
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror}); give a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f", line {line + 1}" if line is not None else ""
        raise UsageError(f"{file}{where}: is not YAML ({getattr(error, 'problem', None) or error})") from error
    if not isinstance(tree, dict):
        raise UsageError(f"{file}: must hold keys and values at the top, as `mmel config default` prints them")
    return tree, node


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{where}: the value is not YAML; quote it") from error


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(tree.setdefault(parent, {}), dict):
            raise UsageError(f"{key}: {parent} is a single value, not a group of settings")
        tree = tree[parent]
    tree[last] = value


def _explain(error: ValidationError, file: Path | None, node: yaml.Node | None, known: dict[str, Any]) -> str:
    """One line for the first mistakes: where, what, and the nearest key that exists."""
    lines = []
    for problem in error.errors()[:3]:
        path = [str(part) for part in problem["loc"] if not str(part).startswith(("function-", "tagged-", "tuple["))]
        path = [part for part in path if part not in ("str", "int", "none", "constrained-int")]
        key = ".".join(path)
        line = _line_of(node, path)
        where = f"{file}, line {line}: {key}" if line else key
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            message = "no such setting" + (hint(path[-1], _keys(path[:-1], known)) or "; see `mmel config`")
        lines.append(f"{where}: {message}")
    return "; ".join(dict.fromkeys(lines))


def _keys(parents: list[str], tree: Any) -> list[str]:
    """The settings of a group, for the hint."""
    if parents == ["method"]:
        return sorted({f.name for method in METHODS.values() for f in dataclasses.fields(method.params)} | {"name"})
    for parent in parents:
        tree = tree.get(parent, {}) if isinstance(tree, dict) else {}
    return list(tree) if isinstance(tree, dict) else []


def _line_of(node: yaml.Node | None, path: list[str]) -> int | None:
    """The line (from 1) where the YAML gives `path`, or None if it does not."""
    line = None
    for part in path:
        if not isinstance(node, yaml.MappingNode):
            return line
        for key_node, value_node in node.value:
            if key_node.value == part:
                line, node = key_node.start_mark.line + 1, value_node
                break
        else:
            return None
    return line


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _jsonable(value: Any) -> Any:
    """Dataclasses, tuples and paths to plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return str(value) if isinstance(value, Path) else value

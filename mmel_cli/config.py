"""The configuration of a run: defaults, a YAML file, --set and options merged in that order, then validated once.

What can be told is in sections.py; here it is read, what is not known is refused, and it is said where the mistake is.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import ValidationError

from mmel_cli.attribution import METHODS, find_method
from mmel_cli.attribution.base import GradientParams
from mmel_cli.errors import UsageError
from mmel_cli.model.word_shares import WordOptions
from mmel_cli.names import hint
from mmel_cli.sections import (
    DEFAULT_METHOD,
    DEFAULT_MODEL,
    EvalConfig,
    FuseConfig,
    MethodConfig,
    RunConfig,
    Section,
    TrainConfig,
)
from mmel_cli.settings import merge, mistakes, read_yaml
from mmel_cli.types import RunInfo

__all__ = [
    "DEFAULT_METHOD",
    "DEFAULT_MODEL",
    "EvalConfig",
    "FuseConfig",
    "MethodConfig",
    "RunConfig",
    "TrainConfig",
    "load_config",
    "load_configs",
    "load_eval_config",
    "load_fuse_config",
    "load_train_config",
    "method_of",
    "settings_of",
    "words_of",
]

_Run = TypeVar("_Run", bound=RunConfig)
_Section = TypeVar("_Section", bound=Section)


def load_config(
    file: Path | None = None, settings: Sequence[str] = (), options: dict[str, Any] | None = None
) -> RunConfig:
    """Merge defaults, a YAML file, "a.b=value" settings and options (dotted keys, None means not given).

    Raises:
        UsageError: for an unreadable file, unknown or duplicate keys, wrong types; it names the key and where it is.
    """
    return _load(RunConfig, file, settings, options)


def load_configs(
    methods: str, file: Path | None = None, settings: Sequence[str] = (), options: dict[str, Any] | None = None
) -> list[RunConfig]:
    """The same for each of several methods, "a,b,c"; a parameter goes to every method that has it.

    Raises:
        UsageError: also for a method named twice, and a parameter that none of them has.
    """
    names = [find_method(name).name for name in methods.split(",")]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"--method {methods}: {twice} is given twice")
    has = {name: {field.name for field in dataclasses.fields(METHODS[name].params)} for name in names}
    options = {key: value for key, value in (options or {}).items() if value is not None}
    given = [(text.partition("=")[0], f"--set {text}") for text in settings]
    given += [(key, f"--{key.removeprefix('method.')}") for key in options]
    for key, shown_as in given:
        wanted = _parameter(key)
        if wanted and not any(wanted in parameters for parameters in has.values()):
            every = sorted(set().union(*has.values()))
            raise UsageError(f"{shown_as}: none of {', '.join(names)} has a parameter {wanted}{hint(wanted, every)}")
    return [
        load_config(
            file,
            [text for text in settings if _concerns(text.partition("=")[0], parameters)],
            {key: value for key, value in options.items() if _concerns(key, parameters)} | {"method.name": name},
        )
        for name, parameters in has.items()
    ]


def _parameter(key: str) -> str | None:
    """The parameter of a method that a dotted key names; the method's name is none."""
    group, _, name = key.partition(".")
    return name if group == "method" and name not in ("", "name") else None


def _concerns(key: str, parameters: set[str]) -> bool:
    """Whether a setting is one of a method with these parameters, or none of a method's."""
    return (_parameter(key) or "") in {"", *parameters}


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
    tree, node = read_yaml(file) if file else ({}, None)
    merge(tree, settings, {key: value for key, value in (options or {}).items() if value is not None})
    return _validated(EvalConfig, tree, file, node)


def load_fuse_config(settings: Sequence[str] = ()) -> FuseConfig:
    """The same for `mmel fuse`, which reads no file."""
    tree: dict[str, Any] = {}
    merge(tree, settings, {})
    return _validated(FuseConfig, tree)


def _load(kind: type[_Run], file: Path | None, settings: Sequence[str], options: dict[str, Any] | None) -> _Run:
    """Merge and validate the settings of a command that explains."""
    options = {key: value for key, value in (options or {}).items() if value is not None}
    tree, node = read_yaml(file) if file else ({}, None)
    # the name alone may stand for the group, and changes nothing else in it
    if isinstance(tree.get("model"), str):
        tree["model"] = {"name": tree["model"]}
    settings = [f"model.name={text[6:]}" if text.startswith("model=") else text for text in settings]
    options = {"model.name" if key == "model" else key: value for key, value in options.items()}
    method = options.get("method.name")
    if isinstance(tree.get("method"), dict) and method not in (None, tree["method"].get("name")):
        tree["method"] = {}  # parameters of another method do not apply
    if isinstance(tree.setdefault("method", {}), dict):
        tree["method"].setdefault("name", DEFAULT_METHOD)
    merge(tree, settings, options)
    return _validated(kind, tree, file, node)


def method_of(config: dict[str, Any]) -> MethodConfig:
    """The method of a run, from the configuration that its archive keeps (`settings_of`).

    Raises:
        UsageError: if this version does not know it.
    """
    return _validated(RunConfig, {"method": config.get("method")}).method


def words_of(config: dict[str, Any]) -> WordOptions:
    """Whether a run has words x regions, and how, from the configuration that its archive keeps.

    Raises:
        UsageError: if it is no such configuration.
    """
    group = config.get("words", {})
    return cast("WordOptions", _validated(RunConfig, {"words": group}).words)


def settings_of(info: RunInfo) -> dict[str, Any]:
    """The configuration that an archive keeps, with what a run before `method.gradient` went by in its place.

    Today's default need not be what made an older run's maps.
    """
    group = info.config.get("method")
    if not isinstance(group, dict) or "gradient" in group or info.gradient == "none":
        return info.config
    method = METHODS.get(str(group.get("name")))
    if method is None or not issubclass(method.params, GradientParams):
        return info.config
    return info.config | {"method": group | {"gradient": info.gradient}}


def _validated(
    kind: type[_Section], tree: dict[str, Any], file: Path | None = None, node: yaml.Node | None = None
) -> _Section:
    """The settings as a command takes them.

    Raises:
        UsageError: one line for what is wrong and where `file` gives it.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise UsageError(mistakes(error, file, node, _keys(kind().plain()))) from error


def _keys(tree: dict[str, Any]) -> Callable[[list[str]], list[str]]:
    """The settings of each group of a resolved configuration, for the hint; of the method, those of every method."""

    def of_group(parents: list[str]) -> list[str]:
        if parents == ["method"]:
            return sorted({f.name for method in METHODS.values() for f in dataclasses.fields(method.params)} | {"name"})
        group: Any = tree
        for parent in parents:
            group = group.get(parent, {}) if isinstance(group, dict) else {}
        return list(group) if isinstance(group, dict) else []

    return of_group

"""Settings as a tree of plain values: read from YAML with the line of each key, merged, and refused in one line."""

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mmel_cli.errors import UsageError
from mmel_cli.names import hint

_SHOWN = 3  # mistakes in one message


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


def read_yaml(file: Path) -> tuple[dict[str, Any], yaml.Node | None]:
    """The values, and the node tree that knows the lines.

    Raises:
        UsageError: naming the file, and the line where it is known.
    """
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


def merge(tree: dict[str, Any], settings: Sequence[str], options: dict[str, Any]) -> None:
    """Lay "a.b=value" settings, then options by dotted key, over what a file gave.

    Raises:
        UsageError: naming the setting.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {setting}: write key=value, for example --set batch_size=8")
        _put(tree, key, _parse(text, f"--set {setting}"))
    for key, value in options.items():
        _put(tree, key, value)


def mistakes(
    error: ValidationError, file: Path | None, node: yaml.Node | None, keys: Callable[[list[str]], list[str]]
) -> str:
    """One line for the first mistakes: where, what, and the nearest key that exists.

    Args:
        error: what pydantic found.
        file: that was read, if any.
        node: its node tree.
        keys: the settings that a group has, by its path.
    """
    lines = []
    for problem in error.errors()[:_SHOWN]:
        path = [str(part) for part in problem["loc"] if not str(part).startswith(("function-", "tagged-", "tuple["))]
        path = [part for part in path if part not in ("str", "int", "none", "constrained-int")]
        key, message = ".".join(path), problem["msg"].removeprefix("Value error, ")
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            message = "no such setting" + (hint(path[-1], keys(path[:-1])) or "; see `mmel config`")
        line = _line_of(node, path)
        named = message if message.startswith(f"{key}.") else f"{key}: {message}"  # a part names its own settings
        lines.append(f"{file}, line {line}: {named}" if line else named)
    return "; ".join(dict.fromkeys(lines))


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

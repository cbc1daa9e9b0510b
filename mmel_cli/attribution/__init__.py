"""Attribution methods. To add one: write a file with a METHOD, and name it in METHODS (mmel_cli/names.py)."""

from importlib import import_module

from mmel_cli import names
from mmel_cli.attribution.base import Method, Target, resolve_layers
from mmel_cli.errors import UsageError
from mmel_cli.names import hint, match

METHODS: dict[str, Method] = {
    name: import_module(f"{__name__}.{module}").METHOD for name, module in names.METHODS.items()
}


def find_method(name: str) -> Method:
    """Look a method up, whatever the case of its name.

    Raises:
        UsageError: listing the methods there are.
    """
    known = match(name, METHODS)
    if known is None:
        raise UsageError(f"method.name: no method {name!r}{hint(name, METHODS)}; there are {', '.join(METHODS)}")
    return METHODS[known]


__all__ = ["METHODS", "Method", "Target", "find_method", "resolve_layers"]

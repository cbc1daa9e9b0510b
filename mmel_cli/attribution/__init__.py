"""Attribution methods. To add one: write a file with a METHOD, and name it in METHODS."""

from mmel_cli.attribution import flow, gae, grad_eclip, mask, mmel, random, rise
from mmel_cli.attribution.base import Method, Target, resolve_layers
from mmel_cli.errors import UsageError

METHODS: dict[str, Method] = {
    "mmel": mmel.METHOD,
    "grad-eclip": grad_eclip.METHOD,
    "flow": flow.METHOD,
    "gae": gae.METHOD,
    "rise": rise.METHOD,
    "random": random.METHOD,
    "mask": mask.METHOD,
}


def find_method(name: str) -> Method:
    """Look a method up.

    Raises:
        UsageError: listing the methods there are.
    """
    if name not in METHODS:
        raise UsageError(f"method.name: no method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]


__all__ = ["METHODS", "Method", "Target", "find_method", "resolve_layers"]

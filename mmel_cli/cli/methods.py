"""mmel methods."""

import dataclasses
from typing import TYPE_CHECKING, Any

from mmel_cli.cli import console, options

if TYPE_CHECKING:
    from mmel_cli.attribution import Method


def methods(json: options.Json = False) -> None:
    """List the attribution methods: what each costs, what it explains, what it needs, and its parameters."""
    from mmel_cli.attribution import METHODS  # noqa: PLC0415 - torch loads only when a command runs

    told = {name: _told(method) for name, method in METHODS.items()}
    if json:
        console.document(told)
        return
    for name, about in told.items():
        console.result(f"{name}: {about['summary']}")
        console.result(f"    source: {about['source']}")
        console.result(f"    cost: {about['cost']}")
        blind = "; the map is the same for any caption" if about["caption_blind"] else ""
        console.result(f"    explains: {about['modality']}{blind}")
        console.result(f"    needs: {'; '.join(about['needs']) or 'nothing more than the score and attention'}")
        console.result(f"    on a model without a class token: {about['on_probe']}")
        given = (f"{parameter}={default.replace(' ', '')}" for parameter, default in about["params"].items())
        console.result(f"    parameters (--set method.NAME=VALUE): {' '.join(given)}")


def _as_typed(default: object) -> str:
    """As --set takes it: a list in brackets."""
    return str(list(default) if isinstance(default, tuple) else default)


def _told(method: "Method") -> dict[str, Any]:
    from mmel_cli.attribution.base import NEEDS  # noqa: PLC0415 - see above

    return {
        "summary": method.summary,
        "source": method.source,
        "cost": method.cost,
        "modality": method.modality,
        "caption_blind": method.caption_blind,
        "needs": [NEEDS[name] for name in sorted(method.needs)],
        "on_probe": method.on_probe,
        "params": {field.name: _as_typed(field.default) for field in dataclasses.fields(method.params)},
    }

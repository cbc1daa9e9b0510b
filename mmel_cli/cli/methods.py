"""mmel methods."""

import dataclasses

from mmel_cli.cli import console, options


def methods(json: options.Json = False) -> None:
    """List the attribution methods with their parameters."""
    from mmel_cli.attribution import METHODS  # noqa: PLC0415 - torch loads only when a command runs

    if json:
        fields = {name: {f.name: str(f.default) for f in dataclasses.fields(m.params)} for name, m in METHODS.items()}
        console.document(
            {
                name: {"summary": m.summary, "source": m.source, "on_probe": m.on_probe, "params": fields[name]}
                for name, m in METHODS.items()
            }
        )
        return
    for name, method in METHODS.items():
        console.result(f"{name}: {method.summary}")
        console.result(f"    source: {method.source}")
        console.result(f"    on a model without a class token: {method.on_probe}")
        for parameter in dataclasses.fields(method.params):
            console.result(f"    method.{parameter.name} = {parameter.default}")

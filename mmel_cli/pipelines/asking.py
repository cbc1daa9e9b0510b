"""What a method asks of a model, and what words x regions do beside it."""

from dataclasses import replace
from typing import Any

from mmel_cli.attribution import Method, resolve_layers
from mmel_cli.attribution.base import OF_MODEL, LayerParams, gradient_of, wants_whole
from mmel_cli.errors import ModelError
from mmel_cli.model import Adapter, CaptureRequest


def request_of(model: Adapter, method: Method, params: LayerParams) -> CaptureRequest:
    """The capture that a method explains.

    Raises:
        UsageError: for layers that there are not.
        ModelError: if the method needs what the model has not.
    """
    _check_needs(model, method, params)
    parts: dict[str, Any] = {part: part in method.needs for part in OF_MODEL if part != "one_head"}
    return CaptureRequest(
        layers=resolve_layers(params.layers, model.spec.layers),
        text_layers=resolve_layers(params.text_layers, model.spec.text_layers, "text_layers"),
        **parts,
        one_head=method.one_head(params),
        gradient=gradient_of(params),
        whole=wants_whole(method, params),
    )


def request_of_words(model: Adapter, method: Method, request: CaptureRequest) -> CaptureRequest:
    """The capture that words and phrases are explained from: the method's own where it explains directions.

    Else that of balanced flow of all layers, which all such methods share.

    Raises:
        ModelError: if the model gives no gradients along directions.
    """
    if "directed" not in model.spec.gives:
        raise ModelError(f"the {model.spec.family} model {model.spec.name} does not take --words")
    if method.along is not None:
        return replace(request, directed=method.name)
    layers = resolve_layers("all", model.spec.layers)
    return CaptureRequest(layers, (model.spec.text_layers,), gradient="balanced", directed="flow", whole=False)


def _check_needs(model: Adapter, method: Method, params: LayerParams) -> None:
    """Refuse a method that needs what the model does not give."""
    asked = {name for name in method.needs if name in OF_MODEL} | ({"one_head"} if method.one_head(params) else set())
    lacking = sorted(asked - model.spec.gives)
    if lacking:
        what = " and ".join(OF_MODEL[name] for name in lacking)
        raise ModelError(
            f"method {method.name} needs {what}, which the {model.spec.family} model {model.spec.name} does not give; "
            "choose another --method"
        )

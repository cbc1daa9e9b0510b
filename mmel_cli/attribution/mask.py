"""The ground truth as the map: the ceiling of localisation at the grid's resolution."""

from mmel_cli.attribution.base import LastLayerParams, Method
from mmel_cli.fields import MAP
from mmel_cli.tensors import Attribution, Capture


def explain(capture: Capture, _params: LastLayerParams, _state: None) -> Attribution:
    """The part of each patch that the mask covers, 0..1; tokens have no ground truth."""
    assert capture.truth is not None  # noqa: S101 - the engine gives what `needs` names
    return Attribution({MAP.name: capture.truth})


METHOD = Method(
    name="mask",
    summary="the part of each patch inside the input's mask or boxes, the ceiling of a comparison",
    source="control",
    cost="none beside the forward",
    on_probe="the same: it does not look at the model",
    params=LastLayerParams,
    explain=explain,
    caption_blind=True,
    fields=lambda _params, _target: (MAP,),
    needs=frozenset({"truth"}),
)

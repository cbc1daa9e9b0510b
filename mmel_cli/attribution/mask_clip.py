"""MaskCLIP (Zhou, Loy and Dai, ECCV 2022, arXiv 2112.01071): patches by the last layer's values, without attention."""

from mmel_cli.attribution.base import LastLayerParams, Method
from mmel_cli.fields import MAP
from mmel_cli.tensors import Attribution, Capture


def explain(capture: Capture, _params: LastLayerParams, _state: None) -> Attribution:
    """Cosine of the text and each patch as if it had attended to itself alone; mean over layers if there are several.

    In the layer a patch's attention output is its own value; output projection, residual and MLP follow, then norm and
    projection as for the class token, as the published code has it for ViTs. Its refinements (key smoothing, prompt
    denoising over a set of classes, many prompts a class) are left out.
    """
    assert capture.alone is not None  # noqa: S101 - the engine gives what `needs` names
    return Attribution({MAP.name: capture.alone.mean(1).unflatten(-1, capture.grid)})


METHOD = Method(
    name="mask-clip",
    summary="cosine of the text and each patch as if it attended to itself alone in the last layer",
    source="Zhou et al., ECCV 2022, arXiv 2112.01071",
    cost="1 forward, and the last layer once more",
    on_probe="by default each patch is all that the probe attends to; in an encoder layer all that itself does",
    params=LastLayerParams,
    explain=explain,
    fields=lambda _params, _target: (MAP,),
    needs=frozenset({"alone"}),
)

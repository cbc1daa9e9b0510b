"""CLIP Surgery (Li et al., arXiv 2304.05653): attention of values to values, without what every text has in common."""

from dataclasses import dataclass

import torch

from mmel_cli.attribution.base import LayerParams, Layers, Method
from mmel_cli.fields import MAP
from mmel_cli.tensors import Attribution, Capture


@dataclass(frozen=True)
class Params(LayerParams):
    """The last six layers, as the published code has it for ViTs of any depth; all, if there are fewer."""

    layers: Layers = 6
    text_layers: Layers = "last"


def explain(capture: Capture, _params: Params, _state: None) -> Attribution:
    """Map = f_i . (t - e): unit embeddings of patch i by surgery, of the text, and of the empty text.

    Architecture surgery: a second path starts from what enters the first explained layer; each adds to it the output
    projection of softmax(v v^T / sqrt d) v in each head, v the values of the model's own forward, and no MLP; norm and
    projection follow. Feature surgery for a single text: the redundant features are those of the empty text.

    Otherwise than the published code: f is of unit length for each patch, as the paper has it (the demo divides each
    channel by its length over the tokens), and texts are captions as they stand, not the mean of many prompts.
    """
    seen = capture.surgery
    assert seen is not None  # noqa: S101 - the engine gives what `needs` names
    rows = torch.einsum("pid,pd->pi", seen.patches, seen.text - seen.empty)
    return Attribution({MAP.name: rows.unflatten(-1, capture.grid)})


METHOD = Method(
    name="clip-surgery",
    summary="patches by attention of values to values in the last layers, compared with the text less the empty text",
    source="Li et al., arXiv 2304.05653",
    cost="1 forward, the attention of the explained layers once more, and 1 forward of the empty text a batch",
    on_probe="the path goes through the encoder layers, then through the pooling attention, values to values",
    params=Params,
    explain=explain,
    fields=lambda _params, _target: (MAP,),
    needs=frozenset({"surgery"}),
)

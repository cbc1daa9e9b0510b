"""What bench_throughput.py times beside the project's own methods, on the same models of transformers.

The published Grad-ECLIP is written from the paper (arXiv 2502.18816) and METHOD section 2 (heads: single): one pair at
a time, two procedures, each one forward of its own tower with attention of one head in the explained layers (one of
the image, eight of the caption, which is padded to the model's context), one of the other tower as it is, and one
backward from the cosine to these attentions. It is timed at its cheapest: parameters are frozen, and the graph starts
at the first attention that is explained.
pytorch-grad-cam and captum are called as their own documents say; captum's parameters are frozen too.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize, pad

TEXT_LAYERS = 8  # of a caption, as published


@dataclass(frozen=True)
class Inputs:
    """A batch as transformers takes it, on the model's device; `mask` is None where the model is given none."""

    values: Tensor  # (pairs, 3, height, width)
    ids: Tensor  # (pairs, tokens)
    mask: Tensor | None

    def first(self, pairs: int) -> "Inputs":
        """The first pairs."""
        return Inputs(self.values[:pairs], self.ids[:pairs], None if self.mask is None else self.mask[:pairs])


def images_of(raw: Any, values: Tensor) -> Tensor:
    """Embeddings of images, not normalised."""
    return raw.get_image_features(pixel_values=values).pooler_output


def texts_of(raw: Any, inputs: Inputs) -> Tensor:
    """Embeddings of the captions, not normalised."""
    given = {} if inputs.mask is None else {"attention_mask": inputs.mask}
    return raw.get_text_features(input_ids=inputs.ids, **given).pooler_output


def bare(raw: Any, inputs: Inputs) -> Callable[[], object]:
    """Both towers once, as fast as transformers runs them: the ceiling."""

    def forward() -> object:
        with torch.inference_mode():
            return images_of(raw, inputs.values), texts_of(raw, inputs)

    return forward


def published(
    raw: Any, inputs: Inputs, context: int, end: int, *, captions: bool = True
) -> list[tuple[Tensor, Tensor | None]]:
    """The published Grad-ECLIP of every pair, one at a time: maps (patches,) and values of all tokens (context,).

    Args:
        raw: a CLIPModel in float32.
        inputs: the pairs.
        context: tokens that every caption is padded to, with token 0.
        end: id of the end token.
        captions: the caption's side too.
    """
    pairs = []
    for number in range(len(inputs.values)):
        one = Inputs(inputs.values[number : number + 1], inputs.ids[number : number + 1], None)
        stop = int((one.ids[0] == end).nonzero()[0]) + 1
        ids = pad(one.ids[:, :stop], (0, context - stop))
        with torch.no_grad():
            text = texts_of(raw, Inputs(one.values, ids, None))
        of_image = _image_side(raw, one.values, text)
        if captions:
            with torch.no_grad():
                image = images_of(raw, one.values)
        pairs.append((of_image, _text_side(raw, ids, stop - 1, image) if captions else None))
    return pairs


def _image_side(raw: Any, values: Tensor, text: Tensor) -> Tensor:
    """ReLU(lambda * sum_d w_d v_d) of the class token's row in the last layer."""
    vision = raw.vision_model
    *before, last = vision.encoder.layers
    with torch.no_grad():
        x = vision.pre_layrnorm(vision.embeddings(values))
        for block in before:
            x = block(x, None)
        q, k, v, o = _one_head(last, x)
    o.requires_grad_()
    x = _after(last, x, o)
    embedded = raw.visual_projection(vision.post_layernorm(x[:, 0]))
    (w,) = torch.autograd.grad(cosine_similarity(embedded, text).sum(), o)
    out = last.self_attn.out_proj
    with torch.no_grad():
        weight = _loosened(out(q[0, 0]), out(k[0, 1:]))
        return (weight * (v[0, 1:] @ w[0, 0])).relu()


def _text_side(raw: Any, ids: Tensor, end: int, image: Tensor) -> Tensor:
    """The same of the end token's row, summed over the last layers, over all tokens."""
    tower = raw.text_model
    blocks, count = list(tower.encoder.layers), ids.shape[1]
    causal = torch.full((count, count), -torch.inf, device=ids.device).triu(1)[None, None]
    seen = []
    with torch.no_grad():
        x = tower.embeddings(input_ids=ids)
        for block in blocks[:-TEXT_LAYERS]:
            x = block(x, causal)
    for block in blocks[-TEXT_LAYERS:]:
        q, k, v, o = _one_head(block, x, causal[0])
        if not seen:
            o = o.detach().requires_grad_()
        seen.append((q, k, v, o))
        x = _after(block, x, o)
    embedded = raw.text_projection(tower.final_layer_norm(x[:, end]))
    gradients = torch.autograd.grad(cosine_similarity(embedded, image).sum(), [o for *_, o in seen])
    total = torch.zeros(count, device=ids.device)
    with torch.no_grad():
        for block, (q, k, v, _), w in zip(blocks[-TEXT_LAYERS:], seen, gradients, strict=True):
            out = block.self_attn.out_proj
            total += _loosened(out(q[0, end]), out(k[0])) * (v[0] @ w[0, end])
    return total.relu()


def _one_head(block: Any, x: Tensor, mask: Tensor | float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k, v and the output of a block's attention, run as one head."""
    read = block.layer_norm1(x)
    q, k, v = (getattr(block.self_attn, f"{name}_proj")(read) for name in "qkv")
    return q, k, v, (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 + mask).softmax(-1) @ v


def _after(block: Any, x: Tensor, o: Tensor) -> Tensor:
    """The rest of a block."""
    x = x + block.self_attn.out_proj(o)
    return x + block.mlp(block.layer_norm2(x))


def _loosened(query: Tensor, keys: Tensor) -> Tensor:
    """The min-max of the cosines."""
    cosine = normalize(keys, dim=-1) @ normalize(query, dim=-1)
    return (cosine - cosine.min()) / (cosine.max() - cosine.min())


class Cosines(nn.Module):
    """A model that takes images alone, as the libraries want it: the cosine of each with its caption, (pairs, 1)."""

    def __init__(self, raw: Any, texts: Tensor) -> None:
        super().__init__()
        self.raw, self.texts = raw, texts

    def forward(self, values: Tensor) -> Tensor:
        return cosine_similarity(images_of(self.raw, values), self.texts)[:, None]


def grad_cam(raw: Any, inputs: Inputs, *, frozen: bool) -> Any:
    """pytorch-grad-cam at the norm before the last block's attention: maps (pairs, height, width), numpy.

    Args:
        raw: the model.
        inputs: the batch.
        frozen: only the norm that is looked at has a gradient; else the model is as it is loaded, as in its examples.

    Raises:
        ImportError: if it is not installed.
    """
    from pytorch_grad_cam import GradCAM  # noqa: PLC0415 - an extra

    norm = raw.vision_model.encoder.layers[-1].layer_norm1
    side = raw.config.vision_config.image_size // raw.config.vision_config.patch_size

    def on_grid(tokens: Tensor) -> Tensor:
        return tokens[:, -(side**2) :].unflatten(1, (side, side)).permute(0, 3, 1, 2)

    with torch.no_grad():
        texts = texts_of(raw, inputs)
    with _trained(norm if frozen else raw), GradCAM(Cosines(raw, texts), [norm], on_grid) as cam:
        return cam(inputs.values, [_only] * len(inputs.values))


def integrated(raw: Any, inputs: Inputs, steps: int, batch: int) -> Tensor:
    """Integrated gradients by captum from the mean colour, summed over channels: maps (pairs, height, width).

    Raises:
        ImportError: if it is not installed.
    """
    from captum.attr import IntegratedGradients  # noqa: PLC0415 - an extra

    with torch.no_grad():
        texts = texts_of(raw, inputs)

    def score(values: Tensor, texts: Tensor) -> Tensor:
        return cosine_similarity(images_of(raw, values), texts)

    given = {"additional_forward_args": (texts,), "n_steps": steps, "internal_batch_size": batch}
    return IntegratedGradients(score).attribute(inputs.values, **given).sum(1).detach()


def missing(names: Sequence[str]) -> dict[str, str]:
    """Why each of these packages cannot be used here, for those that cannot."""
    why = {}
    for name in names:
        try:
            __import__(name)
        except (ImportError, RuntimeError) as error:
            why[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return why


def _only(output: Tensor) -> Tensor:
    return output[0]


@contextmanager
def _trained(part: nn.Module) -> Iterator[None]:
    """A part's parameters have gradients meanwhile."""
    part.requires_grad_(requires_grad=True)
    try:
        yield
    finally:
        part.requires_grad_(requires_grad=False)
        part.zero_grad(set_to_none=True)

"""Record attention inputs and outputs of one encoder by hooks, inside a context manager.

Scaled-dot-product attention stays on: q, k and v are the projections' outputs, o is the input of the output
projection. The graph starts at the first recorded o, so nothing before it is kept for the backward pass.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmel_cli.errors import ModelError
from mmel_cli.tensors import OutProjection


@dataclass(frozen=True)
class AttentionLayer:
    """One encoder layer and the linear projections of its self-attention, whatever a model calls them."""

    block: nn.Module
    q: nn.Module
    k: nn.Module
    v: nn.Module
    out: nn.Module
    norm: nn.Module | None = None  # what q, k and v read the output of, where it is known

    @classmethod
    def of(cls, block: nn.Module) -> "AttentionLayer":
        """Of a block with self_attn.{q,k,v,out}_proj, and layer_norm1 if its norm is to be known (CLIP, SigLIP)."""
        attention: Any = block.self_attn
        norm: Any = getattr(block, "layer_norm1", None)
        return cls(block, attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj, norm)

    @classmethod
    def of_bert(cls, block: nn.Module) -> "AttentionLayer":
        """Of a block with attention.self.{query,key,value} and attention.output.dense (BERT, RoBERTa)."""
        attention: Any = block.attention
        own = attention.self
        return cls(block, own.query, own.key, own.value, attention.output.dense)


@dataclass(frozen=True)
class Recording:
    """Per recorded layer, in order: q, k, v, o of shape (batch, tokens, width), and what else was asked for.

    q, k, v, inputs and outputs are detached; each o, what entered the attention, and the embeddings of layers that have
    a score of their own are in the graph.
    """

    q: list[Tensor] = field(default_factory=list)
    k: list[Tensor] = field(default_factory=list)
    v: list[Tensor] = field(default_factory=list)
    o: list[Tensor] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)  # of the layer: the residual stream
    outputs: list[Tensor] = field(default_factory=list)
    entering: list[Tensor] = field(default_factory=list)  # what q, k and v read
    embeds: list[Tensor] = field(default_factory=list)  # (batch, joint) of scores of layers' own; see `own`
    norms: list[Tensor] = field(
        default_factory=list
    )  # of the tokens that the last attention reads; see `entering_norms`
    own: "Recording | None" = None  # q, k, v, o of the attention behind each such score, if asked for
    in_order: bool = False  # the pairs that are asked about are known to be the batch, in its order


@contextmanager
def record(
    layers: Sequence[AttentionLayer],
    *,
    inputs: bool = False,
    outputs: bool = False,
    entering: bool = False,
    own: Callable[[Tensor], None] | None = None,
) -> Iterator[Recording]:
    """Record `layers` during one forward, with the optional parts that are asked for.

    The hooks are gone when the block ends, also after an exception.

    Args:
        layers: which.
        inputs: of the layers.
        outputs: of the layers.
        entering: what their attention reads; the graph then starts at the first of these.
        own: called with the output of each, in the graph.

    Raises:
        ModelError: if inputs or what enters is asked of a layer whose norm is not known.
    """
    recording = Recording()
    with ExitStack() as hooks:
        for number, layer in enumerate(layers):
            for name in ("q", "k", "v"):
                hook = partial(_keep_output, getattr(recording, name))
                hooks.callback(getattr(layer, name).register_forward_hook(hook).remove)
            starts = number == 0 and not entering
            hooks.callback(layer.out.register_forward_pre_hook(partial(_keep_input, recording.o, starts)).remove)
            if inputs:
                reads = _norm(layer).register_forward_pre_hook(partial(_keep_detached, recording.inputs))
                hooks.callback(reads.remove)
            if entering:
                enters = _norm(layer).register_forward_hook(partial(_keep_entering, recording.entering, number == 0))
                hooks.callback(enters.remove)
            if outputs:
                hooks.callback(layer.block.register_forward_hook(partial(_keep_output, recording.outputs)).remove)
            if own is not None:
                hooks.callback(layer.block.register_forward_hook(partial(_call, own)).remove)
        yield recording


@contextmanager
def entering_norms(layer: AttentionLayer) -> Iterator[list[Tensor]]:
    """Keep the length of each token as it enters a layer, before its norm, during one forward.

    Raises:
        ModelError: if the layer's norm is not known.
    """
    norms: list[Tensor] = []

    def keep(_module: nn.Module, inputs: tuple[Tensor]) -> None:
        norms.append(inputs[0].detach().float().norm(dim=-1))

    handle = _norm(layer).register_forward_pre_hook(keep)
    try:
        yield norms
    finally:
        handle.remove()


@contextmanager
def one_head(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Run the attention of `blocks` as a single head of the full width (the published Grad-ECLIP forward)."""
    with ExitStack() as restore:
        for block in blocks:
            attention: Any = block.self_attn
            for name, value in (
                ("num_heads", 1),
                ("head_dim", attention.embed_dim),
                ("scale", attention.embed_dim**-0.5),
            ):
                restore.callback(setattr, attention, name, getattr(attention, name))
                setattr(attention, name, value)
        yield


@contextmanager
def read_at_first_token(module: nn.Module) -> Iterator[None]:
    """In this block a module that works on each token alone goes backwards at the first token only.

    Values are those that it has otherwise, bit for bit. Right where nothing else of its output is differentiated, as
    behind the last attention of a tower that pools its first token: all other gradients are zero, and are not computed.
    """
    forward = module.forward

    def call(x: Tensor) -> Tensor:
        if not (x.requires_grad and torch.is_grad_enabled()):
            return forward(x)
        return _AtFirstToken.apply(x, forward)  # type: ignore[no-untyped-call]

    module.forward = call
    try:
        yield
    finally:
        del module.forward


class _AtFirstToken(torch.autograd.Function):
    """A module's forward on (batch, tokens, width), and its derivative at the first token."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.enable_grad():
            ctx.reads = x[:, :1].detach().requires_grad_()
            ctx.gives = forward(ctx.reads)
        return forward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None]:
        (first,) = torch.autograd.grad(ctx.gives, ctx.reads, gradient[0][:, :1], retain_graph=True)
        whole = torch.zeros_like(gradient[0])
        whole[:, :1] = first
        return whole, None


def activations(recording: Recording, w: Sequence[Tensor], index: Tensor, outs: Sequence[nn.Module]) -> dict[str, Any]:
    """The fields of a Tower that a recording holds, for P pairs, in float32.

    Args:
        recording: of the distinct images or captions.
        w: ds/do of each pair at each recorded layer (gradients.pull_back); empty if no backward was asked for.
        index: (P,) which of them each pair has.
        outs: the linear layers that follow each recorded attention.
    """

    def pick(tensors: list[Tensor]) -> tuple[Tensor, ...]:
        own = [tensor.detach() for tensor in tensors]
        return tuple((tensor if recording.in_order else tensor[index]).float() for tensor in own)

    kept = {name: pick(getattr(recording, name)) for name in ("q", "k", "v", "o")}
    return kept | {"w": tuple(gradient.float() for gradient in w), "out": tuple(_projection(out) for out in outs)}


def _projection(layer: nn.Module) -> OutProjection:
    weight: Any = layer.weight
    bias: Any = layer.bias
    return OutProjection(weight.float(), None if bias is None else bias.float())


def _norm(layer: AttentionLayer) -> nn.Module:
    if layer.norm is None:
        raise ModelError(f"{type(layer.block).__name__} has no norm before its attention that is known")
    return layer.norm


def _keep_output(store: list[Tensor], _module: nn.Module, _inputs: Any, output: Any) -> None:
    store.append((output[0] if isinstance(output, tuple) else output).detach())


def _keep_input(store: list[Tensor], first: bool, _module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    value = inputs[0].detach().requires_grad_() if first else inputs[0]
    store.append(value)
    return (value,)


def _keep_detached(store: list[Tensor], _module: nn.Module, inputs: tuple[Tensor]) -> None:
    store.append(inputs[0].detach())


def _keep_entering(store: list[Tensor], first: bool, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    value = output.detach().requires_grad_() if first else output
    store.append(value)
    return value


def _call(own: Callable[[Tensor], None], _module: nn.Module, _inputs: Any, output: Any) -> None:
    own(output[0] if isinstance(output, tuple) else output)

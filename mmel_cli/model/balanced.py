"""Balanced gradients: rules of the backward pass that share a score out otherwise, and leave the score as it is.

LibraGrad (CVPR 2025); METHOD 2. They are hooks on the modules of one tower, gone when the block ends.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmel_cli.errors import ModelError
from mmel_cli.model.capture import AttentionLayer
from mmel_cli.types import Gradient

_ACTIVATIONS = ("activation_fn", "intermediate_act_fn")  # what transformers calls them
_NEAR_ZERO = 1e-3  # where a gate is read in place of 0 / 0


@dataclass(frozen=True)
class Rules:
    """What is a constant in the backward."""

    attention: bool = False  # its probabilities: nothing flows through q and k
    activation: bool = False  # the gate act(x) / x of an activation
    norm: bool = False  # the standard deviation of a LayerNorm, and the lengths of the two embeddings


RULES: dict[Gradient, Rules] = {
    "none": Rules(),
    "plain": Rules(),
    "balanced": Rules(attention=True, activation=True),
    "balanced-norms": Rules(attention=True, activation=True, norm=True),
}


@contextmanager
def balanced(gradient: Gradient, tower: nn.Module, attentions: Iterable[AttentionLayer]) -> Iterator[Rules]:
    """Forwards of `tower` in this block go backwards by the rules of `gradient`; values stay bit for bit.

    `attentions` are all attention layers of the tower. The hooks are gone when the block ends, also after an exception.

    Raises:
        ModelError: if a layer has no activation that is known by name, so that a rule would hold in part of the tower.
    """
    rules, layers = RULES[gradient], list(attentions)
    with ExitStack() as hooks:
        if rules.attention:
            for layer in layers:
                for module in (layer.q, layer.k):
                    hooks.callback(module.register_forward_pre_hook(_detach).remove)
        if rules.activation:
            for module in _activations(tower, layers):
                hooks.callback(module.register_forward_hook(_constant_gate).remove)
        if rules.norm:
            for module in tower.modules():
                if isinstance(module, nn.LayerNorm):
                    hooks.callback(module.register_forward_hook(_constant_deviation).remove)
        yield rules


def _activations(tower: nn.Module, layers: list[AttentionLayer]) -> list[nn.Module]:
    for layer in layers:
        if not any(name.rpartition(".")[2] in _ACTIVATIONS for name, _ in layer.block.named_modules()):
            kind = type(layer.block).__name__
            raise ModelError(f"{kind} has no activation that is known; use method.gradient=plain with this model")
    named = tower.named_modules()  # each module once
    return [module for name, module in named if name.rpartition(".")[2] in _ACTIVATIONS]


class _Gate(torch.autograd.Function):
    """y = act(x), whose derivative is taken to be y / x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, at_zero: float) -> Tensor:
        ctx.save_for_backward(torch.where(x == 0, at_zero, y / x))
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None]:
        (gate,) = ctx.saved_tensors
        return gradient[0] * gate, None, None


class _Deviation(torch.autograd.Function):
    """y = LayerNorm(x), whose standard deviation is taken to be a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:  # noqa: ARG004 - has a gradient
        spread = (x.float().var(-1, correction=0, keepdim=True) + eps).rsqrt()
        ctx.save_for_backward(spread.to(x.dtype) * weight)
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None, Tensor | None, None]:
        (factor,) = ctx.saved_tensors
        scaled = gradient[0] * factor
        bias = gradient[0].sum_to_size(factor.shape[-1:]) if ctx.needs_input_grad[3] else None
        return scaled - scaled.mean(-1, keepdim=True), None, None, bias, None


def _detach(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(value.detach() for value in inputs)


def _constant_gate(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor | None:
    x = inputs[0]
    if not x.requires_grad:
        return None
    near = torch.tensor(_NEAR_ZERO)
    with torch.no_grad():
        at_zero = float(type(module).forward(module, near) / near)
    return _Gate.apply(x, output.detach(), at_zero)  # type: ignore[no-untyped-call]


def _constant_deviation(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor | None:
    x: Any = inputs[0]
    norm: Any = module
    if not x.requires_grad:
        return None
    weight = torch.ones_like(x[..., :1]) if norm.weight is None else norm.weight
    return _Deviation.apply(x, output.detach(), weight, norm.bias, norm.eps)  # type: ignore[no-untyped-call]

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
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from mmel_cli.errors import ModelError
from mmel_cli.model.capture import AttentionLayer
from mmel_cli.types import Gradient

_ACTIVATIONS = ("activation_fn", "intermediate_act_fn")  # what transformers calls them
_QUICK, _QUICKNESS = "QuickGELUActivation", 1.702  # x sigmoid(1.702 x): CLIP's, of transformers
_NEAR_ZERO = 1e-3  # where a gate is read in place of 0 / 0
_ATTENTION_NUMBERS = 2**24  # of recomputed attention matrices that are in memory at a time


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
            hooks.enter_context(_ConstantAttention())
        if rules.activation:
            for module in _activations(tower, layers):
                if type(module).__name__ == _QUICK:
                    module.forward = _quick
                    hooks.callback(module.__delattr__, "forward")
                else:
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


class _ConstantAttention(TorchFunctionMode):
    """In this block fused attention goes backwards to the values alone, where the kernel's own does all three."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called in place of every function of torch."""
        given = kwargs or {}
        if func is not scaled_dot_product_attention or not _to_values_alone(*args, **given):
            return func(*args, **given)
        query, key, value, *others = args
        names = ("attn_mask", "dropout_p", "is_causal")
        options = dict(zip(names, others, strict=False)) | given
        return _Attention.apply(query, key, value, options)  # type: ignore[no-untyped-call]


def _to_values_alone(query: Tensor, key: Tensor, value: Tensor, *_: Any, **options: Any) -> bool:
    same_heads = query.shape[:-2] == key.shape[:-2] == value.shape[:-2] and not options.get("enable_gqa")
    return value.requires_grad and not (query.requires_grad or key.requires_grad) and same_heads


class _Attention(torch.autograd.Function):
    """softmax(q k^T scale + mask) v by the fused kernel, whose derivative is taken at v alone."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> Tensor:
        ctx.save_for_backward(query, key)
        ctx.options = options
        return scaled_dot_product_attention(query, key, value, **options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradient: Tensor) -> tuple[None, None, Tensor, None]:
        query, key = ctx.saved_tensors
        mask, causal = ctx.options.get("attn_mask"), ctx.options.get("is_causal", False)
        scale = ctx.options.get("scale") or query.shape[-1] ** -0.5
        size = max(1, _ATTENTION_NUMBERS // (query.shape[1] * query.shape[2] * key.shape[2]))
        parts = []
        for start in range(0, len(query), size):
            rows = slice(start, start + size)
            logits = (query[rows] * scale) @ key[rows].transpose(-2, -1)
            if causal:
                seen = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
                logits = logits.masked_fill(~seen, -torch.inf)
            if mask is not None:
                here = mask if len(mask) == 1 or mask.ndim < logits.ndim else mask[rows]
                logits = logits.masked_fill(~here, -torch.inf) if here.dtype == torch.bool else logits + here
            attention = logits.float().softmax(-1).to(query.dtype)
            parts.append(attention.transpose(-2, -1) @ gradient[0][rows])
        return None, None, torch.cat(parts), None


class _Gate(torch.autograd.Function):
    """y = act(x), whose derivative is taken to be y / x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, at_zero: float) -> Tensor:
        ctx.save_for_backward((y / x).nan_to_num_(at_zero))  # 0 / 0
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None]:
        (gate,) = ctx.saved_tensors
        return gradient[0] * gate, None, None


class _QuickGate(torch.autograd.Function):
    """y = x gate(x), whose derivative is taken to be the gate, which is what is kept of the forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        gate = (_QUICKNESS * x).sigmoid_()
        ctx.save_for_backward(gate)
        return x * gate

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradient: Tensor) -> Tensor:
        (gate,) = ctx.saved_tensors
        return gradient[0] * gate


def _quick(x: Tensor) -> Tensor:
    """The forward of QuickGELU; its gate is a factor of it and need not be divided out of its output."""
    return _QuickGate.apply(x)  # type: ignore[no-untyped-call]


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

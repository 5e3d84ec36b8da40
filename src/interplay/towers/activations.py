"""The activations of CLIP's perceptrons, with a leaner quick GELU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_SLOPE = 1.702


class _QuickGELU(torch.autograd.Function):
    """silu(1.702 x) / 1.702, whose derivative is silu's at 1.702 x: one tensor kept, one pass backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        steep = x * _SLOPE
        ctx.save_for_backward(steep)
        return F.silu(steep).mul_(1 / _SLOPE)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (steep,) = ctx.saved_tensors
        change: Tensor = torch.ops.aten.silu_backward(gradient, steep)
        return change


class QuickGELU(nn.Module):
    """x · σ(1.702 x) of any shape (Hendrycks and Gimpel, 2016; CLIP's activation), for first derivatives.

    Written out, as in `transformers`, it keeps two tensors of the perceptron's width for the way back and passes over
    them five times; this keeps one. Equal up to rounding.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, same shape."""
        if torch.is_grad_enabled() and x.requires_grad:
            result: Tensor = _QuickGELU.apply(x)  # type: ignore[no-untyped-call]
            return result
        return F.silu(x * _SLOPE).mul_(1 / _SLOPE)


def activation(name: str) -> nn.Module:
    """The activation that a checkpoint calls `name`, as `transformers` spells it."""
    if name == "quick_gelu":
        return QuickGELU()
    from transformers.activations import ACT2FN

    found: nn.Module = ACT2FN[name]
    return found

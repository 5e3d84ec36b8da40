"""Quick GELU against `transformers`, forward and backward, and what it keeps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from interplay.towers.activations import QuickGELU, activation


def _both(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = module(x)
    y.backward(torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x))
    assert x.grad is not None
    return y.detach(), x.grad


def _kept(module: nn.Module, x: Tensor) -> int:
    """How many tensors wait for the way back."""
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        module(x.clone().requires_grad_())
    return len({t.data_ptr() for t in kept if t.numel() == x.numel()})


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_equals_transformers_in_value_and_gradient(dtype: torch.dtype, bound: float) -> None:
    x = torch.cat(
        [torch.linspace(-30, 30, 601, dtype=dtype), torch.tensor([0.0, 1e4, -1e4], dtype=dtype)]
    ).view(2, -1)
    ours, reference = _both(QuickGELU(), x), _both(ACT2FN["quick_gelu"], x)
    for got, expected in zip(ours, reference, strict=True):
        assert torch.allclose(got, expected, rtol=bound, atol=bound)
    with torch.no_grad():
        assert torch.equal(QuickGELU()(x), ours[0])


def test_input_is_left_alone_and_half_as_much_is_kept() -> None:
    x = torch.randn(4, 8)
    before = x.clone()
    QuickGELU()(x)
    assert torch.equal(x, before)
    assert (_kept(QuickGELU(), x), _kept(ACT2FN["quick_gelu"], x)) == (1, 2)


def test_other_activations_are_those_of_transformers() -> None:
    assert isinstance(activation("quick_gelu"), QuickGELU)
    assert isinstance(activation("gelu"), type(ACT2FN["gelu"]))

"""The two-layer perceptron that maps prompt tokens from one width to another."""

from __future__ import annotations

from torch import nn


def perceptron(width_in: int, hidden: int, width_out: int) -> nn.Sequential:
    """(…, width_in) → (…, width_out): linear, GELU, linear."""
    return nn.Sequential(nn.Linear(width_in, hidden), nn.GELU(), nn.Linear(hidden, width_out))


def perceptron_count(width_in: int, hidden: int, width_out: int) -> int:
    """How many parameters `perceptron` has."""
    return (width_in + 1) * hidden + (hidden + 1) * width_out

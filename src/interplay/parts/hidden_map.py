"""Features of a pair from its hidden states: each standardised over the training pairs."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interplay.towers.hidden import HiddenStates
from interplay.towers.tokens import SIDES, Side

_SMALLEST = 1e-3
"""Deviations below this share of a side's root mean square are rounding, and count as so much."""


class HiddenMap(nn.Module):
    """ψ(h) = (h − μ) / (σ·√features) for each side, so that every side has a mean squared length of 1 as a vector has.

    Heads on middle layers are Head2Toe's (Evci et al., 2022), which standardises alike; instead of its choice of
    features by a group lasso, ridge regression keeps them all. μ and σ are those of the training pairs; nothing of them
    is trained by gradient, and `fit` fills them.

    Args:
        widths: for each side that is read, how many numbers its hidden states have.
    """

    def __init__(self, widths: dict[Side, int]) -> None:
        super().__init__()
        self.sides = tuple(side for side in SIDES if side in widths)
        for side in self.sides:
            self.register_buffer(f"{side}_centre", torch.zeros(widths[side]))
            self.register_buffer(f"{side}_scale", torch.ones(widths[side]))

    def fit(self, hidden: HiddenStates) -> None:
        """Take μ and σ from the hidden states of training pairs."""
        for side in self.sides:
            states = hidden.asked(side)
            deviation = states.std(0, correction=0)
            least = _SMALLEST * states.square().mean().sqrt().clamp(min=_SMALLEST)
            self.get_buffer(f"{side}_centre").copy_(states.mean(0))
            scale = 1 / (deviation.clamp(min=least) * math.sqrt(states.shape[1]))
            self.get_buffer(f"{side}_scale").copy_(scale)

    def forward(self, hidden: HiddenStates) -> Float[Tensor, "batch features"]:
        """Hidden states of pairs → ψ of the sides that are read, side by side."""
        parts = [
            (hidden.asked(side) - self.get_buffer(f"{side}_centre")) * self.get_buffer(f"{side}_scale")
            for side in self.sides
        ]
        return torch.cat(parts, dim=-1)

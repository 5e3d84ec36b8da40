"""Hidden states: what a tower knows in its middle layers, pooled to one row a sample for what reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interplay.towers.tokens import SIDES, Shape, Side, Tokens, TowerShape

QUARTERS = (1, 2, 3)
"""The depths, in quarters of a tower's own, after which its tokens are read; its vector says what comes last."""


def hidden_layers(shape: TowerShape) -> tuple[int, ...]:
    """After how many layers a tower's tokens are read: at a quarter, half and three quarters of its depth.

    Of towers with fewer than four layers, those of them that there are before the last one.
    """
    found = {round(quarter * shape.depth / 4) for quarter in QUARTERS}
    return tuple(sorted(found - {0, shape.depth}))


def hidden_width(shape: TowerShape) -> int:
    """How many numbers `HiddenStates` has of one sample on one side."""
    return len(hidden_layers(shape)) * 2 * shape.width


def hidden_widths(shape: Shape) -> dict[Side, int]:
    """`hidden_width` of each side."""
    return {side: hidden_width(shape.side(side)) for side in SIDES}


def summary(tokens: Tokens) -> Float[Tensor, "batch features"]:
    """The pooled token and the mean of all real tokens, (batch, 2·width): first the one that the tower pools.

    That is the class token, or the end token of a text. Prompt slots and padding are left out of the mean; prompts that
    a method writes among the words themselves (CoOp's context with a split) are words like all others.
    """
    x, lengths = tokens.drop().x, tokens.lengths
    if lengths is None:
        return torch.cat([x[:, 0], x.mean(1)], dim=-1)
    real = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    mean = (x * real[:, :, None]).sum(1) / lengths[:, None]
    end = (lengths - 1)[:, None, None].expand(-1, 1, x.shape[-1])
    return torch.cat([x.gather(1, end).squeeze(1), mean], dim=-1)


@dataclass(frozen=True, eq=False)
class HiddenStates:
    """Pooled hidden states of a batch of pairs; None: of a side that nobody asked for.

    Attributes:
        image, text: (batch, layers · 2 · width), layer after layer, each as `summary` gives it.
    """

    image: Tensor | None = None
    text: Tensor | None = None

    def side(self, side: Side) -> Tensor | None:
        """Those of one side."""
        return self.image if side == "image" else self.text

    def asked(self, side: Side) -> Tensor:
        """Those of a side that was asked for."""
        states = self.side(side)
        assert states is not None, f"nobody asked the walk for hidden states of the {side}"
        return states


class Listener:
    """Collects hidden states in the course of one walk.

    Args:
        layers: for each side that is asked for, after how many layers.
    """

    def __init__(self, layers: Mapping[Side, Sequence[int]]) -> None:
        self._layers = layers
        self._heard: dict[Side, list[Tensor]] = {side: [] for side in layers}

    def hear(self, side: Side, done: int, tokens: Tokens) -> None:
        """Keep a summary of the tokens after `done` layers, if it was asked for."""
        if done in self._layers.get(side, ()):
            self._heard[side].append(summary(tokens))

    @property
    def states(self) -> HiddenStates:
        """What was collected.

        Raises:
            ValueError: the walk began after one of the layers.
        """
        for side, layers in self._layers.items():
            if len(self._heard[side]) < len(layers):
                raise ValueError(f"the {side} tokens start after a layer whose hidden states are asked for")
        image, text = (
            torch.cat(self._heard[side], dim=-1) if side in self._heard else None for side in SIDES
        )
        return HiddenStates(image, text)

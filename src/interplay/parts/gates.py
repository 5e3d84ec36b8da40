"""Gates between prompts and the frozen layers that read them: closed at the start, where the model is the frozen one.

Prompts among the keys of a softmax change what every token sees, however small they are. Behind a gate the tokens'
attention over their own keys stays what it was, and what they see of the prompts is added times the gate
(`Next.gate`; zero-initialised attention, LLaMA-Adapter, Zhang et al., 2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from interplay.towers.tokens import SIDES, Shape, Side, Tokens, Tower

Beginning = Literal["paper", "frozen"]
"""How a method starts: as its paper says, or exactly as the frozen model, behind gates."""
GatedLayers = Mapping[Side, Sequence[int]]
"""The layers (from 0) of each side whose rows read prompts."""
SPEED = 10.0
"""How far a gate moves for a step of its parameter, in units of an ungated prompt's."""


class Gates(nn.Module):
    """tanh(c·g), one number g a head of every layer that reads prompts; all start at 0.

    At the start the gates alone have a gradient, and what they let through has one from the second step on.

    Args:
        shape: geometry of the towers.
        layers: which layers read prompts.
    """

    def __init__(self, shape: Shape, layers: GatedLayers) -> None:
        super().__init__()
        self.layers = {side: list(numbers) for side, numbers in layers.items()}
        self.values = nn.ParameterDict(
            {
                side: nn.Parameter(torch.zeros(len(numbers), shape.side(side).heads))
                for side, numbers in self.layers.items()
            }
        )

    def forward(self, side: Side) -> Tensor:
        """The gates of one side, (layers, heads)."""
        return torch.tanh(SPEED * self.values[side])

    def row(self, side: Side, layer: int) -> int | None:
        """The row of `forward` that belongs to a layer; None: it is not gated."""
        numbers = self.layers.get(side, [])
        return numbers.index(layer) if layer in numbers else None


def gates_of(start: Beginning, shape: Shape, layers: GatedLayers) -> Gates | None:
    """The gates of a method that starts as the frozen model; None: it has none."""
    return Gates(shape, layers) if start == "frozen" else None


def gate_count(start: Beginning, shape: Shape, layers: GatedLayers) -> int:
    """How many there are: Σ over sides of layers·heads."""
    if start == "paper":
        return 0
    return sum(len(numbers) * shape.side(side).heads for side, numbers in layers.items())


def gated(gates: Gates | None, side: Side, layer: int, tokens: Tokens) -> Tokens:
    """The tokens in front of a layer, behind its gate where it has one."""
    row = None if gates is None else gates.row(side, layer)
    if gates is None or row is None:
        return tokens
    return tokens.for_next(gate=gates(side)[row])


def placed(
    gates: Gates | None,
    tower: Tower,
    tokens: Tokens,
    prompts: Tensor,
    *,
    last: bool,
    see_all: bool = False,
) -> Tokens:
    """The tokens with prompts in front of a layer: in slots, or where that is enough outside the sequence.

    Args:
        prompts: as `Tower.put` takes them.
        last: whether nothing reads what the layer makes of them; behind a gate they then need no rows.
        see_all: as `Tower.put`.
    """
    if gates is not None and last:
        return tower.drop(tokens).for_next(aside=prompts)
    return tower.put(tokens, prompts, see_all=see_all)


def every_layer(shape: Shape, sides: Sequence[Side] = SIDES) -> GatedLayers:
    """All layers of the given sides: for prompts that enter at the front and run on."""
    return {side: range(shape.side(side).depth) for side in sides}

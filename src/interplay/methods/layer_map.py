"""Linear maps of frozen vectors and hidden states, in closed form: continual retrieval without forgetting."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.methods.base import Method
from interplay.methods.sessions import Aligned
from interplay.methods.solvers import ClosedForm
from interplay.methods.traits import Traits
from interplay.parts.signs import random_signs
from interplay.parts.vector_alignment import VectorAlignment
from interplay.towers.hidden import hidden_layers, summary
from interplay.towers.tokens import SIDES, Shape, Side, Tokens, Tower

ADDED = 128
"""Numbers that the hidden states of a sample are made, on each side."""


class LayerMap(Method):
    """One linear map a side of [vector, hidden states], from the moments of all pairs so far (`layered_alignment`).

    Of no paper. As `linear_map`, it takes no steps, routes nothing, keeps no sample and forgets exactly. The hidden
    states are the pooled token and the mean of all tokens at a quarter, half and three quarters of the depth
    (`HiddenStates`), each of length 1, in `ADDED` random projections that are the same for everyone (Achlioptas, 2003).
    How far the score departs from that of the bare vectors is decided by what sessions say of the maps of the others.

    Towers other than CLIP's, and those of a single layer, have their vectors alone: it is `linear_map` there.
    """

    traits = Traits(solver=ClosedForm(), starts_frozen=True)
    layers: dict[Side, tuple[int, ...]]
    """By side, the numbers of the layers that are read; none where it is `linear_map`."""

    def __init__(self, shape: Shape, settings: Any) -> None:
        super().__init__(shape, settings)
        self.layers = {
            side: hidden_layers(shape.side(side)) if shape.side(side).kind == "clip" else () for side in SIDES
        }
        added = ADDED if all(self.layers.values()) else 0
        if added:
            for at, side in enumerate(SIDES):
                rows = 2 * len(self.layers[side]) * shape.side(side).width
                self.register_buffer(f"{side}_projection", random_signs(rows, added, at), persistent=False)
        else:
            self.layers = dict.fromkeys(SIDES, ())
        self.alignment = VectorAlignment(shape.joint, added)
        self.sessions = Aligned(self.name, self.alignment)

    def first_layer(self, side: Side) -> int:
        """The layer after which hidden states are read first."""
        return self.layers[side][0] - 1 if self.layers[side] else self.shape.side(side).depth

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """The frozen layer; what is read of its tokens is held."""
        held, tokens = tokens.held, tower.layer(i, tokens)
        if i + 1 in self.layers[side]:
            found = summary(tokens)
            read = found.view(len(found), 2, -1)
            held = read if held is None else torch.cat([held, read], dim=1)
        return replace(tokens, held=held)  # the last layer brings out nothing but rows

    def vector(self, side: Side, tower: Tower, tokens: Tokens) -> Tensor:
        """Vector and hidden states, mapped; before the first session the vector alone, as it is."""
        vectors = tower.pool(tokens)
        if self.layers[side] and (self.alignment.open or self.alignment.acts):
            vectors = torch.cat([F.normalize(vectors, dim=-1), self._projected(side, tokens)], dim=1)
        mapped: Tensor = self.alignment(side, vectors)
        return mapped

    def _projected(self, side: Side, tokens: Tokens) -> Tensor:
        """The hidden states of a batch, (batch, added)."""
        assert tokens.held is not None
        read = F.normalize(tokens.held, dim=-1).flatten(1)
        return read @ self.get_buffer(f"{side}_projection").to(read)

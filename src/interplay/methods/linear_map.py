"""Linear maps after the frozen towers, in closed form: continual retrieval without a step, a route or forgetting."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from interplay.methods.base import Method
from interplay.methods.sessions import Aligned
from interplay.methods.solvers import ClosedForm
from interplay.methods.traits import Traits
from interplay.parts.vector_alignment import VectorAlignment
from interplay.towers.tokens import Shape, Side, Tokens, Tower


class LinearMap(Method):
    """One linear map a side, from the moments of all pairs so far (`parts/vector_alignment.py`).

    Of no paper: ridge canonical correlation analysis (Hotelling, 1936; Vinod, 1976), drawn towards the bare vectors by
    how much of it chance would explain. A stream of sessions ends with the maps of joint training. All images and all
    texts go through the same maps, so nothing has to be routed.
    """

    traits = Traits(solver=ClosedForm(), starts_frozen=True)

    def __init__(self, shape: Shape, settings: Any) -> None:
        super().__init__(shape, settings)
        self.alignment = VectorAlignment(shape.joint)
        self.sessions = Aligned(self.name, self.alignment)

    def vector(self, side: Side, tower: Tower, tokens: Tokens) -> Tensor:
        """The pooled vector, normalised and mapped; before the first session it is left alone."""
        mapped: Tensor = self.alignment(side, tower.pool(tokens))
        return mapped

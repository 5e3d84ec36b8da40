"""Ridge regression for many penalties at the cost of one decomposition, with what each row is given without itself."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.linalg import eigh

PENALTIES = (1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_RANK = 1e-10
"""Directions whose variance is so small a part of the largest one are none."""


class Ridge:
    """min over W, b of ‖Y − X·Wᵀ − b‖² + λ·‖W‖², for any λ.

    Args:
        inputs: X, (N, features) in double precision.
        targets: Y, (N, K) in double precision.
    """

    def __init__(
        self, inputs: Float[Tensor, "rows features"], targets: Float[Tensor, "rows classes"]
    ) -> None:
        self._mean, self._level = inputs.mean(0), targets.mean(0)
        x, self._apart = inputs - self._mean, targets - self._level
        wide = x.shape[1] >= len(x)
        variances, vectors = eigh(x @ x.T if wide else x.T @ x)
        kept = variances > _RANK * variances.max().clamp(min=_RANK)
        self._variances, vectors = variances[kept], vectors[:, kept]
        lengths = self._variances.sqrt()
        self._rows = vectors if wide else x @ vectors / lengths
        self._directions = x.T @ vectors / lengths if wide else vectors
        self._seen = self._rows.T @ self._apart

    def left_out(self, penalty: float) -> Float[Tensor, "rows classes"]:
        """What every row is given by the regression on all rows but itself, exactly: y_i − (y_i − ŷ_i)/(1 − h_i)."""
        kept = self._variances / (self._variances + penalty)
        missed = self._apart - self._rows @ (kept[:, None] * self._seen)
        leverage = self._rows**2 @ kept + 1 / len(self._rows)
        found: Tensor = self._apart + self._level - missed / (1 - leverage).clamp(min=1e-6)[:, None]
        return found

    def solution(self, penalty: float) -> tuple[Float[Tensor, "classes features"], Float[Tensor, " classes"]]:
        """W and b."""
        shrunk = self._variances.sqrt() / (self._variances + penalty)
        weight = (self._directions @ (shrunk[:, None] * self._seen)).T
        return weight, self._level - weight @ self._mean

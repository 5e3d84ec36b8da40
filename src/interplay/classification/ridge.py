"""Ridge regression for many penalties at the cost of one decomposition, cross-validated in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import eigh

PENALTIES = (1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
MOST = 2048
"""Rows or features that one decomposition is made of."""
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

    def left_out(self, penalty: float, folds: Sequence[Tensor]) -> Float[Tensor, "rows classes"]:
        """What the rows of every fold F are given by the regression on all other rows, exactly.

        y_F − (I − H_FF)⁻¹·(y_F − ŷ_F) with H = U·diag(s²/(s² + λ))·Uᵀ + 1/N, the map from all targets to all outputs of
        the regression on all rows.

        Args:
            folds: row numbers of each fold; every row is in one.
        """
        kept = self._variances / (self._variances + penalty)
        missed = self._apart - self._rows @ (kept[:, None] * self._seen)
        found = torch.empty_like(missed)
        for fold in folds:
            own = self._rows[fold]
            rest = torch.eye(len(fold), dtype=own.dtype) - (own * kept) @ own.T - 1 / len(self._rows)
            found[fold] = self._apart[fold] + self._level - torch.linalg.solve(rest, missed[fold])
        return found

    def solution(self, penalty: float) -> tuple[Float[Tensor, "classes features"], Float[Tensor, " classes"]]:
        """W and b."""
        shrunk = self._variances.sqrt() / (self._variances + penalty)
        weight = (self._directions @ (shrunk[:, None] * self._seen)).T
        return weight, self._level - weight @ self._mean


def directions(
    inputs: Float[Tensor, "rows features"],
) -> Float[Tensor, "features columns"] | None:
    """An orthonormal base of what `MOST` of the rows span, where there are more rows and features than that; else None.

    Regression on the inputs times this is the one on the inputs themselves with weights in that span (subset of
    regressors; Smola & Schölkopf, 2000), at a cost that rows and features bound linearly.
    """
    if min(inputs.shape) <= MOST:
        return None
    rows = torch.linspace(0, len(inputs) - 1, MOST).long()
    some = inputs[rows].double()
    base: Tensor = torch.linalg.qr((some - some.mean(0)).T).Q
    return base.to(inputs.dtype)

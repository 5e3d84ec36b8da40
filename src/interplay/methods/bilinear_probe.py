"""Bilinear probe: logistic regression on the products of both frozen vectors' principal components.

logits_k = x̂ᵀ·A_k·t̂ + w_kᵀ·x̂ + v_kᵀ·t̂ + b_k with A_k of rank at most `rank` (`parts/bilinear_map.py`; Tenenbaum &
Freeman, 2000). It can say of every direction of the picture what it means beside every direction of the text, which a
sum of one-sided parts cannot, and is the most that a head linear in each vector makes of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.settings import MethodSettings
from interplay.methods.solvers import Probe
from interplay.methods.traits import Traits


@dataclass(frozen=True)
class BilinearProbeSettings(MethodSettings):
    """Settings of the bilinear probe.

    Attributes:
        rank: principal components of each side, of a smaller joint space all; a class has rank² products.
    """

    rank: int = 32

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InterplayError(f"rank must be at least 1, not {self.rank}.")


class BilinearProbe(Method):
    """The towers are left alone; the head is fitted by L2 logistic regression, its penalty chosen on validation."""

    Settings = BilinearProbeSettings
    traits = Traits(solver=Probe("pair", kind="bilinear"), starts_frozen=True)

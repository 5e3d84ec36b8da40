"""Linear probe: logistic regression on the frozen vectors of a pair (Radford et al., 2021; MITP's baseline)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from interplay.methods.base import Method
from interplay.methods.settings import MethodSettings
from interplay.methods.solvers import Probe
from interplay.methods.traits import Traits


@dataclass(frozen=True)
class LinearProbeSettings(MethodSettings):
    """Settings of the linear probe.

    Attributes:
        features: what is made of the two vectors: `concat`, `sum`, `product` (x∘t), or `pair`, which is
            [x, t, x∘t]. The paper does not say what its probe reads.
    """

    features: Literal["concat", "sum", "product", "pair"] = "concat"

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "linear_probe-sum": {"features": "sum"},
        "linear_probe-product": {"features": "product"},
        "linear_probe-pair": {"features": "pair"},
    }


class LinearProbe(Method):
    """The towers are left alone; the head is fitted by L2 logistic regression, its penalty chosen on validation."""

    Settings = LinearProbeSettings
    traits = Traits(solver=Probe(), starts_frozen=True)

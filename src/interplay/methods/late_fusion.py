"""Late fusion: a small perceptron over the frozen vectors of a pair, with bare towers in front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.settings import MethodSettings
from interplay.methods.traits import Traits
from interplay.parts.features import feature_width, pair_features
from interplay.parts.perceptron import perceptron, perceptron_count
from interplay.towers.tokens import Shape, Towers
from interplay.towers.walk import Pair


@dataclass(frozen=True)
class LateFusionSettings(MethodSettings):
    """Settings of late fusion.

    Attributes:
        hidden: hidden width of the perceptron.
    """

    hidden: int = 256

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise InterplayError("Late fusion needs hidden >= 1.")


class LateFusion(Method):
    """x ← x + Δx, t ← t + Δt with [Δx, Δt] = W2·gelu(W1·[x, t, x∘t] + b1) + b2, for x and t of length 1.

    No paper's: the plainest way for two modalities to talk, after towers that are left alone throughout, so that both
    can be kept whole (`cache_prefix`) and a training step costs the perceptron. W2 and b2 start at 0, where the vectors
    are the backbone's own but for their lengths; W1 moves from the second step on. x∘t is scaled as `pair_features`
    says.
    """

    Settings = LateFusionSettings
    traits = Traits(coupling="pair", fuses_vectors=True, starts_frozen=True)

    def __init__(self, shape: Shape, settings: LateFusionSettings) -> None:
        super().__init__(shape, settings)
        self.corrections = perceptron(feature_width(shape.joint, "pair"), settings.hidden, 2 * shape.joint)
        nn.init.zeros_(self.corrections[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.corrections[-1].bias)  # type: ignore[arg-type]

    def pair_vectors(self, backbone: Towers, pair: Pair) -> tuple[Tensor, Tensor]:
        """The vectors of length 1, corrected."""
        features = pair_features(*super().pair_vectors(backbone, pair), "pair")
        joint = self.shape.joint
        image, text = torch.split(features[:, : 2 * joint] + self.corrections(features), joint, dim=1)
        return image, text

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """A narrow perceptron."""
        return {"hidden": 8}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: LateFusionSettings) -> int:
        """(3·joint + 1)·hidden + (hidden + 1)·2·joint."""
        return perceptron_count(feature_width(shape.joint, "pair"), settings.hidden, 2 * shape.joint)

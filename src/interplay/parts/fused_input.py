"""Prompts and the picture's own vector in front of a text, at the input of the text tower (Liang et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import Shape
from interplay.towers.walk import Pair, Step

Projection = Literal["auto", "always"]


@dataclass(frozen=True)
class FusedInputSettings:
    """Settings of PromptFuse and BlindPrompt.

    Attributes:
        length: prompt tokens N (paper: 20).
        projection: when a trained linear map takes the picture's vector to the text tower's width: `auto`: only where
            the joint space is not as wide; `always`.
    """

    length: int = 20
    projection: Projection = "auto"

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InterplayError("PromptFuse and BlindPrompt need length >= 1.")


class FusedInput(nn.Module):
    """The rows that stand in front of a text: N free prompts, N(0, 0.02²), then the picture's pooled vector.

    Args:
        shape: geometry of the towers.
        settings: how many prompts, and whether the vector is mapped.
    """

    def __init__(self, shape: Shape, settings: FusedInputSettings) -> None:
        super().__init__()
        self.prompts = nn.Parameter(torch.randn(settings.length, shape.text.width) * 0.02)
        self.projection = nn.Linear(shape.joint, shape.text.width) if _is_mapped(shape, settings) else None

    def forward(self, picture: Float[Tensor, "batch joint"]) -> Float[Tensor, "batch rows width"]:
        """The picture's vector (batch, joint) → N + 1 rows of the text tower's width."""
        visual = picture if self.projection is None else self.projection(picture)
        prompts = self.prompts.expand(picture.shape[0], -1, -1)
        return torch.cat([prompts, visual[:, None].to(prompts.dtype)], dim=1)

    def enter(self, step: Step, backbone: Backbone, pair: Pair, *, blind: bool) -> Pair:
        """In front of the first text layer the rows join the text; every other step leaves the pair as it is.

        Args:
            blind: whether the prompts attend to one another alone. The picture's row attends to everything.
        """
        if step.text != 0:
            return pair
        rows = self(backbone.image.pool(pair.image))
        text = backbone.text.put(pair.text, rows, see_all=True)
        return Pair(pair.image, replace(text, blind=len(self.prompts) if blind else 0))

    @staticmethod
    def parameter_count(shape: Shape, settings: FusedInputSettings) -> int:
        """N·d_t, and (joint + 1)·d_t where the picture's vector is mapped."""
        mapped = (shape.joint + 1) * shape.text.width if _is_mapped(shape, settings) else 0
        return settings.length * shape.text.width + mapped


def _is_mapped(shape: Shape, settings: FusedInputSettings) -> bool:
    return settings.projection == "always" or shape.joint != shape.text.width

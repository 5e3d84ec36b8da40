"""P-CLIP: deep prompt tuning of both CLIP towers without any interaction (MITP §5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.ranges import Ranges, Whole
from interplay.towers.tokens import Shape, Side, Tokens, Tower


@dataclass(frozen=True)
class PClipSettings:
    """Settings of P-CLIP.

    Attributes:
        length: prompt tokens a layer and modality (paper: the data set's prompt length).
        depth: how many layers from the first are prompted; a shallower tower is prompted throughout. The paper
            does not say; 12 is the depth of CLIP's text towers.
    """

    length: int = 6
    depth: int = 12

    def __post_init__(self) -> None:
        if self.length < 1 or self.depth < 1:
            raise InterplayError("P-CLIP needs length >= 1 and depth >= 1.")


class PClip(Method):
    """Free prompts on every layer of both towers, N(0, 0.02), each replacing what the last layer made of its own.

    Behind the last prompted layer the slots run on. Deviation from released deep prompting for CLIP: prompts stand
    behind the first token and enter behind the image tower's first norm.
    """

    Settings: ClassVar[type[Any]] = PClipSettings
    ranges: ClassVar[Ranges] = {"length": Whole(1, 16, log=True), "depth": Whole(1, 12)}

    def __init__(self, shape: Shape, settings: PClipSettings) -> None:
        super().__init__(shape, settings)
        depths = {side: min(settings.depth, shape.side(side).depth) for side in ("image", "text")}
        self.image_prompts = nn.Parameter(
            torch.randn(depths["image"], settings.length, shape.image.width) * 0.02
        )
        self.text_prompts = nn.Parameter(
            torch.randn(depths["text"], settings.length, shape.text.width) * 0.02
        )

    def first_layer(self, side: Side) -> int:
        """Prompts enter in front of the first layer."""
        return 0

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Fresh prompts in front of every prompted layer."""
        prompts = self.image_prompts if side == "image" else self.text_prompts
        if i < len(prompts):
            tokens = tower.put(tokens, prompts[i])
        return tower.layer(i, tokens)

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Short prompts."""
        return {"length": 2}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: PClipSettings) -> int:
        """length · Σ over towers of min(depth, layers) · width."""
        sides = shape.image, shape.text
        return settings.length * sum(min(settings.depth, side.depth) * side.width for side in sides)

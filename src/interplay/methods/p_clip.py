"""P-CLIP: deep prompt tuning of both CLIP towers without any interaction (MITP §5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.settings import MethodSettings
from interplay.parts.gates import Beginning, every_layer, gate_count, gated, gates_of, placed
from interplay.ranges import Ranges, Whole
from interplay.towers.tokens import Shape, Side, Sides, Tokens, Tower, TowerShape, sides_of


@dataclass(frozen=True)
class PClipSettings(MethodSettings):
    """Settings of P-CLIP.

    Attributes:
        length: prompt tokens a layer and modality (paper: the data set's prompt length).
        depth: how many layers from the first are prompted; a shallower tower is prompted throughout. The paper
            does not say; 12 is the depth of CLIP's text towers.
        sides: which towers are prompted.
        start: `paper`, or `frozen`: behind gates that start closed, exactly as the frozen model (`Gates`).
    """

    length: int = 6
    depth: int = 12
    sides: Sides = "both"
    start: Beginning = "paper"

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"p-clip-vpt": {"sides": "image", "length": 8}}
    ranges: ClassVar[Ranges] = {"length": Whole(1, 16, log=True), "depth": Whole(1, 12)}

    def __post_init__(self) -> None:
        if self.length < 1 or self.depth < 1:
            raise InterplayError("P-CLIP needs length >= 1 and depth >= 1.")

    @property
    def prompted(self) -> tuple[Side, ...]:
        """The prompted sides."""
        return sides_of(self.sides)


class PClip(Method):
    """Free prompts on every layer of both towers, N(0, 0.02), each replacing what the last layer made of its own.

    After the last prompted layer the slots run on. As published, class texts are prompted too and images alone are
    compared with them: `head.class_text = prompted`, `head.query = image`; `p-clip-vpt` is deep prompting of the image
    tower alone (VPT-deep on CLIP, without a head of its own; Jia et al., ECCV 2022; Khattak et al., CVPR 2023).

    Deviations from released deep prompting for CLIP: prompts come after the first token (released: image prompts
    at the end), enter after the image tower's first norm, and take no positions from the text.
    """

    Settings = PClipSettings

    def __init__(self, shape: Shape, settings: PClipSettings) -> None:
        super().__init__(shape, settings)
        self.image_prompts: nn.Parameter | None = None
        self.text_prompts: nn.Parameter | None = None
        if "image" in settings.prompted:
            self.image_prompts = self._fresh(shape.image)
        if "text" in settings.prompted:
            self.text_prompts = self._fresh(shape.text)
        self.gates = gates_of(settings.start, shape, every_layer(shape, settings.prompted))
        self.traits = replace(self.traits, starts_frozen=settings.start == "frozen")

    def _fresh(self, tower: TowerShape) -> nn.Parameter:
        depth = min(self.settings.depth, tower.depth)
        return nn.Parameter(torch.randn(depth, self.settings.length, tower.width) * 0.02)

    def first_layer(self, side: Side) -> int:
        """Prompts enter before the first layer; a side without any is left alone."""
        return 0 if side in self.settings.prompted else self.shape.side(side).depth

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Fresh prompts before every prompted layer."""
        prompts = self.image_prompts if side == "image" else self.text_prompts
        if prompts is not None and i < len(prompts):
            last = i + 1 < len(prompts) or i + 1 == tower.shape.depth
            tokens = placed(self.gates, tower, tokens, prompts[i], last=last)
        return tower.layer(i, gated(self.gates, side, i, tokens))

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Short prompts."""
        return {"length": 2}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: PClipSettings) -> int:
        """length · Σ over prompted towers of min(depth, layers) · width, and the gates of all their layers."""
        sides = [shape.side(side) for side in settings.prompted]
        prompts = settings.length * sum(min(settings.depth, side.depth) * side.width for side in sides)
        return prompts + gate_count(settings.start, shape, every_layer(shape, settings.prompted))

"""MaPLe: deep text prompts, and image prompts that are linear maps of them (Khattak et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.parts.prompt_bank import PromptBank, Sessions
from interplay.parts.task_keys import Distance
from interplay.ranges import Ranges, Whole
from interplay.towers.tokens import Shape, Side, Tokens, Tower


@dataclass(frozen=True)
class MapleSettings:
    """Settings of MaPLe.

    Attributes:
        depth: prompted layers J, from the first; at most as deep as the shallower tower.
        length: prompt tokens of each modality (released: 2; LPI's comparison: 16).
        sessions: `own`: a set for each session, as LPI compares with it; `shared`: one set trained on and on.
        centres, distance: of the keys that tell a sample's session (`TaskKeys`).
    """

    depth: int = 9
    length: int = 2
    sessions: Sessions = "own"
    centres: int = 5
    distance: Distance = "l1"

    def __post_init__(self) -> None:
        if min(self.depth, self.length, self.centres) < 1:
            raise InterplayError("MaPLe needs depth, length and centres >= 1.")


class CoupledPrompts(nn.Module):
    """The set of one session: free text prompts N(0, 0.02²), and one linear map a layer to the image side."""

    def __init__(self, shape: Shape, depth: int, length: int) -> None:
        super().__init__()
        self.text = nn.Parameter(torch.randn(depth, length, shape.text.width) * 0.02)
        self.maps = nn.ModuleList(nn.Linear(shape.text.width, shape.image.width) for _ in range(depth))

    def forward(self, side: Side) -> Tensor:
        """The prompts of a side, (layers, length, width)."""
        if side == "text":
            return self.text
        return torch.stack([to_image(text) for to_image, text in zip(self.maps, self.text, strict=True)])


class Maple(Method):
    """Prompts on the first J layers of both towers, each layer's replacing what the last made of its own.

    text prompts P_i are free, image prompts are W_i·P_i + b_i. Behind layer J the slots run on. The image side is a
    function of parameters alone, so the towers stay uncoupled.

    As published, class texts are prompted too and images alone are compared with them: `head.class_text = prompted`,
    `head.query = image`, with the settings' own depth and length; there, `sessions` changes nothing.

    Deviations: prompts stand behind the first token on both sides (released: image prompts at the end) and the image
    ones enter behind the tower's first norm; text slots take no positions from the caption; P_0 starts as the others
    do, not at the words "a photo of a".
    """

    Settings: ClassVar[type[Any]] = MapleSettings
    ranges: ClassVar[Ranges] = {"depth": Whole(1, 12), "length": Whole(1, 16, log=True)}
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"maple-sequential": {"sessions": "shared"}}

    def __init__(self, shape: Shape, settings: MapleSettings) -> None:
        super().__init__(shape, settings)
        self.depth = depth = min(settings.depth, shape.image.depth, shape.text.depth)
        self.bank = PromptBank(
            lambda: CoupledPrompts(shape, depth, settings.length),
            settings.sessions,
            settings.centres,
            settings.distance,
        )

    def first_layer(self, side: Side) -> int:
        """Prompts enter in front of the first layer."""
        return 0

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Fresh prompts in front of every prompted layer."""
        assert self.bank is not None
        if i < self.depth:
            tokens = self.bank.hold(side, tokens)
            tokens = tower.put(tokens, tokens.held_for(i, self.settings.length))
        return tower.layer(i, tokens)

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Few short prompts."""
        return {"depth": 3, "length": 2}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: MapleSettings) -> int:
        """J·(L·d_l + (d_l + 1)·d_v) a session."""
        depth = min(settings.depth, shape.image.depth, shape.text.depth)
        text, image = shape.text.width, shape.image.width
        return depth * (settings.length * text + (text + 1) * image)

"""MaPLe: deep text prompts, and image prompts that are linear maps of them (Khattak et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.sessions import sessions_of
from interplay.methods.settings import MethodSettings
from interplay.parts.context import start_from_words
from interplay.parts.gates import Beginning, every_layer, gate_count, gates_of
from interplay.parts.prompt_bank import Fresh, PromptBank, Sessions
from interplay.parts.task_keys import Distance
from interplay.ranges import Ranges, Whole
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import Shape, Side, Tokens, Tower

WORDS = "a photo of a"
"""As released: the first prompts start at the first tokens of these, where they are no more."""


@dataclass(frozen=True)
class MapleSettings(MethodSettings):
    """Settings of MaPLe.

    Attributes:
        depth: prompted layers J, from the first; at most as deep as the shallower tower.
        length: prompt tokens of each modality (released: 2; LPI's comparison: 16).
        profile: `between`: prompts join the tokens before layer 0, and texts keep their positions; `released`: as
            in the released code, text prompts take the positions after the start token, image prompts come before
            the tower's first norm, and P_0 starts at the words "a photo of a". It knows no sessions.
        sessions: `own`: a set for each session, as LPI compares with it; `shared`: one set trained on and on.
        centres, distance: of the keys that tell a sample's session (`TaskKeys`).
        start: `paper`, or `frozen`: behind gates that start closed, exactly as the frozen model (`Gates`).
    """

    depth: int = 9
    length: int = 2
    profile: Literal["between", "released"] = "between"
    sessions: Sessions = "own"
    centres: int = 5
    distance: Distance = "l1"
    start: Beginning = "paper"

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "maple-sequential": {"sessions": "shared"},
        "maple-released": {"profile": "released", "sessions": "shared"},
    }
    ranges: ClassVar[Ranges] = {"depth": Whole(1, 12), "length": Whole(1, 16, log=True)}

    def __post_init__(self) -> None:
        if min(self.depth, self.length, self.centres) < 1:
            raise InterplayError("MaPLe needs depth, length and centres >= 1.")
        if self.profile == "released" and self.sessions == "own":
            raise InterplayError(
                "MaPLe as released knows no sessions: with profile = released set sessions = shared."
            )
        if self.profile == "released" and self.start == "frozen":
            raise InterplayError(
                "MaPLe as released moves the words of a text: with start = frozen set profile = between."
            )


class CoupledPrompts(nn.Module):
    """The set of one session: free text prompts N(0, 0.02²), and one linear map a layer to the image side.

    Args:
        start: as the settings'.
        alike: whether all maps but the first start from the same values, as released.
    """

    def __init__(
        self, shape: Shape, depth: int, length: int, start: Beginning, *, alike: bool = False
    ) -> None:
        super().__init__()
        self.text = nn.Parameter(torch.randn(depth, length, shape.text.width) * 0.02)
        self.maps = nn.ModuleList(nn.Linear(shape.text.width, shape.image.width) for _ in range(depth))
        for later in self.maps[2:] if alike else ():
            later.load_state_dict(self.maps[1].state_dict())
        self.gates = gates_of(start, shape, every_layer(shape))

    def forward(self, side: Side) -> Tensor:
        """The prompts of a side, (layers, length, width)."""
        if side == "text":
            return self.text
        return torch.stack([to_image(text) for to_image, text in zip(self.maps, self.text, strict=True)])


class Maple(Method):
    """Prompts on the first J layers of both towers, each layer's replacing what the last made of its own.

    text prompts P_i are free, image prompts are W_i·P_i + b_i. After layer J the slots run on. The image side is a
    function of parameters alone, so the towers stay uncoupled.

    As published: `maple-released` with `head.class_text = prompted`, `head.query = image` and, for the 2 tokens of the
    released configuration, `head.template = "of a {}."`: of its "a photo of a NAME." the prompts replace the first two
    words, and the others stay. (Image prompts come after the first token, there at the end: the vision tower sees no
    order.) In the default `profile = between` prompts join after the towers' embeddings, where sessions can share a
    front, and P_0 starts as the others do.
    """

    Settings = MapleSettings

    def __init__(self, shape: Shape, settings: MapleSettings) -> None:
        super().__init__(shape, settings)
        self.depth = depth = min(settings.depth, shape.image.depth, shape.text.depth)
        self.released = released = settings.profile == "released"
        taken = settings.length if released else 0
        self.traits = replace(self.traits, reserve=taken, starts_frozen=settings.start == "frozen")
        self.bank = PromptBank(
            Fresh(partial(CoupledPrompts, shape, depth, settings.length, settings.start, alike=released)),
            settings.centres,
            settings.distance,
        )
        self.sessions = sessions_of(self.name, self.bank, settings.sessions)

    def start_from(self, backbone: Backbone) -> None:
        """As released, the words that P_0 starts from, where it is short enough."""
        if self.released and self.settings.length <= len(WORDS.split()):
            start_from_words("MaPLe", self.bank.newest.get_parameter("text").detach()[0], backbone, WORDS)

    def first_layer(self, side: Side) -> int:
        """Layer 0: the first J are prompted."""
        return 0

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """As released, P_0 and its image are part of the input."""
        return self.bank.enter(side, tower, inputs, route) if self.released else tower.embed(inputs)

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Fresh prompts before every prompted layer."""
        prompted = range(self.released, self.depth)  # as released, the first ones are there already
        return self.bank.layer(side, i, tower, tokens, prompted, self.settings.length)

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Few layers, two tokens as released."""
        return {"depth": 3, "length": 2}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: MapleSettings) -> int:
        """J·(L·d_l + (d_l + 1)·d_v) a session, and the gates of all layers."""
        depth = min(settings.depth, shape.image.depth, shape.text.depth)
        text, image = shape.text.width, shape.image.width
        prompts = depth * (settings.length * text + (text + 1) * image)
        return prompts + gate_count(settings.start, shape, every_layer(shape))

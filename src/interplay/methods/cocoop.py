"""CoCoOp: context for texts that depends on the image (Zhou et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.sessions import ImageKeys
from interplay.methods.settings import MethodSettings
from interplay.methods.traits import Traits
from interplay.parts.context import in_front, start_from_words
from interplay.parts.gates import Beginning, every_layer, gate_count, gated, gates_of
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import Shape, Side, Tokens, Tower


@dataclass(frozen=True)
class CocoopSettings(MethodSettings):
    """Settings of CoCoOp.

    Attributes:
        length: context tokens M.
        init: words that the context starts from: the embeddings of their first M tokens. Empty: N(0, 0.02²).
        reduction: how many times narrower the meta-net is inside than the joint space.
        start: `paper`, or `frozen`: behind gates that start closed, exactly as the frozen model (`Gates`); the context
            takes no positions then.
    """

    length: int = 4
    init: str = "a photo of a"
    reduction: int = 16
    start: Beginning = "paper"

    def __post_init__(self) -> None:
        if min(self.length, self.reduction) < 1:
            raise InterplayError("CoCoOp needs length and reduction >= 1.")


def _hidden(joint: int, reduction: int) -> int:
    return max(1, joint // reduction)


class Cocoop(Method):
    """M context tokens before the words, v_m + π with π = W₂·ReLU(W₁·x + b₁) + b₂ from the image's key x.

    x is the frozen image tower's normalised vector, so every image reads every text anew. As published:
    `head.class_text = prompted`, `head.query = image`, `head.template = "{}."`. With a head that has no class texts
    the context comes before the sample's own text.

    A text without its image has no context, so nothing can be retrieved.

    Raises:
        InterplayError: a context that leaves no room for words.
    """

    Settings = CocoopSettings
    traits = Traits(coupling="by route", reads_keys=True)

    def __init__(self, shape: Shape, settings: CocoopSettings) -> None:
        super().__init__(shape, settings)
        self.gates = gates_of(settings.start, shape, every_layer(shape, ("text",)))
        taken = settings.length if self.gates is None else 0
        self.traits = replace(self.traits, reserve=taken, starts_frozen=not taken)
        self.sessions = ImageKeys(self.name)
        hidden = _hidden(shape.joint, settings.reduction)
        self.prompts = nn.Parameter(torch.randn(settings.length, shape.text.width) * 0.02)
        self.meta_net = nn.Sequential(
            nn.Linear(shape.joint, hidden), nn.ReLU(), nn.Linear(hidden, shape.text.width)
        )

    def start_from(self, backbone: Backbone) -> None:
        """The words that every image's context starts from (`start_from_words`, which may raise)."""
        start_from_words("CoCoOp", self.prompts, backbone, self.settings.init)

    def first_layer(self, side: Side) -> int:
        """Texts get their context with the embedding; images are keys, and left alone."""
        return 0 if side == "text" else self.shape.image.depth

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """A text with its image's context before its words."""
        if side == "image":
            return tower.embed(inputs)
        if route is None:
            raise ValueError(
                "CoCoOp's context depends on the image: give the walk the images' keys as routes"
            )
        shift: Tensor = self.meta_net(route.to(self.prompts.dtype))
        return in_front(tower, inputs, self.prompts + shift[:, None], kept=self.traits.starts_frozen)

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """The layer behind its gate."""
        return tower.layer(i, gated(self.gates, side, i, tokens))

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """A short context, and a meta-net wide enough that ReLU leaves some of it alive."""
        return {"length": 2, "reduction": 2}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: CocoopSettings) -> int:
        """M·d_l + h·(joint + 1) + d_l·(h + 1), h = joint // reduction, and the gates of all text layers."""
        hidden, width = _hidden(shape.joint, settings.reduction), shape.text.width
        gates = gate_count(settings.start, shape, every_layer(shape, ("text",)))
        return settings.length * width + hidden * (shape.joint + 1) + width * (hidden + 1) + gates

"""DCP: two streams of prompts that attend to each other from layer to layer (Liu et al., "deeply coupled prompts")."""

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
from interplay.parts.gates import Beginning, every_layer, gate_count, gates_of
from interplay.parts.prompt_bank import Fresh, PromptBank, Sessions
from interplay.parts.task_keys import Distance
from interplay.ranges import Choice, Ranges, Whole
from interplay.towers.activations import activation
from interplay.towers.tokens import Shape, Side, Tokens, Tower


@dataclass(frozen=True)
class DcpSettings(MethodSettings):
    """Settings of DCP.

    Attributes:
        depth: how often the prompts are exchanged; prompted layers are at most as many as the shallower tower has.
        length: prompt tokens of each modality.
        exchange: `first`: layer 0 takes what the first exchange makes, and each exchange has `heads` heads. `released`:
            the free prompts are part of the input (text ones with positions, image ones before the tower's first
            norm), layers 1 … depth take what the exchanges make, and each side's has as many heads as its tower.
        heads: attention heads of the exchange; both widths must be multiples of it.
        start: `paper`, or `frozen`: behind gates that start closed, exactly as the frozen model (`Gates`).
        sessions: `own`: a set for each session; `shared`: one set trained on and on.
        centres, distance: of the keys that tell a sample's session (`TaskKeys`).
    """

    depth: int = 9
    length: int = 16
    exchange: Literal["first", "released"] = "first"
    heads: int = 8
    start: Beginning = "paper"
    sessions: Sessions = "own"
    centres: int = 5
    distance: Distance = "l1"

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"dcp-sequential": {"sessions": "shared"}}
    ranges: ClassVar[Ranges] = {
        "depth": Whole(1, 12),
        "length": Whole(1, 16, log=True),
        "heads": Choice((2, 4, 8)),
    }

    def __post_init__(self) -> None:
        if min(self.depth, self.length, self.heads, self.centres) < 1:
            raise InterplayError("DCP needs depth, length, heads and centres >= 1.")
        if self.exchange == "released" and self.start == "frozen":
            raise InterplayError(
                "DCP as released moves the words of a text: with start = frozen set exchange = first."
            )


class PromptAttention(nn.Module):
    """p ← p + MHA(q = LN(W·other), k = v = LN(p)); p ← p + MLP(LN(p)), the perceptron four times as wide.

    One norm serves query and keys.
    """

    def __init__(self, width: int, other: int, heads: int) -> None:
        super().__init__()
        self.map = nn.Linear(other, width)
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm_out = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.activation = activation("quick_gelu")

    def forward(self, prompts: Tensor, other: Tensor) -> Tensor:
        """(length, width), (length, other width) → (length, width)."""
        own = self.norm(prompts)
        seen, _ = self.attention(self.norm(self.map(other)), own, own, need_weights=False)
        prompts = prompts + seen
        changed: Tensor = prompts + self.narrow(self.activation(self.widen(self.norm_out(prompts))))
        return changed

    @staticmethod
    def parameter_count(width: int, other: int) -> int:
        """width·(other + 1) + 4·width + 4·width·(width + 1) + 8·width² + 5·width."""
        return width * (other + 1) + 4 * width + 4 * width * (width + 1) + 8 * width**2 + 5 * width


class AttendingPrompts(nn.Module):
    """The set of one session: the streams' first prompts N(0, 0.02²), and one exchange that serves all layers."""

    def __init__(self, shape: Shape, settings: DcpSettings, depth: int) -> None:
        super().__init__()
        image, text = shape.image.width, shape.text.width
        self.released = settings.exchange == "released"
        self.depth = depth
        self.image = nn.Parameter(torch.randn(settings.length, image) * 0.02)
        self.text = nn.Parameter(torch.randn(settings.length, text) * 0.02)
        self.to_image = PromptAttention(image, text, _heads(shape, "image", settings))
        self.to_text = PromptAttention(text, image, _heads(shape, "text", settings))
        self.gates = gates_of(settings.start, shape, every_layer(shape))

    def forward(self, side: Side) -> Tensor:
        """The prompts of a side, (layers, length, width); both streams run side by side."""
        image, text = self.image, self.text
        found: list[Tensor] = [image if side == "image" else text] if self.released else []
        for _ in range(self.depth - len(found)):
            image, text = self.to_image(image, text), self.to_text(text, image)
            found.append(image if side == "image" else text)
        return torch.stack(found)


class Dcp(Method):
    """Before each of the first layers both modalities' prompts attend to each other, then overwrite their slots.

    Deviation: the streams are the free prompts alone. In the paper an exchange reads what the last layer made of the
    prompts, averaged over a batch of images and over all classes: that would make an embedding depend on its batch
    mates, and retrieval encodes one side without the other. (The released code computes a text stream and never injects
    it.) So `exchange = released` is the released exchange at the released layers, and not the released model;
    docs/methods/index.md says how far apart they are.

    Raises:
        InterplayError: with `exchange = first`, a width that the heads do not divide.
    """

    Settings = DcpSettings

    def __init__(self, shape: Shape, settings: DcpSettings) -> None:
        super().__init__(shape, settings)
        self.released = released = settings.exchange == "released"
        if not released and (shape.image.width % settings.heads or shape.text.width % settings.heads):
            raise InterplayError(
                f"DCP: {settings.heads} heads do not divide the widths {shape.image.width} and {shape.text.width}."
            )
        reserve, frozen = settings.length if released else 0, settings.start == "frozen"
        self.traits = replace(self.traits, reserve=reserve, starts_frozen=frozen)
        self.depth = depth = min(settings.depth + released, shape.image.depth, shape.text.depth)
        make = Fresh(partial(AttendingPrompts, shape, settings, depth))
        self.bank = PromptBank(make, settings.centres, settings.distance)
        self.sessions = sessions_of(self.name, self.bank, settings.sessions)

    def first_layer(self, side: Side) -> int:
        """Both streams begin at layer 0."""
        return 0

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """As released, the free prompts are part of the input."""
        return self.bank.enter(side, tower, inputs, route) if self.released else tower.embed(inputs)

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """The stream's prompts overwrite the slots before every prompted layer; it runs once, before the first."""
        prompted = range(self.released, self.depth)  # as released, the first ones are there already
        return self.bank.layer(side, i, tower, tokens, prompted, self.settings.length)

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Few exchanges, and heads that divide both widths."""
        return {"depth": 3, "length": 2, "heads": 4}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: DcpSettings) -> int:
        """L·(d_v + d_l) and both exchanges, a session, and the gates of all layers."""
        image, text = shape.image.width, shape.text.width
        exchanges = PromptAttention.parameter_count(image, text) + PromptAttention.parameter_count(
            text, image
        )
        gates = gate_count(settings.start, shape, every_layer(shape))
        return settings.length * (image + text) + exchanges + gates


def _heads(shape: Shape, side: Side, settings: DcpSettings) -> int:
    """Attention heads of the exchange that makes a side's prompts."""
    heads: int = shape.side(side).heads if settings.exchange == "released" else settings.heads
    return heads

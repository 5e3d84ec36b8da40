"""S-Prompts: independent prompts for every session, at the input of both towers (Wang et al., NeurIPS 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.sessions import sessions_of
from interplay.methods.settings import MethodSettings
from interplay.parts.context import in_front
from interplay.parts.gates import Beginning, every_layer, gate_count, gates_of
from interplay.parts.prompt_bank import Fresh, PromptBank, Sessions
from interplay.parts.task_keys import Distance
from interplay.ranges import Ranges, Whole
from interplay.towers.tokens import Shape, Side, Tokens, Tower


@dataclass(frozen=True)
class SPromptsSettings(MethodSettings):
    """Settings of S-Prompts.

    Attributes:
        image_length: image prompts of a session. LPI compares with 16; the released code has 10.
        text_length: context tokens of a session before the caption.
        sessions: `own`: prompts of its own for each session (the method); `shared`: the same prompts trained on
            and on (sequential fine-tuning).
        centres, distance: of the keys that tell a sample's session (`TaskKeys`).
        start: `paper`, or `frozen`: behind gates that start closed, exactly as the frozen model (`Gates`); text context
            takes no positions then.
    """

    image_length: int = 16
    text_length: int = 16
    sessions: Sessions = "own"
    centres: int = 5
    distance: Distance = "l1"
    start: Beginning = "paper"

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"s-prompts-sequential": {"sessions": "shared"}}
    ranges: ClassVar[Ranges] = {
        "image_length": Whole(1, 16, log=True),
        "text_length": Whole(1, 16, log=True),
    }

    def __post_init__(self) -> None:
        if min(self.image_length, self.text_length, self.centres) < 1:
            raise InterplayError("S-Prompts needs image_length, text_length and centres >= 1.")


class InputPrompts(nn.Module):
    """The set of one session: prompts that enter once a side, so there is one layer of them."""

    def __init__(self, shape: Shape, settings: SPromptsSettings) -> None:
        super().__init__()
        image = torch.empty(settings.image_length, shape.image.width)
        self.image = nn.Parameter(nn.init.kaiming_uniform_(image, a=5**0.5))
        self.text = nn.Parameter(torch.randn(settings.text_length, shape.text.width) * 0.02)
        self.gates = gates_of(settings.start, shape, every_layer(shape))

    def forward(self, side: Side) -> Tensor:
        """The prompts of a side, (1, length, width)."""
        return (self.image if side == "image" else self.text)[None]


class SPrompts(Method):
    """Image prompts after the class token, before the first norm; text context before the positions.

    Every session has its own set; a sample takes the set of the session whose k-means centre is nearest to its key.
    Deviation: trained by the contrastive loss of retrieval instead of the cross-entropy over a session's classes, so
    the context comes before whole captions.
    """

    Settings = SPromptsSettings

    def __init__(self, shape: Shape, settings: SPromptsSettings) -> None:
        super().__init__(shape, settings)
        frozen = settings.start == "frozen"
        self.traits = replace(
            self.traits, reserve=0 if frozen else settings.text_length, starts_frozen=frozen
        )
        make = Fresh(partial(InputPrompts, shape, settings))
        self.bank = PromptBank(make, settings.centres, settings.distance)
        self.sessions = sessions_of(self.name, self.bank, settings.sessions)

    def first_layer(self, side: Side) -> int:
        """Prompts enter with the input."""
        return 0

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """The input with its session's prompts."""
        context = self.bank.stream(side, route).squeeze(-3)
        if side == "image":
            return tower.embed(inputs, context=context)
        return in_front(tower, inputs, context, kept=self.traits.starts_frozen)

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """The layer behind its gate."""
        return tower.layer(i, self.bank.gated(side, i, tokens))

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Short prompts."""
        return {"image_length": 2, "text_length": 2}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: SPromptsSettings) -> int:
        """L_v·d_v + L_l·d_l a session, and the gates of all layers."""
        prompts = settings.image_length * shape.image.width + settings.text_length * shape.text.width
        return prompts + gate_count(settings.start, shape, every_layer(shape))

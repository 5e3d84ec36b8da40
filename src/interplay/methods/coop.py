"""CoOp: learned context in place of the words around a class name (Zhou et al., IJCV 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.settings import MethodSettings
from interplay.parts.context import in_front, start_from_words
from interplay.parts.gates import Beginning, every_layer, gate_count, gated, gates_of
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import Shape, Side, Tokens, Tower


@dataclass(frozen=True)
class CoopSettings(MethodSettings):
    """Settings of CoOp.

    Attributes:
        length: context tokens M.
        position: where the text's own words stand. `end`: after the context; `middle`: the first M // 2 context
            tokens before them, the others after; `front`: before the context.
        init: words that the context starts from, as "a photo of a" with length = 4: the embeddings of their first M
            tokens. Empty: N(0, 0.02²).
        start: `paper`, or `frozen`: behind gates that start closed, exactly as the frozen model (`Gates`); the context
            takes no positions then, and comes before the words.
    """

    length: int = 16
    position: Literal["end", "middle", "front"] = "end"
    init: str = ""
    start: Beginning = "paper"

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InterplayError("CoOp needs length >= 1.")
        if self.start == "frozen" and self.position != "end":
            raise InterplayError(
                "CoOp's context after words moves their end token: with start = frozen set position = end."
            )


class Coop(Method):
    """M context tokens among the words of every text, before the position embeddings; images are left alone.

    A text is SOS, v_1 … v_M, words, EOT. As published: `head.class_text = prompted`, `head.query = image`,
    `head.template = "{}."`; the context is then learned from p(k | x) ∝ exp(cos(x, t_k) / τ). With a head that has no
    class texts the context stands among the words of the sample's own text.

    Deviations: one context for all classes (`class-specific` contexts belong to a fixed list of classes, which a
    method does not know); the full stop of the template counts as one of the words, so with `middle` and `front` the
    context comes after it.

    Raises:
        InterplayError: a context that leaves no room for words.
    """

    Settings = CoopSettings

    def __init__(self, shape: Shape, settings: CoopSettings) -> None:
        super().__init__(shape, settings)
        frozen = settings.start == "frozen"
        self.traits = replace(self.traits, reserve=0 if frozen else settings.length, starts_frozen=frozen)
        self.split = {"end": None, "middle": settings.length // 2, "front": 0}[settings.position]
        self.prompts = nn.Parameter(torch.randn(settings.length, shape.text.width) * 0.02)
        self.gates = gates_of(settings.start, shape, every_layer(shape, ("text",)))

    def start_from(self, backbone: Backbone) -> None:
        """The words that the context starts from.

        Raises:
            InterplayError: they have fewer tokens than the context.
        """
        start_from_words("CoOp", self.prompts, backbone, self.settings.init)

    def first_layer(self, side: Side) -> int:
        """The context enters with the text; the image tower is left alone."""
        return 0 if side == "text" else self.shape.image.depth

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """A text with the context among its words."""
        if side == "image":
            return tower.embed(inputs)
        if self.split is None:
            return in_front(tower, inputs, self.prompts, kept=self.traits.starts_frozen)
        return tower.embed(inputs, context=self.prompts, split=self.split)

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """The layer behind its gate."""
        return tower.layer(i, gated(self.gates, side, i, tokens))

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """A short context."""
        return {"length": 3}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: CoopSettings) -> int:
        """M·d_l, and the gates of all text layers."""
        gates = gate_count(settings.start, shape, every_layer(shape, ("text",)))
        return settings.length * shape.text.width + gates

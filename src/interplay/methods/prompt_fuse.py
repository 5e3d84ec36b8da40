"""PromptFuse and BlindPrompt: a picture's vector and prompts as input of a frozen text tower (Liang et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.settings import MethodSettings
from interplay.methods.traits import Traits
from interplay.parts.gates import Beginning, every_layer, gate_count, gated, gates_of
from interplay.towers.tokens import Shape, Side, Tokens, Tower, Towers
from interplay.towers.walk import Pair, Step

Projection = Literal["auto", "always"]


@dataclass(frozen=True)
class PromptFuseSettings(MethodSettings):
    """Settings of PromptFuse and BlindPrompt.

    Attributes:
        length: prompt tokens N (paper: 20).
        projection: when a trained linear map takes the picture's vector to the text tower's width: `auto`: only where
            the joint space is not as wide; `always`.
        blind: whether the prompts attend to one another alone (BlindPrompt).
        start: `paper`, or `frozen`: behind gates that start closed, where the text tower is the frozen one (`Gates`).
    """

    length: int = 20
    projection: Projection = "auto"
    blind: bool = False
    start: Beginning = "paper"

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"blind_prompt": {"blind": True}}

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InterplayError("PromptFuse and BlindPrompt need length >= 1.")


class FusedInput(nn.Module):
    """The rows that come before a text: N free prompts, N(0, 0.02²), then the picture's pooled vector.

    Args:
        shape: geometry of the towers.
        settings: how many prompts, and whether the vector is mapped.
    """

    def __init__(self, shape: Shape, settings: PromptFuseSettings) -> None:
        super().__init__()
        self.blind = settings.blind
        self.prompts = nn.Parameter(torch.randn(settings.length, shape.text.width) * 0.02)
        self.projection = nn.Linear(shape.joint, shape.text.width) if _is_mapped(shape, settings) else None

    def forward(self, picture: Float[Tensor, "batch joint"]) -> Float[Tensor, "batch rows width"]:
        """The picture's vector (batch, joint) → N + 1 rows of the text tower's width."""
        visual = picture if self.projection is None else self.projection(picture)
        prompts = self.prompts.expand(picture.shape[0], -1, -1)
        return torch.cat([prompts, visual[:, None].to(prompts.dtype)], dim=1)

    def enter(self, step: Step, backbone: Towers, pair: Pair) -> Pair:
        """Before the first text layer the rows join the text; every other step leaves the pair as it is.

        Blind prompts attend to one another alone; the picture's row attends to everything.
        """
        if step.text != 0:
            return pair
        rows = self(backbone.image.pool(pair.image))
        text = backbone.text.put(pair.text, rows, see_all=True)
        return Pair(pair.image, replace(text, blind=len(self.prompts) if self.blind else 0))

    @staticmethod
    def parameter_count(shape: Shape, settings: PromptFuseSettings) -> int:
        """N·d_t, and (joint + 1)·d_t where the picture's vector is mapped."""
        mapped = (shape.joint + 1) * shape.text.width if _is_mapped(shape, settings) else 0
        return settings.length * shape.text.width + mapped


def _is_mapped(shape: Shape, settings: PromptFuseSettings) -> bool:
    return settings.projection == "always" or shape.joint != shape.text.width


class PromptFuse(Method):
    """The text tower reads [N prompts; picture; text]; the prompts are all that is trained (Findings of ACL 2022).

    The picture is one token, the frozen image tower's pooled vector as it is. Prompts enter at the input alone and,
    like the picture's row, attend to everything, as in the paper's bidirectional language model; text rows stay
    causal. In BlindPrompt they attend to one another alone: picture and text read them, so they can encode how the
    modalities are aligned but nothing of the input; the mask is checked against one that is written row by row.

    A reimplementation: our reading of the paper, without its code. Deviations: CLIP's text tower is the language model,
    and its end token, as the text vector, stands in for the mask token; the rows come after the start token, which
    cannot see them, and take no positions of the caption; the head is one of this library's, and may read the bare
    image vector too.
    """

    Settings = PromptFuseSettings
    traits = Traits(coupling="pair", order="image_first")

    def __init__(self, shape: Shape, settings: PromptFuseSettings) -> None:
        super().__init__(shape, settings)
        self.input = FusedInput(shape, settings)
        self.gates = gates_of(settings.start, shape, every_layer(shape, ("text",)))
        self.traits = replace(self.traits, starts_frozen=settings.start == "frozen")

    def first_layer(self, side: Side) -> int:
        """The image tower is left alone; texts get their prompts before the first layer."""
        return self.shape.image.depth if side == "image" else 0

    def pair_layer(self, step: Step, backbone: Towers, pair: Pair) -> Pair:
        """The layers are left alone, but for what comes before the first text layer."""
        return super().pair_layer(step, backbone, self.input.enter(step, backbone, pair))

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """The layer behind its gate."""
        return tower.layer(i, gated(self.gates, side, i, tokens))

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Few prompts."""
        return {"length": 3}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: PromptFuseSettings) -> int:
        """N·d_t, and (joint + 1)·d_t where the picture's vector is mapped: 15,360 at N = 20, d_t = joint = 768.

        With start = frozen the gates of all text layers come on top.
        """
        gates = gate_count(settings.start, shape, every_layer(shape, ("text",)))
        return FusedInput.parameter_count(shape, settings) + gates

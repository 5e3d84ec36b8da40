"""DualPrompt: shared and per-session prefixes of the keys and values (Wang et al., ECCV 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.sessions import LearnedKeys
from interplay.methods.settings import MethodSettings
from interplay.methods.traits import Traits
from interplay.parts.gates import Beginning, GatedLayers, gate_count, gated, gates_of
from interplay.parts.prompt_bank import Fresh, PromptBank
from interplay.ranges import Choice, Ranges, Real, Whole
from interplay.towers.tokens import Shape, Side, Tokens, Tower
from interplay.towers.walk import Keys


@dataclass(frozen=True)
class DualPromptSettings(MethodSettings):
    """Settings of DualPrompt.

    Attributes:
        general_layers: layers (from 1) with the prefix that all sessions share.
        expert_layers: layers (from 1) with the prefix of the session.
        length: prefix tokens of keys, and as many of values.
        sides: `image` (the method), or `both` towers.
        pull: λ, how strongly a session's keys are drawn to the keys of its samples.
        start: `paper`, or `frozen`: behind gates that start closed, exactly as the frozen model (`Gates`).
    """

    general_layers: tuple[int, ...] = (1, 2)
    expert_layers: tuple[int, ...] = (3, 4, 5)
    length: int = 5
    sides: Literal["image", "both"] = "image"
    pull: float = 1.0
    start: Beginning = "paper"

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"dual-prompt-both": {"sides": "both"}}
    ranges: ClassVar[Ranges] = {
        "general_layers": Choice(((1, 2), (1,))),
        "expert_layers": Choice(((3, 4, 5), (3, 4, 5, 6, 7, 8), (10, 11, 12))),
        "length": Whole(1, 20, log=True),
        "pull": Real(0.01, 1.0, log=True),
    }

    def __post_init__(self) -> None:
        both = (*self.general_layers, *self.expert_layers)
        if self.length < 1 or not self.expert_layers or min(both) < 1 or len(set(both)) < len(both):
            raise InterplayError(
                "DualPrompt needs length >= 1 and different layers from 1, some of them expert_layers."
            )


class Expert(nn.Module):
    """The set of one session: prefixes of keys and values for its layers, and its key on each side; all U(−1, 1)."""

    def __init__(self, shape: Shape, settings: DualPromptSettings) -> None:
        super().__init__()
        layers, length = len(settings.expert_layers), 2 * settings.length
        self.image = nn.Parameter(torch.rand(layers, length, shape.image.width) * 2 - 1)
        self.text: nn.Parameter | None = None
        if settings.sides == "both":
            self.text = nn.Parameter(torch.rand(layers, length, shape.text.width) * 2 - 1)
        sides = _prompted(settings)
        self.keys = nn.ParameterDict({side: nn.Parameter(torch.rand(shape.joint) * 2 - 1) for side in sides})
        self.gates = gates_of(settings.start, shape, _at(settings.expert_layers, sides))

    def forward(self, side: Side) -> Tensor:
        """(layers, 2·length, width): first the keys' prefix, then the values'."""
        prefixes = self.image if side == "image" else self.text
        assert prefixes is not None
        return prefixes


class DualPrompt(Method):
    """A prefix that all sessions train on the first layers, and one of each session's own after them.

    In training a session uses its own expert and draws its key to its samples: base + λ·mean(1 − cos(key, query)). At
    prediction a sample takes the expert of the nearest session key (cosine). The shared prefix goes on changing, so
    old sessions are not left alone. With `sides = both` the texts have prefixes and session keys of their own, and
    the pull is summed over the sides.

    Deviations: session keys live in the joint space; the contrastive loss of retrieval instead of masked
    classification; no class head; 1 − cos for −cos, a constant apart. Keys and values are two halves of one tensor,
    the same for every sample (the PyTorch port gives half a batch the keys' prefix twice).

    Raises:
        InterplayError: a layer that the tower lacks.
    """

    Settings = DualPromptSettings
    traits = Traits(reads_keys=True)

    def __init__(self, shape: Shape, settings: DualPromptSettings) -> None:
        super().__init__(shape, settings)
        self.prompted = _prompted(settings)
        self.traits = replace(self.traits, starts_frozen=settings.start == "frozen")
        deepest = max((*settings.general_layers, *settings.expert_layers))
        for side in self.prompted:
            if deepest > shape.side(side).depth:
                raise InterplayError(
                    f"DualPrompt's layer {deepest} does not exist: the {side} tower has {shape.side(side).depth}."
                )
        layers, length = len(settings.general_layers), 2 * settings.length
        self.general = nn.ParameterDict(
            {
                side: nn.Parameter(torch.rand(layers, length, shape.side(side).width) * 2 - 1)
                for side in self.prompted
            }
        )
        self.gates = gates_of(settings.start, shape, _at(settings.general_layers, self.prompted))
        self.bank = PromptBank(Fresh(partial(Expert, shape, settings)), centres=1)
        self.sessions = LearnedKeys(self.name, self.bank, self.prompted)

    def first_layer(self, side: Side) -> int:
        """The first layer with a prefix."""
        if side not in self.prompted:
            return self.shape.side(side).depth
        first: int = min((*self.settings.general_layers, *self.settings.expert_layers))
        return first - 1

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """The layer's own prefix joins its keys and values."""
        s = self.settings
        whole: Tensor | None = None
        if side in self.prompted and i + 1 in s.general_layers:
            whole = self.general[side][s.general_layers.index(i + 1)]
        elif side in self.prompted and i + 1 in s.expert_layers:
            tokens = self.bank.hold(side, tokens)
            whole = tokens.held_for(s.expert_layers.index(i + 1), 2 * s.length)
        if whole is not None:
            keys, values = whole[..., : s.length, :], whole[..., s.length :, :]
            tokens = tokens.for_next(prefix=(keys, values))
        return tower.layer(i, gated(self.gates, side, i, self.bank.gated(side, i, tokens)))

    def objective(self, base: Tensor, keys: Keys | None) -> Tensor:
        """base + λ·mean(1 − cos(session key, queries)), summed over the prompted sides."""
        assert keys is not None
        total = base
        for side in self.prompted:
            own: Tensor = self.bank.newest.keys[side]  # type: ignore[index]
            total = total + self.settings.pull * (1 - keys.side(side) @ F.normalize(own, dim=-1)).mean()
        return total

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Layers that four-layer towers have."""
        return {"general_layers": (1,), "expert_layers": (2, 3), "length": 2}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: DualPromptSettings) -> int:
        """2·L·(general + expert layers)·width, a session key and gates for each side; the general part only once."""
        both = (*settings.general_layers, *settings.expert_layers)
        sides = _prompted(settings)
        prompts = sum(
            2 * settings.length * len(both) * shape.side(side).width + shape.joint for side in sides
        )
        return prompts + gate_count(settings.start, shape, _at(both, sides))


def _prompted(settings: DualPromptSettings) -> tuple[Side, ...]:
    """The sides with prefixes."""
    return ("image",) if settings.sides == "image" else ("image", "text")


def _at(layers: tuple[int, ...], sides: tuple[Side, ...]) -> GatedLayers:
    """Layers that are counted from 1, on each side."""
    return {side: [number - 1 for number in layers] for side in sides}

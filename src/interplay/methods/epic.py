"""EPIC: efficient prompt interaction for text-image classification (Yu et al., 2025).

Only the abstract and public summaries of the paper were available: temporal prompts on intermediate layers and a
similarity-based prompt interaction, without MITP's memory framing. This module is our reading of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.settings import MethodSettings
from interplay.methods.traits import Traits
from interplay.parts.gates import Beginning, gate_count, gates_of
from interplay.parts.memory_hub import activation, apply_weights, keep_norm
from interplay.parts.perceptron import perceptron, perceptron_count
from interplay.parts.similarity import SimilarityShape, SimilarityType, one_is_certain
from interplay.parts.temporal_prompts import TEMPORAL_RANGES, TINY_EXCHANGE, Prompts, Schedule, Visibility
from interplay.towers.tokens import Shape, Side, Towers
from interplay.towers.walk import Align, Pair, Step


@dataclass(frozen=True)
class EpicSettings(MethodSettings):
    """Settings of EPIC; those that MITP has too mean the same.

    Attributes:
        layers: interaction layers, from 1.
        length: prompt tokens a modality.
        similarity, similarity_shape: how prompts are compared.
        start: `frozen`: prompts stand behind gates that start closed; `paper`: without gates.
        renormalise: whether prompts keep their lengths in the exchange.
        visibility: what prompt rows see in the causal text tower.
        align: how the layers of unequally deep towers are paired.
        hidden: hidden width of the two perceptrons. 168, as MITP's, trains 614,992 parameters on ViT-L/14, 0.14 % of
            it, where the abstract says "about 1 %": 1,189 gives 1.00 %; 554 gives the 2.0 M (0.47 %) that MITP's paper
            calls about 1 % too. What EPIC's authors counted is not known.
        carry: whether the last exchange still makes prompts for the layer after it.
    """

    layers: tuple[int, ...] = (7, 8, 9)
    length: int = 6
    similarity: SimilarityType = "cosine"
    similarity_shape: SimilarityShape = "token"
    start: Beginning = "paper"
    renormalise: bool = False
    visibility: Visibility = "full"
    align: Align = "index"
    hidden: int = 168
    carry: bool = True

    ranges = TEMPORAL_RANGES

    def __post_init__(self) -> None:
        if self.length < 1 or self.hidden < 1:
            raise InterplayError("EPIC needs length >= 1 and hidden >= 1.")
        if self.length == 1 and one_is_certain(self.similarity, self.similarity_shape):
            raise InterplayError("EPIC weighs tokens against each other: it needs length >= 2.")


class Epic(Method):
    """Temporal prompts with a similarity-driven exchange: p_m ← p_m + r_m·p̃_{m'}.

    p̃_{m'} = MLP_{m'→m}(p_{m'}) and r_m = softmax(ReLU(sim(p_m, p̃_{m'}))): each modality takes in what is relevant of
    the other and keeps its own context. Both modalities start from free prompts, N(0, 0.02).

    Raises:
        InterplayError: an interaction layer that a tower lacks; an exchange that no layer would read.
    """

    Settings = EpicSettings
    traits = Traits(coupling="pair")

    def __init__(self, shape: Shape, settings: EpicSettings) -> None:
        super().__init__(shape, settings)
        self.traits = replace(self.traits, order=settings.align, starts_frozen=settings.start == "frozen")
        self.schedule = Schedule(shape, settings.layers, settings.align, carry=settings.carry)
        if not self.schedule.exchanges:
            raise InterplayError(
                "EPIC with one interaction layer exchanges nothing unless the prompts are carried into the layer "
                "after it: set carry = true and choose a layer before the last one."
            )
        image, text = shape.image.width, shape.text.width
        self.image_prompts = nn.Parameter(torch.randn(settings.length, image) * 0.02)
        self.text_prompts = nn.Parameter(torch.randn(settings.length, text) * 0.02)
        self.text_to_image = perceptron(text, settings.hidden, image)
        self.image_to_text = perceptron(image, settings.hidden, text)
        self.gates = gates_of(settings.start, shape, self.schedule.layers)

    def first_layer(self, side: Side) -> int:
        """The first layer whose prompts are exchanged."""
        return self.schedule.first(side)

    def _given(self, at: int) -> Prompts | None:
        return None if at else (self.image_prompts, self.text_prompts)

    def _exchange(self, before: Prompts, after: Prompts) -> Prompts:
        s = self.settings
        received = []
        for own, other in (
            (after[0], self.text_to_image(after[1])),
            (after[1], self.image_to_text(after[0])),
        ):
            relevance = activation(own, other, s.similarity, s.similarity_shape, cross=True)
            new = own + apply_weights(relevance, other, s.similarity_shape)
            received.append(keep_norm(new, own) if s.renormalise else new)
        return received[0], received[1]

    def pair_layer(self, step: Step, backbone: Towers, pair: Pair) -> Pair:
        """Prompts enter and leave by the schedule."""
        visibility = self.settings.visibility
        return self.schedule.take(step, backbone, pair, self._given, self._exchange, visibility, self.gates)

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Two interaction layers that small towers have."""
        return TINY_EXCHANGE

    @classmethod
    def parameter_count(cls, shape: Shape, settings: EpicSettings) -> int:
        """L·(d_t + d_v), two perceptrons, and the gates."""
        image, text = shape.image.width, shape.text.width
        schedule = Schedule(shape, settings.layers, settings.align, carry=settings.carry)
        both = perceptron_count(text, settings.hidden, image) + perceptron_count(image, settings.hidden, text)
        return settings.length * (image + text) + both + gate_count(settings.start, shape, schedule.layers)

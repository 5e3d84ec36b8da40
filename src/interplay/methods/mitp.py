"""MITP: memory-inspired temporal prompt interaction for text-image classification (Yu et al.).

Temporal prompts live on a few interaction layers of a frozen dual encoder. After each of them the prompts of
the two modalities are blended by a memory hub, and what comes out are the next layer's prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.settings import MethodSettings
from interplay.methods.traits import Traits
from interplay.parts.gates import Beginning, gate_count, gates_of
from interplay.parts.memory_hub import MemoryHub
from interplay.parts.perceptron import perceptron, perceptron_count
from interplay.parts.similarity import SimilarityShape, SimilarityType, one_is_certain
from interplay.parts.temporal_prompts import TEMPORAL_RANGES, TINY_EXCHANGE, Prompts, Schedule, Visibility
from interplay.towers.tokens import Shape, Side, Towers
from interplay.towers.walk import Align, Pair, Step


@dataclass(frozen=True)
class MitpSettings(MethodSettings):
    """Settings of MITP; letters name the open points of the specification.

    Attributes:
        layers: interaction layers, from 1. The paper's best: (4, 5, 6) on UPMC-Food101, (7, 8, 9) elsewhere.
        length: prompt tokens a modality (paper: 3 on UPMC-Food101, 2 on MM-IMDB, 6 on SNLI-VE).
        interaction: `hub` (the full method), `naive` (Table 2, Model 2: each modality adds a perceptron's
            reading of the other), `none` (Model 3: free prompts on every interaction layer, no exchange).
        similarity: `cosine`, `mmd` or `cov-pearson`.
        similarity_shape: (b) whether tokens are compared one to one, each with each, or channel by channel.
        hub_input: (a) what is exchanged: what the layer made of the prompts (`acquired`), or what went in
            (`given`, eq. 3 as printed).
        renormalise: (c) whether prompts leave the hub with the lengths that they entered it with.
        visibility: (d) `full`: in the causal text tower prompt rows see every token of the text, token rows stay
            causal. `causal`: prompts see the start token alone (paper-literal).
        align: (g) vision layer i beside text layer i, or at the same relative depth.
        hidden: (h) hidden width of the hub's perceptrons; 168 gives 2.0 M parameters on ViT-L/14.
        carry: whether the hub of the last interaction layer makes prompts for the layer after it.
        start: `paper`, or `frozen`: behind gates that start closed, exactly as the frozen model (`Gates`).
    """

    layers: tuple[int, ...] = (7, 8, 9)
    length: int = 6
    interaction: Literal["hub", "naive", "none"] = "hub"
    similarity: SimilarityType = "cosine"
    similarity_shape: SimilarityShape = "token"
    hub_input: Literal["acquired", "given"] = "acquired"
    renormalise: bool = True
    visibility: Visibility = "full"
    align: Align = "index"
    hidden: int = 168
    carry: bool = True
    start: Beginning = "paper"

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "mitp-small": {"layers": (8,)},
        "mitp-naive": {"interaction": "naive"},
        "mitp-prompts": {"interaction": "none"},
        "mitp-mmd": {"similarity": "mmd"},
        "mitp-cov-pearson": {"similarity": "cov-pearson"},
    }
    ranges = TEMPORAL_RANGES

    def __post_init__(self) -> None:
        if self.length < 1 or self.hidden < 1:
            raise InterplayError("MITP needs length >= 1 and hidden >= 1.")
        if (
            self.interaction == "hub"
            and self.length == 1
            and one_is_certain(self.similarity, self.similarity_shape)
        ):
            raise InterplayError("MITP's hub weighs tokens against each other: it needs length >= 2.")


class Mitp(Method):
    """Temporal prompts and a memory hub on a few layers (MITP eq. 1–6).

    The first text prompt is free, N(0, 0.02); the first image prompt is W·p_t + b (eq. 1). On an interaction
    layer the prompts stand among the tokens, the frozen layer runs (eq. 2), and the hub makes the next prompts
    (eq. 3–6). One set of hub weights serves all layers.

    Deviations: the prompts come after the first token, not before it (the vision tower sees no order; in the
    text tower the start token alone cannot see them). Where interaction layers leave a gap, the hub's output waits
    for the next one.

    Raises:
        InterplayError: an interaction layer that a tower lacks; a hub whose output no layer would read.
    """

    Settings = MitpSettings
    traits = Traits(coupling="pair")

    def __init__(self, shape: Shape, settings: MitpSettings) -> None:
        super().__init__(shape, settings)
        self.traits = replace(self.traits, order=settings.align, starts_frozen=settings.start == "frozen")
        exchanged = settings.interaction != "none"
        self.schedule = Schedule(shape, settings.layers, settings.align, carry=settings.carry and exchanged)
        if exchanged and not self.schedule.exchanges:
            raise InterplayError(
                "MITP with one interaction layer exchanges nothing unless the prompts are carried into the layer "
                "after it: set carry = true and choose a layer before the last one, or interaction = none."
            )
        image, text = shape.image.width, shape.text.width
        hidden = settings.hidden
        free = 1 if exchanged else len(settings.layers)
        self.text_prompts = nn.Parameter(torch.randn(free, settings.length, text) * 0.02)
        self.image_prompts: nn.Parameter | None = None
        self.first_image: nn.Linear | None = None
        self.hub: MemoryHub | None = None
        self.text_to_image: nn.Sequential | None = None
        self.image_to_text: nn.Sequential | None = None
        match settings.interaction:
            case "hub":
                self.hub = MemoryHub(
                    shape,
                    hidden,
                    settings.similarity,
                    settings.similarity_shape,
                    renormalise=settings.renormalise,
                )
            case "naive":
                self.text_to_image = perceptron(text, hidden, image)
                self.image_to_text = perceptron(image, hidden, text)
            case "none":
                self.image_prompts = nn.Parameter(torch.randn(free, settings.length, image) * 0.02)
        if exchanged:
            self.first_image = nn.Linear(text, image)
        self.gates = gates_of(settings.start, shape, self.schedule.layers)

    def first_layer(self, side: Side) -> int:
        """The first interaction layer."""
        return self.schedule.first(side)

    def _given(self, at: int) -> Prompts | None:
        """The free prompts of the `at`-th prompted step."""
        if self.image_prompts is not None:
            return self.image_prompts[at], self.text_prompts[at]
        if at:
            return None
        assert self.first_image is not None
        return self.first_image(self.text_prompts[0]), self.text_prompts[0]

    def _exchange(self, before: Prompts, after: Prompts) -> Prompts:
        """The next step's prompts from what went into the layer and what it made of them."""
        image, text = after if self.settings.hub_input == "acquired" else before
        if self.hub is not None:
            prompts: Prompts = self.hub(image, text)
            return prompts
        assert self.text_to_image is not None
        assert self.image_to_text is not None
        from_text: Tensor = self.text_to_image(text)
        from_image: Tensor = self.image_to_text(image)
        return image + from_text, text + from_image

    def pair_layer(self, step: Step, backbone: Towers, pair: Pair) -> Pair:
        """Prompts enter and leave by the schedule; between the steps the hub is at work."""
        exchange = None if self.settings.interaction == "none" else self._exchange
        return self.schedule.take(
            step, backbone, pair, self._given, exchange, self.settings.visibility, self.gates
        )

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Two interaction layers and a narrow hub."""
        return TINY_EXCHANGE

    @classmethod
    def parameter_count(cls, shape: Shape, settings: MitpSettings) -> int:
        """L·d_t + (d_t + 1)·d_v + the perceptrons; without exchange, layers·L·(d_t + d_v); and the gates."""
        image, text = shape.image.width, shape.text.width
        exchanged = settings.interaction != "none"
        schedule = Schedule(shape, settings.layers, settings.align, carry=settings.carry and exchanged)
        gates = gate_count(settings.start, shape, schedule.layers)
        if not exchanged:
            return len(settings.layers) * settings.length * (image + text) + gates
        shared = settings.length * text + (text + 1) * image + gates
        if settings.interaction == "hub":
            return shared + MemoryHub.parameter_count(shape, settings.hidden)
        both = perceptron_count(text, settings.hidden, image) + perceptron_count(image, settings.hidden, text)
        return shared + both

"""Temporal prompts: prompts on a few intermediate layers of both towers, exchanged in between (MITP §3.3).

What MITP and EPIC share: where the prompts go in, where they come out, and when they are exchanged. How they
are exchanged is each method's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor

from interplay.errors import InterplayError
from interplay.parts.gates import GatedLayers, Gates, gated, placed
from interplay.ranges import Choice, Ranges, Whole
from interplay.towers.tokens import SIDES, Shape, Side, Towers
from interplay.towers.walk import Align, Pair, Step, plain, steps

Visibility = Literal["full", "causal"]
Prompts = tuple[Tensor, Tensor]
"""Image prompts (…, length, image width) and text prompts (…, length, text width)."""


TEMPORAL_RANGES: Ranges = {
    "layers": Choice(((4, 5, 6), (6, 7, 8), (7, 8, 9), (10, 11, 12), (8,))),
    "length": Whole(2, 12, log=True),
    "similarity": Choice(("cosine", "mmd", "cov-pearson")),
    "renormalise": Choice((True, False)),
    "hidden": Choice((32, 64, 168)),
}
"""What is worth searching of temporal prompts with an exchange, and where."""
TINY_EXCHANGE: Mapping[str, Any] = {"layers": (2, 3), "length": 6, "hidden": 8}
"""Interaction layers that four-layer towers have; six tokens, since ReLU can silence a short map."""


class Schedule:
    """Which steps of the lock-step walk carry prompts.

    Args:
        shape: geometry of the towers.
        layers: interaction layers, counted from 1; with `proportional` alignment, of the shallower tower.
        align: how the layers are paired.
        carry: whether what the last exchange gives still enters the layer after the last interaction layer
            (eq. 2–3 give every interaction layer a hub that makes the next layer's prompts). Without it the last
            exchange has no reader and does not take place.

    Raises:
        InterplayError: a layer that one of the towers lacks, or layers out of order.
    """

    def __init__(self, shape: Shape, layers: tuple[int, ...], align: Align, *, carry: bool) -> None:
        paired = [step for step in steps(shape, align) if step.image is not None and step.text is not None]
        if not layers or list(layers) != sorted(set(layers)) or layers[0] < 1:
            raise InterplayError(f"Interaction layers must be rising numbers from 1, not {layers}.")
        if layers[-1] > len(paired):
            raise InterplayError(
                f"Interaction layer {layers[-1]} does not exist: the towers have {len(paired)} paired layers."
            )
        last = layers[-1]
        self.interaction = [paired[number - 1] for number in layers]
        self.prompted = list(self.interaction)
        if carry and last < len(paired):
            self.prompted.append(paired[last])
        order = steps(shape, align)
        adjacent = {order[i]: order[i + 1] for i in range(len(order) - 1)}
        self._runs_on = {step for step in self.prompted if adjacent.get(step) in self.prompted}

    @property
    def exchanges(self) -> int:
        """How many times prompts are exchanged: between every two prompted steps."""
        return len(self.prompted) - 1

    @property
    def layers(self) -> GatedLayers:
        """The prompted layers of each side, from 0."""
        return {
            side: [layer for step in self.prompted if (layer := step.side(side)) is not None]
            for side in SIDES
        }

    def first(self, side: Side) -> int:
        """The first prompted layer of a side, from 0."""
        layer = self.prompted[0].side(side)
        assert layer is not None
        return layer

    def take(
        self,
        step: Step,
        backbone: Towers,
        pair: Pair,
        given: Callable[[int], Prompts | None],
        exchange: Callable[[Prompts, Prompts], Prompts] | None,
        visibility: Visibility,
        gates: Gates | None = None,
    ) -> Pair:
        """One step; a prompted one: prompts in, the frozen layers (eq. 2), prompts out, exchanged for the next (eq. 3).

        Args:
            given: free prompts for the n-th prompted step (from 0), or None where the last exchange made them.
            exchange: from the prompts that went in and what the layer made of them to the next step's prompts.
            gates: between the prompts and the layers that read them.
        """
        if step not in self.prompted:
            return plain(step, backbone, pair)
        at = self.prompted.index(step)
        assert step.image is not None
        assert step.text is not None
        see_all = visibility == "full"
        last = exchange is None or at == self.exchanges
        free = given(at)
        image, text = pair.image, pair.text
        if free is not None:
            image = placed(gates, backbone.image, image, free[0], last=last)
            text = placed(gates, backbone.text, text, free[1], last=last, see_all=see_all)
        elif image.held is not None and text.held is not None:
            held = image.held, text.held
            image = replace(placed(gates, backbone.image, image, held[0], last=last), held=None)
            text = replace(placed(gates, backbone.text, text, held[1], last=last, see_all=see_all), held=None)
        before = backbone.image.slots(image), backbone.text.slots(text)
        image = backbone.image.layer(step.image, gated(gates, "image", step.image, image))
        text = backbone.text.layer(step.text, gated(gates, "text", step.text, text))
        if exchange is None or last:
            return Pair(backbone.image.drop(image), backbone.text.drop(text))
        after = backbone.image.slots(image), backbone.text.slots(text)
        image_prompts, text_prompts = exchange(before, after)
        if step in self._runs_on and (gates is None or at + 1 < self.exchanges):
            return Pair(
                backbone.image.put(image, image_prompts),
                backbone.text.put(text, text_prompts, see_all=see_all),
            )
        return Pair(
            replace(backbone.image.drop(image), held=image_prompts),
            replace(backbone.text.drop(text), held=text_prompts),
        )

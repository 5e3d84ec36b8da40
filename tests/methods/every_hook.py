"""Every hook: a method that uses each of the contract's names, and is still one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.sessions import Shared
from interplay.methods.settings import MethodSettings
from interplay.methods.traits import Traits
from interplay.ranges import Ranges, Whole
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import SIDES, Shape, Side, Tokens, Tower
from interplay.towers.walk import Keys, Pair, Step


@dataclass(frozen=True)
class EveryHookSettings(MethodSettings):
    """Settings of the method with every hook.

    Attributes:
        length: prompt tokens of each modality.
    """

    length: int = 4

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"every-hook-long": {"length": 6}}
    ranges: ClassVar[Ranges] = {"length": Whole(1, 8)}

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InterplayError("This method needs length >= 1.")


class EveryHook(Method):
    """Something of everything: a shift of the input, prompts, and each modality reads the other in the end."""

    Settings = EveryHookSettings
    traits = Traits(coupling="pair", reads_keys=True)

    def __init__(self, shape: Shape, settings: EveryHookSettings) -> None:
        super().__init__(shape, settings)
        self.sessions = Shared(self.name, ranks=True)
        self.shifts = nn.ParameterDict(
            {side: nn.Parameter(torch.zeros(shape.side(side).width)) for side in SIDES}
        )
        self.prompts = nn.ParameterDict(
            {
                side: nn.Parameter(torch.randn(settings.length, shape.side(side).width) * 0.02)
                for side in SIDES
            }
        )
        self.to_image = nn.Linear(shape.text.width, shape.image.width)
        self.scale = nn.Parameter(torch.ones(shape.joint))
        self.across = nn.Parameter(torch.zeros(shape.joint))

    def start_from(self, backbone: Backbone) -> None:
        """The shifts start at a tenth of the backbone's positions, on average."""
        with torch.no_grad():
            for side in SIDES:
                self.shifts[side].copy_(backbone.tower(side).positions.mean(dim=0) / 10)

    def first_layer(self, side: Side) -> int:
        """The input itself is shifted."""
        return 0

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """The shifted input."""
        tokens = tower.embed(inputs)
        return replace(tokens, x=tokens.x + self.shifts[side])

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Prompts join before layer 1."""
        return tower.layer(i, tower.put(tokens, self.prompts[side]) if i == 1 else tokens)

    def pair_layer(self, step: Step, backbone: Backbone, pair: Pair) -> Pair:
        """After layer 2 the image's slots take in what the text's became."""
        pair = super().pair_layer(step, backbone, pair)
        if step.image != 2:
            return pair
        slots = pair.image.slots + self.to_image(pair.text.slots)
        return Pair(backbone.image.put(pair.image, slots), pair.text)

    def vector(self, side: Side, tower: Tower, tokens: Tokens) -> Tensor:
        """A scaled vector."""
        return tower.pool(tokens) * self.scale

    def pair_vectors(self, backbone: Backbone, pair: Pair) -> tuple[Tensor, Tensor]:
        """Each vector with some of the other's."""
        image, text = super().pair_vectors(backbone, pair)
        return image + self.across * text, text + self.across * image

    def objective(self, base: Tensor, keys: Keys | None) -> Tensor:
        """base + the shifts' squares, weighed by how alike the pairs are."""
        assert keys is not None
        alike = (keys.image * keys.text).sum(dim=1).mean()
        return base + (1 + alike) * sum((shift**2).sum() for shift in self.shifts.values())

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Short prompts."""
        return {"length": 2}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: EveryHookSettings) -> int:
        """(L + 1)·(d_v + d_t) + (d_t + 1)·d_v + 2·joint."""
        image, text = shape.image.width, shape.text.width
        return (settings.length + 1) * (image + text) + (text + 1) * image + 2 * shape.joint

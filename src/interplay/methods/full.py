"""Full fine-tuning of either or both towers: what every prompt method is measured against."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from interplay.methods.base import Method
from interplay.methods.settings import MethodSettings
from interplay.methods.traits import Traits
from interplay.parts.own_towers import OwnTowers
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import Shape, Side, Sides, Tokens, Tower, sides_of


@dataclass(frozen=True)
class FullSettings(MethodSettings):
    """Settings of full fine-tuning.

    Attributes:
        sides: which towers are trained.
    """

    sides: Sides = "both"

    @property
    def tuned(self) -> tuple[Side, ...]:
        """The towers that are trained."""
        return sides_of(self.sides)


class Full(Method):
    """All weights of a tower are trained, embeddings and projections included, from the backbone's own.

    The method owns copies of the towers and trains those, so the frozen backbone stays what it is for every other
    method, and a fresh one gives exactly the backbone's vectors. Its artefact is therefore as large as the towers, not
    a few MB, and a checkpoint with Adam's state three times that. Learning rates for prompts are far too high here.
    All sessions of a stream train the same weights.
    """

    Settings = FullSettings
    traits = Traits(learning_rate=3e-5)

    def __init__(self, shape: Shape, settings: FullSettings) -> None:
        super().__init__(shape, settings)
        self.towers = OwnTowers(shape, settings.tuned)
        self.traits = replace(self.traits, own_embedding="text" in settings.tuned, starts_frozen=True)

    def start_from(self, backbone: Backbone) -> None:
        """The backbone's weights."""
        self.towers.fill(backbone)

    def first_layer(self, side: Side) -> int:
        """The first layer of a tower that is trained."""
        return 0 if side in self.settings.tuned else self.shape.side(side).depth

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """The own embedding of a tower that is trained."""
        return self.towers.embed(side, tower, inputs)

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """The own layer of a tower that is trained."""
        return self.towers.tower(side, tower).layer(i, tokens)

    def vector(self, side: Side, tower: Tower, tokens: Tokens) -> Tensor:
        """The own last norm and projection of a tower that is trained."""
        return self.towers.tower(side, tower).pool(tokens)

    @classmethod
    def parameter_count(cls, shape: Shape, settings: FullSettings) -> int:
        """All parameters of the towers that are trained."""
        return OwnTowers.parameter_count(shape, settings.tuned)

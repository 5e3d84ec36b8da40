"""What a method is: one file that says what happens around each frozen layer, and owns what is trained."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from interplay.methods.sessions import SessionPolicy, Shared
from interplay.methods.settings import MethodSettings, NoSettings
from interplay.methods.traits import Traits
from interplay.towers.tokens import Shape, Side, Tokens, Tower, Towers
from interplay.towers.walk import Keys, Pair, Step

if TYPE_CHECKING:
    from interplay.towers.backbone import Backbone


class Method(nn.Module, ABC):
    """Around each frozen layer: put prompts in, take them out, change them, let the sides talk.

    A subclass is the only one in its file, the file's name is the method's name, and it is never subclassed
    itself. It owns its parameters: `parameters()` is what is trained, `state_dict()` is what is saved; towers
    are arguments. What is new, frozen and kept in a stream of sessions is said by its `sessions`, a policy. Its
    `__init__` takes `(shape, settings)`.
    """

    Settings: ClassVar[type[MethodSettings]] = NoSettings
    """What can be set, what has a name of its own, and what is worth searching."""
    traits: Traits = Traits()
    """What callers have to know beforehand; where it hangs on the settings, `__init__` replaces it."""

    def __init__(self, shape: Shape, settings: Any) -> None:
        super().__init__()
        self.shape = shape
        self.settings = settings
        self.sessions: SessionPolicy = Shared(self.name)
        """What a stream of sessions does to it; where that hangs on the settings, `__init__` replaces it."""

    @property
    def name(self) -> str:
        """The method's name: the name of its file."""
        return type(self).__module__.rsplit(".", 1)[-1]

    def first_layer(self, side: Side) -> int:
        """The first layer (from 0) of a side that the method does not leave alone; the depth if there is none.

        Everything before it can be computed once and kept.
        """
        return self.shape.side(side).depth

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """Around the embedding: prompts that enter as part of the input.

        Args:
            route: which of the method's prompts each sample takes; also `Tokens.route` at every later layer.
        """
        return tower.embed(inputs)

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Around frozen layer `i` (from 0) of one side."""
        return tower.layer(i, tokens)

    def pair_layer(self, step: Step, backbone: Towers, pair: Pair) -> Pair:
        """Around one step of the lock-step walk; by default each side goes through `layer` on its own."""
        image, text = pair.image, pair.text
        if step.image is not None:
            image = self.layer("image", step.image, backbone.image, image)
        if step.text is not None:
            text = self.layer("text", step.text, backbone.text, text)
        return Pair(image, text)

    def vector(self, side: Side, tower: Tower, tokens: Tokens) -> Tensor:
        """After the last layer of one side: its vector in the joint space, (batch, joint), not normalised.

        What it reads beside the pooled row is there only if its traits say `reads_rows`.
        """
        return tower.pool(tokens)

    def pair_vectors(self, backbone: Towers, pair: Pair) -> tuple[Tensor, Tensor]:
        """After the last layers of a pair: image and text vector; by default each side's own `vector`."""
        image = self.vector("image", backbone.image, pair.image)
        return image, self.vector("text", backbone.text, pair.text)

    def start_from(self, backbone: Backbone) -> None:
        """Take first values from the backbone; by default nothing.

        Called once, after a fresh method was built and before it is trained; not where costs are counted without
        weights, and what an artefact holds replaces it.
        """

    def objective(self, base: Tensor, keys: Keys | None) -> Tensor:
        """The training loss from the task's own; by default that alone.

        Args:
            base: the loss of the batch, a scalar.
            keys: of the batch, for methods that read them in training.
        """
        return base

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Settings for the contract tests' towers of unequal width and depth (5 and 4 layers)."""
        return {}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: Any) -> int:
        """How many parameters the method trains, as a closed formula."""
        return 0

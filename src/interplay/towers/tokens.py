"""What flows through a tower, and what a tower must offer so that the walk can take it layer by layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from interplay.errors import InterplayError

Side = Literal["image", "text"]
SIDES: tuple[Side, Side] = ("image", "text")
Sides = Literal["both", "image", "text"]
Kind = Literal["clip", "swin", "bert"]
"""What a tower is: CLIP's, whose prompts join the row; Swin's or BERT's, whose prompts are added onto places of it."""


def sides_of(which: Sides) -> tuple[Side, ...]:
    """Both sides, or the one."""
    return SIDES if which == "both" else (which,)


def other(side: Side) -> Side:
    """The side across."""
    return "text" if side == "image" else "image"


@dataclass(frozen=True)
class Next:
    """What one layer does otherwise: it is said before the layer, and is over after it.

    Attributes:
        prefix: keys and values, each (length, width) or (batch, length, width), that every row of the next layer may
            attend to beside the rows of `x` (prefix tuning).
        aside: (prompts, width) or (batch, prompts, width): prompts outside the sequence that the rows of the next layer
            read behind the `gate`, as if they stood in slots; what the layer would make of them does not come out.
        gate: (heads,) or (batch, heads): the rows of the next layer attend to the prompt slots, to the `prefix` or to
            the prompts `aside` in a softmax of its own, and take the result times this; at 0 they are what they were
            without prompts. None: slots and prefix are keys like all others.
        pooled_only: the next layer has to bring out the pooled row alone: set by the walk before the last layer.
    """

    prefix: tuple[Tensor, Tensor] | None = None
    aside: Tensor | None = None
    gate: Tensor | None = None
    pooled_only: bool = False


AS_IT_IS = Next()
"""A layer that does what it does."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of one batch between two layers, with the prompts that are among them.

    Attributes:
        x: (batch, length, width). Row 0 is the first token (class or start token), rows `1 : 1 + prompts` are
            prompt slots, the bare tokens follow.
        lengths: (batch,) number of bare tokens that are real; the rest is padding on the right. None: no padding.
        prompts: number of prompt slots.
        prompts_see_all: in a causal tower, whether prompt rows may attend to every real token. Rows of
            tokens stay causal either way.
        blind: in a causal tower, how many prompt slots, from the first, attend to one another only, whatever else
            `prompts_see_all` allows; every later row may attend to them.
        suffix: (batch, classes, suffix length, width): short continuations, one a class, that attend to all
            real rows of `x` and to their own past, and that `x` never sees (`mitp.md`, open point f).
        held: (batch, prompts, width), or (prompts, width) for the whole batch: prompts that a method keeps for later
            layers, or rows that it has read on the way, outside the sequence.
        route: (batch, …) which of a method's prompts each sample takes, chosen before the walk (`Method.route`);
            None: those in training.
        next: what the next layer does otherwise.
        size: (height, width) of the map that the rows of `x` are, row by row; None: they are no map.
        maps: what each finished stage of a pyramid left behind, (batch, channels, height, width).
    """

    x: Tensor
    lengths: Tensor | None = None
    prompts: int = 0
    prompts_see_all: bool = False
    blind: int = 0
    suffix: Tensor | None = None
    held: Tensor | None = None
    route: Tensor | None = None
    next: Next = AS_IT_IS
    size: tuple[int, int] | None = None
    maps: tuple[Tensor, ...] = ()

    @property
    def slots(self) -> Tensor:
        """What the prompt slots hold: (batch, prompts, width)."""
        return self.x[:, 1 : 1 + self.prompts]

    def for_next(self, **changes: Any) -> Tokens:
        """The same tokens, and what the next layer does otherwise (`Next`) beside what is said already."""
        return replace(self, next=replace(self.next, **changes))

    def held_for(self, layer: int, length: int) -> Tensor:
        """What is held for one layer, (…, length, width).

        Args:
            layer: its number among those that something is held for, from 0.
            length: prompts a layer.
        """
        assert self.held is not None
        return self.held[..., layer * length : (layer + 1) * length, :]

    def put(self, prompt: Tensor, *, see_all: bool = False) -> Tokens:
        """Insert prompts after the first token, or replace the ones that are there.

        Args:
            prompt: (prompts, width), one for the whole batch, or (batch, prompts, width).
            see_all: see `prompts_see_all`.
        """
        if prompt.dim() == 2:
            prompt = prompt.expand(self.x.shape[0], -1, -1)
        x = torch.cat([self.x[:, :1], prompt.to(self.x.dtype), self.x[:, 1 + self.prompts :]], dim=1)
        return replace(self, x=x, prompts=prompt.shape[1], prompts_see_all=see_all, blind=0)

    def drop(self) -> Tokens:
        """Back to the bare tokens."""
        if self.prompts == 0:
            return self
        x = torch.cat([self.x[:, :1], self.x[:, 1 + self.prompts :]], dim=1)
        return replace(self, x=x, prompts=0, prompts_see_all=False, blind=0)


@dataclass(frozen=True)
class TowerShape:
    """The geometry of one tower. Text towers set `vocabulary` and `positions`, image towers the rest.

    Attributes:
        width: channels of a token, and of a prompt; of a pyramid, those of its first stage.
        depth: number of layers.
        heads: attention heads a layer.
        hidden: channels inside a layer's two-layer perceptron.
        joint: width of the space that both towers project into.
        activation: name of the perceptron's activation, as `transformers` spells it.
        epsilon: of the layer norms.
        image_size, patch_size: side lengths in pixels.
        vocabulary, positions, end_token: of the tokenizer and the position table.
        pools_highest_id: whether a text is pooled at its highest id instead of its first end token.
        kind: what the tower is.
        stages: layers of each stage of a pyramid; from one to the next, width and heads double and the edges halve.
        window: edge of the windows that a pyramid's layers attend in.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    joint: int
    activation: str = "quick_gelu"
    epsilon: float = 1e-5
    image_size: int = 0
    patch_size: int = 0
    vocabulary: int = 0
    positions: int = 0
    end_token: int = 0
    pools_highest_id: bool = False
    kind: Kind = "clip"
    stages: tuple[int, ...] = ()
    window: int = 0

    @property
    def length(self) -> int:
        """Tokens of one full input: patches and, but for a pyramid, the class token; or all text positions."""
        if self.positions:
            return self.positions
        return (self.image_size // self.patch_size) ** 2 + (not self.stages)

    def stage(self, layer: int) -> int:
        """The stage (from 0) that a layer belongs to; 0 where there are none."""
        ends = [sum(self.stages[: at + 1]) for at in range(len(self.stages))]
        return next((at for at, end in enumerate(ends) if layer < end), 0)

    def width_at(self, layer: int) -> int:
        """Channels of the tokens that a layer reads."""
        return self.width << self.stage(layer)


@dataclass(frozen=True)
class Shape:
    """The geometry of a dual encoder: all that a method needs to know to build its parameters."""

    image: TowerShape
    text: TowerShape

    def side(self, side: Side) -> TowerShape:
        """The geometry of one side."""
        return self.image if side == "image" else self.text

    @property
    def joint(self) -> int:
        """Width of the space that both towers project into."""
        return self.image.joint


class Tower(nn.Module, ABC):
    """A frozen row of layers. It knows nothing of methods; how prompts are placed is its business."""

    shape: TowerShape
    blocks: nn.ModuleList

    @abstractmethod
    def embed(self, inputs: Tensor, *, context: Tensor | None = None, split: int | None = None) -> Tokens:
        """Raw inputs to the tokens that enter layer 0.

        Args:
            inputs: what the tower reads (pixels or token ids).
            context: (prompts, width) or (batch, prompts, width), prompts that enter as part of the input;
                they become the prompt slots.
            split: where order counts, how many of these prompts come before the input's own tokens; the others
                come after them, before the last one, and none is a prompt slot. None: all, as prompt slots.
        """

    @abstractmethod
    def layer(self, i: int, tokens: Tokens, *, block: Any = None) -> Tokens:
        """Frozen layer `i` (from 0).

        Args:
            block: a module of the layer's own kind to run in its place; None: the frozen one in `blocks`.
        """

    @abstractmethod
    def pool(self, tokens: Tokens) -> Tensor:
        """The vector in the joint space, (batch, joint), not normalised."""

    def put(self, tokens: Tokens, prompt: Tensor, *, see_all: bool = False) -> Tokens:
        """Place prompts among the tokens (`Tokens.put`)."""
        return tokens.put(prompt, see_all=see_all)

    def drop(self, tokens: Tokens) -> Tokens:
        """Take the prompts out again (`Tokens.drop`)."""
        return tokens.drop()

    def slots(self, tokens: Tokens) -> Tensor:
        """What the places of the prompts hold, (batch, prompts, width) (`Tokens.slots`)."""
        return tokens.slots


class Towers(Protocol):
    """Two towers side by side: all that the lock-step walk needs of a model."""

    @property
    def image(self) -> Tower: ...

    @property
    def text(self) -> Tower: ...

    @property
    def shape(self) -> Shape: ...


def check_plain(tokens: Tokens, tower: str) -> None:
    """Refuse what a tower whose prompts are added onto its tokens cannot do.

    Raises:
        InterplayError: gates, prompts outside the sequence, or class texts that continue a text.
    """
    if tokens.next.gate is not None or tokens.next.aside is not None:
        raise InterplayError(
            f"{tower} adds prompts onto its tokens, where no gate can close them: leave the method's start = paper."
        )
    if tokens.suffix is not None:
        raise InterplayError(f"{tower} reads no class texts that continue a text.")


def no_vector(tower: str) -> InterplayError:
    """The error for a vector that a detector's tower does not have."""
    return InterplayError(
        f"{tower} is the tower of a detector, which has no vector of a whole input: choose a method that changes its "
        "layers alone."
    )

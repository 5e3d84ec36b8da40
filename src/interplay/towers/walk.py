"""The walk: the only loops over frozen layers in the program.

`encode` takes one tower, `encode_pair` both in lock-step. At every layer the walk asks the method; a method
that does nothing there returns what the frozen layer returns. A walk can start after the front layers, from
tokens that were computed before (`front`): what leaves the unprompted front layers of a frozen tower never
changes for a given input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from interplay.errors import InterplayError
from interplay.towers.backbone import Backbone
from interplay.towers.hidden import HiddenStates, Listener
from interplay.towers.tokens import SIDES, Shape, Side, Tokens, Tower, Towers

Align = Literal["index", "proportional"]
Order = Literal["index", "proportional", "end", "image_first"]
"""`Align`, and two orders that a method may need but no setting offers."""
Coupling = Literal["apart", "by route", "pair"]
"""What crosses between the sides while they are encoded: nothing, the route alone, or more (`Traits`)."""


@dataclass(frozen=True)
class Start:
    """Tokens that wait before layer `layer` of their tower, all earlier layers done."""

    tokens: Tokens
    layer: int

    def rows(self, picked: Tensor) -> Start:
        """Some samples of the batch, by number; for tokens without prompts."""
        lengths = None if self.tokens.lengths is None else self.tokens.lengths[picked]
        return Start(Tokens(self.tokens.x[picked], lengths=lengths), self.layer)


@dataclass(frozen=True)
class Pair:
    """Both sides between two steps of the lock-step walk."""

    image: Tokens
    text: Tokens

    def side(self, side: Side) -> Tokens:
        """The tokens of one side."""
        return self.image if side == "image" else self.text


@dataclass(frozen=True)
class Step:
    """One step of the lock-step walk: which layer of each tower runs (from 0), or None where a side waits."""

    image: int | None
    text: int | None

    def side(self, side: Side) -> int | None:
        """The layer of one side."""
        return self.image if side == "image" else self.text


def steps(shape: Shape, align: Order) -> list[Step]:
    """Which layers run side by side.

    Args:
        align: `index`: layer i with layer i, the deeper tower goes on alone. `proportional`: layer i of the
            shallower tower with the layer of the deeper one at the same relative depth. `end`: the last layer with
            the last layer and so on towards the front, the deeper tower begins alone. `image_first`: all image
            layers, then all text layers; at the first text step the image tokens are finished.
    """
    image, text = shape.image.depth, shape.text.depth
    if align == "image_first":
        return [Step(i, None) for i in range(image)] + [Step(None, i) for i in range(text)]
    if align == "end":
        depth = max(image, text)
        late_image, late_text = depth - image, depth - text
        return [
            Step(
                i - late_image if i >= late_image else None,
                i - late_text if i >= late_text else None,
            )
            for i in range(depth)
        ]
    if align == "index" or image == text:
        rows = range(max(image, text))
        return [Step(i if i < image else None, i if i < text else None) for i in rows]
    deep, shallow = max(image, text), min(image, text)
    partner = {round((i + 1) * deep / shallow) - 1: i for i in range(shallow)}
    rows_deep = [(i, partner.get(i)) for i in range(deep)]
    return [Step(d, s) if image > text else Step(s, d) for d, s in rows_deep]


class WalkTraits(Protocol):
    """What the walk has to know of a method beforehand: a part of `interplay.methods.traits.Traits`."""

    @property
    def order(self) -> Order: ...

    @property
    def reads_rows(self) -> bool: ...

    def needs_partner(self, *, routed: bool) -> bool: ...


class Around(Protocol):
    """What the walk asks at every layer: the hooks that `interplay.methods.base.Method` explains and implements."""

    @property
    def name(self) -> str: ...

    @property
    def traits(self) -> WalkTraits: ...

    def first_layer(self, side: Side) -> int: ...

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens: ...

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens: ...

    def pair_layer(self, step: Step, backbone: Towers, pair: Pair) -> Pair: ...

    def vector(self, side: Side, tower: Tower, tokens: Tokens) -> Tensor: ...

    def pair_vectors(self, backbone: Towers, pair: Pair) -> tuple[Tensor, Tensor]: ...


def front(tower: Tower, inputs: Tensor, layers: int) -> Start:
    """Raw inputs through the first `layers` layers, without any method and without a gradient."""
    with torch.no_grad():
        tokens = tower.embed(inputs)
        for i in range(layers):
            tokens = tower.layer(i, tokens)
    return Start(tokens, layers)


@dataclass(frozen=True)
class Keys:
    """The bare towers' vectors of samples, normalised to length 1: what prompts are chosen by.

    Attributes:
        image, text: (batch, joint).
    """

    image: Tensor
    text: Tensor

    def side(self, side: Side) -> Tensor:
        """The keys of one side."""
        return self.image if side == "image" else self.text

    def rows(self, rows: Tensor) -> Keys:
        """Some samples, by number."""
        return Keys(self.image[rows], self.text[rows])

    def each(self, change: Callable[[Tensor], Tensor]) -> Keys:
        """The same change made to both sides."""
        return Keys(change(self.image), change(self.text))


@dataclass(frozen=True)
class Routes:
    """Which of a method's prompts each sample of a batch takes, side by side; None: those in training."""

    image: Tensor | None = None
    text: Tensor | None = None

    def side(self, side: Side) -> Tensor | None:
        """The route of one side."""
        return self.image if side == "image" else self.text


def _enter(
    tower: Tower, side: Side, inputs: Tensor | Start, method: Around | None, route: Tensor | None
) -> Start:
    if isinstance(inputs, Start):
        if method is not None and inputs.layer > method.first_layer(side):
            raise ValueError(
                f"the {side} tokens start after layer {inputs.layer}, where the method has begun"
            )
        return Start(replace(inputs.tokens, route=route), inputs.layer)
    if method is None:
        return Start(tower.embed(inputs), 0)
    return Start(replace(method.embed(side, tower, inputs, route), route=route), 0)


def _before_last(tokens: Tokens, i: int, tower: Tower, method: Around | None) -> Tokens:
    if i == tower.shape.depth - 1 and (method is None or not method.traits.reads_rows):
        return tokens.for_next(pooled_only=True)
    return tokens


def encode(
    tower: Tower,
    side: Side,
    inputs: Tensor | Start,
    method: Around | None = None,
    *,
    route: Tensor | None = None,
) -> Tensor:
    """One side to vectors in the joint space, (batch, joint), not normalised.

    Args:
        inputs: what the tower reads, or tokens that wait after front layers which the method leaves alone.
        method: None for the bare tower.
        route: which of the method's prompts each sample takes (`Tokens.route`).

    Raises:
        InterplayError: the method needs both sides, and no route says all that it needs of the other.
    """
    if method is not None and method.traits.needs_partner(routed=route is not None):
        raise InterplayError(
            f"The method '{method.name}' lets image and text talk while they are encoded, so it needs pairs: "
            "it cannot encode one side alone. Use encode_pair, or a method that is not coupled."
        )
    start = _enter(tower, side, inputs, method, route)
    tokens = start.tokens
    for i in range(start.layer, tower.shape.depth):
        tokens = _before_last(tokens, i, tower, method)
        tokens = tower.layer(i, tokens) if method is None else method.layer(side, i, tower, tokens)
    return tower.pool(tokens) if method is None else method.vector(side, tower, tokens)


@dataclass(frozen=True)
class Vectors:
    """What comes out of the towers for a batch of pairs, in the joint space, not normalised.

    Attributes:
        image, text: (batch, joint).
        classes: (batch, classes, joint) for class texts that continued the sample's own text; (classes, joint) or
            (batch, classes, joint) for class texts that went through the method; else None.
        hidden: the hidden states that were asked for; else None.
    """

    image: Tensor
    text: Tensor
    classes: Tensor | None = None
    hidden: HiddenStates | None = None


def _pair_steps(shape: Shape, order: Order, image: int, text: int) -> Iterator[Step]:
    """The steps that are left when the sides wait before their layers `image` and `text`."""
    for step in steps(shape, order):
        left = Step(
            step.image if step.image is not None and step.image >= image else None,
            step.text if step.text is not None and step.text >= text else None,
        )
        if left != Step(None, None):
            yield left


def encode_pair(
    backbone: Backbone,
    images: Tensor | Start,
    texts: Tensor | Start,
    method: Around | None = None,
    *,
    suffix: Tensor | None = None,
    routes: Routes | None = None,
    hidden: Mapping[Side, Sequence[int]] | None = None,
) -> Vectors:
    """Both sides of true pairs in lock-step.

    Args:
        images, texts: what the towers read, or tokens after front layers that the method leaves alone.
        method: None for the bare towers.
        suffix: (classes, suffix length) ids of class texts that continue each sample's own text. The texts
            then come without their end token being read: the continuation brings its own.
        routes: which of the method's prompts each sample takes.
        hidden: for each side whose hidden states are asked for, after how many layers (`HiddenStates`).
    """
    text: Tensor | Start = texts
    listener = Listener(hidden) if hidden else None
    if suffix is not None:
        routes = None if routes is None else Routes(routes.image)
        if isinstance(texts, Start):
            raise ValueError("texts that class texts continue cannot start after front layers")
        lengths = (texts == backbone.text.shape.end_token).int().argmax(dim=-1)  # the end token is left out
        text = Start(backbone.text.embed(texts, lengths=lengths, suffix=suffix), 0)
    pair = through_layers(backbone, images, text, method, routes=routes, listener=listener)
    classes = None if suffix is None else backbone.text.pool_suffix(pair.text, suffix)
    states = None if listener is None else listener.states
    if method is None:
        return Vectors(backbone.image.pool(pair.image), backbone.text.pool(pair.text), classes, states)
    return Vectors(*method.pair_vectors(backbone, pair), classes, states)


def through_layers(
    towers: Towers,
    images: Tensor | Start,
    texts: Tensor | Start,
    method: Around | None = None,
    *,
    routes: Routes | None = None,
    listener: Listener | None = None,
) -> Pair:
    """Both sides of true pairs in lock-step, up to the tokens after their last layers.

    Args:
        images, texts, method, routes: as for `encode_pair`.
        listener: is shown the tokens of each side after every layer.
    """
    routes = routes or Routes()
    image = _enter(towers.image, "image", images, method, routes.image)
    text = _enter(towers.text, "text", texts, method, routes.text)
    pair = Pair(image.tokens, text.tokens)
    if listener is not None:
        listener.hear("image", image.layer, pair.image)
        listener.hear("text", text.layer, pair.text)
    order: Order = "index" if method is None else method.traits.order
    for step in _pair_steps(towers.shape, order, image.layer, text.layer):
        if step.image is not None:
            pair = replace(pair, image=_before_last(pair.image, step.image, towers.image, method))
        if step.text is not None:
            pair = replace(pair, text=_before_last(pair.text, step.text, towers.text, method))
        pair = plain(step, towers, pair) if method is None else method.pair_layer(step, towers, pair)
        if listener is not None:
            _show(listener, step, pair)
    return pair


def _show(listener: Listener, step: Step, pair: Pair) -> None:
    for side in SIDES:
        done = step.side(side)
        if done is not None:
            listener.hear(side, done + 1, pair.side(side))


def plain(step: Step, backbone: Towers, pair: Pair) -> Pair:
    """One step that is left alone: each side's frozen layer."""
    image = pair.image if step.image is None else backbone.image.layer(step.image, pair.image)
    text = pair.text if step.text is None else backbone.text.layer(step.text, pair.text)
    return Pair(image, text)

"""Frozen towers that tell what a method does with them, and change what it places."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interplay.towers.backbone import Backbone
from interplay.towers.tokens import SIDES, Side, Tokens, Tower


@dataclass(frozen=True)
class Call:
    """A method lets a tower run one layer.

    Attributes:
        side, layer: which.
        given: what goes in.
        own_block: whether another block runs in the frozen one's place.
        result: what comes out.
    """

    side: Side
    layer: int
    given: Tokens
    own_block: bool
    result: Tokens


@contextlib.contextmanager
def _instead(tower: Tower, **functions: Callable[..., Any]) -> Iterator[None]:
    """Functions of one tower instead of its class's."""
    for name, function in functions.items():
        setattr(tower, name, function)
    try:
        yield
    finally:
        for name in functions:
            delattr(tower, name)


@contextlib.contextmanager
def watched(backbone: Backbone) -> Iterator[list[Call]]:
    """Every layer that runs on the frozen towers meanwhile."""
    calls: list[Call] = []

    def watching(side: Side, tower: Tower) -> Callable[..., Tokens]:
        run = tower.layer

        def layer(i: int, tokens: Tokens, *, block: Any = None) -> Tokens:
            result = run(i, tokens, block=block)
            calls.append(Call(side, i, tokens, block is not None, result))
            return result

        return layer

    with contextlib.ExitStack() as stack:
        for side in SIDES:
            tower = backbone.tower(side)
            stack.enter_context(_instead(tower, layer=watching(side, tower)))
        yield calls


class Placing:
    """Counts the prompts that a method places on frozen towers, in the order of the walk, and spoils one of them.

    Prompts are placed as slots (`Tower.put`), with the input (`Tower.embed`), as a prefix of keys and values, or aside.

    Args:
        spoiled: the number of the one that is replaced by noise; None: none.
    """

    def __init__(self, backbone: Backbone, spoiled: int | None = None) -> None:
        self._backbone = backbone
        self._spoiled = spoiled
        self.count = 0

    def _one(self, *prompt: Tensor) -> tuple[Tensor, ...]:
        at, self.count = self.count, self.count + 1
        if at != self._spoiled:
            return prompt
        noise = torch.Generator().manual_seed(at)
        return tuple(torch.randn(part.shape, generator=noise) for part in prompt)

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """While it is entered, prompts are counted."""
        with contextlib.ExitStack() as stack:
            for side in SIDES:
                stack.enter_context(self._placing(self._backbone.tower(side)))
            yield

    def _placing(self, tower: Tower) -> contextlib.AbstractContextManager[None]:
        plain_put, plain_embed, plain_layer = tower.put, tower.embed, tower.layer

        def put(tokens: Tokens, prompt: Tensor, **options: Any) -> Tokens:
            return plain_put(tokens, *self._one(prompt), **options)

        def embed(inputs: Tensor, *, context: Tensor | None = None, **options: Any) -> Tokens:
            placed = None if context is None else self._one(context)[0]
            return plain_embed(inputs, context=placed, **options)

        def layer(i: int, tokens: Tokens, **options: Any) -> Tokens:
            if tokens.next.prefix is not None:
                keys, values = self._one(*tokens.next.prefix)
                tokens = tokens.for_next(prefix=(keys, values))
            if tokens.next.aside is not None:
                tokens = tokens.for_next(aside=self._one(tokens.next.aside)[0])
            return plain_layer(i, tokens, **options)

        return _instead(tower, put=put, embed=embed, layer=layer)

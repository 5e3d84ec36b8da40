"""Gated attention against explicit loops over samples, heads and rows: slots, prefixes, one row, continuations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from interplay.parts.gates import Gates, gated
from interplay.towers.backbone import Backbone
from interplay.towers.block import Block
from interplay.towers.tokens import SIDES, Side, Tokens

LENGTHS = (5, 3, 6)
SLOTS = 2
Looks = Callable[[int, int], bool]
"""Whether a row may look at another, in the ordinary softmax."""


def _attend(query: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    """One head of one row: softmax over a list of keys."""
    scores = [float(query @ key) / math.sqrt(len(query)) for key in keys]
    weights = [math.exp(score - max(scores)) for score in scores]
    return sum(weight / sum(weights) * value for weight, value in zip(weights, values, strict=True))  # type: ignore[return-value]


def slow_layer(
    block: Block,
    x: Tensor,
    looks: Looks,
    aside: tuple[list[Tensor], list[Tensor]],
    gate: Tensor,
) -> Tensor:
    """One sample, (length, width), through one layer, row by row and head by head.

    Args:
        looks: which rows a row attends to.
        aside: the keys and values (width,) of the second softmax.
        gate: (heads,).
    """
    width, heads = x.shape[1], block.heads
    q, k, v = (part for part in block.qkv(block.norm1(x)).split(width, dim=1))
    rows = []
    for row in range(len(x)):
        parts = []
        for head in range(heads):
            own = slice(head * width // heads, (head + 1) * width // heads)
            seen = [other for other in range(len(x)) if looks(row, other)]
            part = _attend(q[row, own], [k[o, own] for o in seen], [v[o, own] for o in seen])
            keys, values = ([vector[own] for vector in vectors] for vectors in aside)
            parts.append(part + gate[head] * _attend(q[row, own], keys, values))
        rows.append(torch.cat(parts))
    x = x + block.out(torch.stack(rows))
    return x + block.fc2(block.activation(block.fc1(block.norm2(x))))


def _tokens(backbone: Backbone, side: Side) -> Tokens:
    """A batch of three, with slots; texts are of unequal length."""
    torch.manual_seed(5)
    width = backbone.shape.side(side).width
    lengths = torch.tensor(LENGTHS) if side == "text" else None
    return Tokens(torch.randn(3, max(LENGTHS), width), lengths=lengths).put(torch.randn(3, SLOTS, width))


def _looks(side: Side, see_all: bool, blind: int, real: int) -> Looks:
    """The mask of a side, slots at rows 1 … SLOTS, hidden from every other row."""

    def looks(row: int, other: int) -> bool:
        slots = range(1, 1 + SLOTS)
        if other in slots and row not in slots:
            return False
        if side == "image":
            return True
        if row in range(1, 1 + blind):
            return other in range(1, 1 + blind)
        return other <= row or (see_all and row in slots and other < real)

    return looks


@pytest.mark.parametrize(
    ("side", "see_all", "blind"),
    [("image", False, 0), ("text", False, 0), ("text", True, 0), ("text", True, 1)],
)
@pytest.mark.parametrize("each", [False, True], ids=["one gate", "a gate a sample"])
@pytest.mark.parametrize("pooled", [False, True], ids=["all rows", "the pooled row"])
def test_slots_behind_a_gate(
    side: Side, see_all: bool, blind: int, each: bool, pooled: bool, backbone: Backbone
) -> None:
    tower = backbone.tower(side)
    heads = backbone.shape.side(side).heads
    gate = torch.tensor([0.7, -0.4, 0.2][:heads])
    gates = torch.stack([gate, 2 * gate, 0 * gate]) if each else gate.expand(3, -1)
    tokens = replace(_tokens(backbone, side), prompts_see_all=see_all, blind=blind)
    with torch.no_grad():
        found = tower.layer(1, tokens.for_next(gate=gates if each else gate, pooled_only=pooled))
        assert found.next.gate is None, "a gate is for one layer"
        for at in range(3):
            real = LENGTHS[at] + SLOTS if side == "text" else tokens.x.shape[1]
            x = tokens.x[at, :real]
            block = tower.blocks[1]
            assert isinstance(block, Block)
            width = x.shape[1]
            _, k, v = block.qkv(block.norm1(x)).split(width, dim=1)
            slots = list(k[1 : 1 + SLOTS]), list(v[1 : 1 + SLOTS])
            wanted = slow_layer(block, x, _looks(side, see_all, blind, real), slots, gates[at])
            if pooled:
                row = 0 if side == "image" else real - 1
                torch.testing.assert_close(found.x[at, 0], wanted[row], atol=2e-5, rtol=1e-4)
            else:
                torch.testing.assert_close(found.x[at, :real], wanted, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("side", SIDES)
def test_a_prefix_behind_a_gate(side: Side, backbone: Backbone) -> None:
    tower, block = backbone.tower(side), backbone.tower(side).blocks[1]
    assert isinstance(block, Block)
    tokens = _tokens(backbone, side).drop()
    width, gate = tokens.x.shape[2], torch.linspace(-0.5, 0.8, block.heads)
    prefix = torch.randn(4, width), torch.randn(4, width)
    with torch.no_grad():
        found = tower.layer(1, tokens.for_next(prefix=prefix, gate=gate))
        for at in range(3):
            real = LENGTHS[at] if side == "text" else tokens.x.shape[1]
            both = list(prefix[0]), list(prefix[1])
            wanted = slow_layer(
                block,
                tokens.x[at, :real],
                lambda row, other: side == "image" or other <= row,
                both,
                gate,
            )
            torch.testing.assert_close(found.x[at, :real], wanted, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("pooled", [False, True], ids=["all rows", "the pooled row"])
@pytest.mark.parametrize("each", [False, True], ids=["one for all", "a sample's own"])
@pytest.mark.parametrize("side", SIDES)
def test_prompts_aside_are_slots_that_do_not_come_out(
    side: Side, each: bool, pooled: bool, backbone: Backbone
) -> None:
    tower, bare = backbone.tower(side), _tokens(backbone, side).drop()
    gate = torch.linspace(-0.5, 0.8, backbone.shape.side(side).heads)
    prompts = torch.randn(*([3] if each else []), SLOTS, bare.x.shape[2])
    with torch.no_grad():
        beside = tower.layer(1, bare.for_next(aside=prompts, gate=gate, pooled_only=pooled))
        slots = tower.layer(1, bare.put(prompts).for_next(gate=gate, pooled_only=pooled))
    assert beside.next.aside is None
    torch.testing.assert_close(beside.x, slots.drop().x, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("placed", ["slots", "prefix", "aside"])
def test_a_continuation_is_the_end_of_the_whole_text(placed: str, backbone: Backbone) -> None:
    """Class texts that continue a text see the prompts behind the same gate as its own rows do."""
    tower, width = backbone.text, backbone.shape.text.width
    torch.manual_seed(6)
    gate = torch.tensor([0.6, -0.9])
    front, suffix = torch.randn(1, 4, width), torch.randn(1, 2, 3, width)
    tokens = Tokens(front, lengths=torch.tensor([4]), suffix=suffix)
    prompt = torch.randn(SLOTS, width)

    def prompted(tokens: Tokens) -> Tokens:
        if placed == "slots":
            return tokens.put(prompt).for_next(gate=gate)
        if placed == "aside":
            return tokens.for_next(aside=prompt, gate=gate)
        return tokens.for_next(prefix=(prompt, prompt + 1), gate=gate)

    with torch.no_grad():
        found = tower.layer(1, prompted(tokens)).suffix
        assert found is not None
        for name in range(2):
            x = torch.cat([front, suffix[:, name]], dim=1)
            whole = tower.layer(1, prompted(Tokens(x, lengths=torch.tensor([7])))).x
            torch.testing.assert_close(found[0, name], whole[0, -3:], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("side", SIDES)
def test_closed_gates_leave_the_tokens_as_they_were_and_can_open(side: Side, backbone: Backbone) -> None:
    tower = backbone.tower(side)
    gates = Gates(backbone.shape, {side: [1]})
    tokens = _tokens(backbone, side)
    through = tower.layer(1, gated(gates, side, 1, tokens))
    bare = tower.layer(1, tokens.drop())
    torch.testing.assert_close(through.drop().x, bare.x, atol=1e-6, rtol=1e-6)
    assert gated(gates, side, 0, tokens) is tokens, "a layer without a gate"
    assert gated(None, side, 1, tokens) is tokens
    through.drop().x.sum().backward()
    (gate,) = gates.parameters()
    assert gate.grad is not None
    assert bool((gate.grad != 0).all())

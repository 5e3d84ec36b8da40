"""Pyramid, dynamic head and what is read off it against loops and a scalar emulation of the released kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from interplay.grounding.deformable import deformable, flat_prefix
from interplay.grounding.dynamic_head import DynamicBlock, DynamicHead, DynamicReLU
from interplay.grounding.pyramid import Pyramid
from interplay.grounding.token_head import TokenHead
from tests.grounding import oracles
from tests.grounding.oracles import numbers
from tests.grounding.toy import shaken

SIZES = [(6, 8), (3, 4), (2, 2), (1, 1), (1, 1)]


def close(ours: Tensor, wanted: np.ndarray, atol: float = 1e-5) -> None:
    torch.testing.assert_close(
        ours.detach().double(), torch.from_numpy(np.asarray(wanted)), atol=atol, rtol=0
    )


@pytest.mark.parametrize(
    "sizes", [[(12, 16), (6, 8), (3, 4)], [(7, 5), (4, 3), (2, 2)], [(1, 3), (1, 2), (1, 1)]]
)
def test_the_pyramid_equals_loops(sizes: list[tuple[int, int]]) -> None:
    own = Pyramid([5, 7, 9], 8)
    shaken(own)
    maps = [torch.randn(2, width, *size) for width, size in zip((5, 7, 9), sizes, strict=True)]
    levels = own(maps)
    assert len(levels) == 5
    for sample in range(2):
        wanted = oracles.pyramid([numbers(x[sample]) for x in maps], own)
        for level, theirs in zip(levels, wanted, strict=True):
            close(level[sample], theirs)


@pytest.mark.parametrize(
    ("made_for", "source", "stride"),
    [
        ((5, 7), (5, 7), 1),
        ((3, 4), (6, 8), 2),
        ((3, 4), (5, 7), 2),
        ((1, 1), (1, 1), 1),
        ((1, 2), (2, 3), 2),
    ],
)
def test_the_convolution_equals_the_released_kernel(
    made_for: tuple[int, int], source: tuple[int, int], stride: int
) -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 3, *source, dtype=torch.float64)
    offset = torch.randn(2, 18, *made_for, dtype=torch.float64) * 2
    mask = torch.rand(2, 9, *made_for, dtype=torch.float64)
    weight, bias = torch.randn(4, 3, 3, 3, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    found = deformable(x, offset, mask, weight, bias, stride)
    for sample in range(2):
        flat = numbers(offset[sample]).reshape(-1), numbers(mask[sample]).reshape(-1)
        wanted = oracles.cuda_kernel(
            numbers(x[sample]), *flat, numbers(weight), numbers(bias), stride, made_for
        )
        close(found[sample], wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("made_for", "source"),
    [((6, 8), (3, 4)), ((3, 4), (2, 2)), ((2, 2), (1, 1)), ((7, 5), (4, 3)), ((1, 1), (1, 1))],
)
def test_offsets_of_a_larger_map_are_read_as_their_flat_prefix(
    made_for: tuple[int, int], source: tuple[int, int]
) -> None:
    torch.manual_seed(2)
    x = torch.randn(2, 3, *source, dtype=torch.float64)
    offset = torch.randn(2, 18, *made_for, dtype=torch.float64)
    mask = torch.rand(2, 9, *made_for, dtype=torch.float64)
    weight, bias = torch.randn(4, 3, 3, 3, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    found = deformable(x, flat_prefix(offset, *source), flat_prefix(mask, *source), weight, bias)
    for sample in range(2):
        flat = numbers(offset[sample]).reshape(-1), numbers(mask[sample]).reshape(-1)
        wanted = oracles.cuda_kernel(numbers(x[sample]), *flat, numbers(weight), numbers(bias), 1, source)
        close(found[sample], wanted, atol=1e-12)


def test_the_convolution_of_no_offsets_is_a_plain_one() -> None:
    x, weight, bias = torch.randn(2, 3, 5, 6), torch.randn(4, 3, 3, 3), torch.randn(4)
    found = deformable(x, torch.zeros(2, 18, 5, 6), torch.ones(2, 9, 5, 6), weight, bias)
    torch.testing.assert_close(found, torch.conv2d(x, weight, bias, padding=1), atol=1e-5, rtol=0)


def test_the_activation_equals_loops() -> None:
    own = DynamicReLU(16)
    shaken(own, deviation=0.5)
    y = torch.randn(2, 16, 3, 4)
    for sample in range(2):
        close(own(y)[sample], oracles.dynamic_relu(numbers(y[sample]), own))


def test_a_block_equals_the_released_class_place_by_place() -> None:
    own = DynamicBlock(16)
    shaken(own, deviation=0.3)
    levels = [torch.randn(2, 16, *size) for size in SIZES]
    found = own(*levels)
    for sample in range(2):
        wanted = oracles.dynamic_block([numbers(level[sample]) for level in levels], own)
        for level, theirs in zip(found, wanted, strict=True):
            close(level[sample], theirs)


def test_blocks_that_are_computed_again_have_the_same_gradients() -> None:
    own = DynamicHead(16, 2)
    shaken(own)
    levels = [torch.randn(2, 16, *size, requires_grad=True) for size in SIZES]
    kept = torch.autograd.grad(sum(level.square().sum() for level in own(levels)), levels)
    own.recompute = True
    again = torch.autograd.grad(sum(level.square().sum() for level in own(levels)), levels)
    for one, other in zip(kept, again, strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(one, other)


def test_what_is_read_off_the_levels_equals_loops() -> None:
    own = TokenHead(16, 12)
    shaken(own, deviation=0.3)
    levels = [torch.randn(2, 16, *size) for size in SIZES]
    words = torch.randn(2, 5, 12)
    words[1, 3:] = 0  # padding
    found = own(levels, words)
    assert found.sizes == tuple(SIZES)
    assert found.logits.shape == (2, 66, 5)
    for sample in range(2):
        wanted = oracles.head([numbers(level[sample]) for level in levels], numbers(words[sample]), own)
        for ours, theirs in zip((found.deltas, found.centred, found.logits), wanted, strict=True):
            close(ours[sample], theirs)


def test_a_fresh_head_gives_every_token_a_probability_of_one_in_a_hundred_by_its_bias() -> None:
    own = TokenHead(16, 12)
    levels = [torch.zeros(1, 16, 1, 1)] * 5
    logits = own(levels, torch.zeros(1, 2, 12)).logits
    torch.testing.assert_close(logits.sigmoid(), torch.full((1, 5, 2), 0.01))


def test_logits_end_somewhere() -> None:
    own = TokenHead(4, 4)
    torch.nn.init.constant_(own.log_scale, -30.0)
    logits = own([torch.randn(1, 4, 1, 1)] * 5, torch.randn(1, 2, 4)).logits
    assert logits.abs().max() == 50_000

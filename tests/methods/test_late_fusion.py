"""Late fusion: the formula, sample by sample, and towers that need not run at all."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.registry import choose
from interplay.towers.backbone import Backbone
from interplay.towers.presets import PRESETS
from interplay.towers.tokens import SIDES
from interplay.towers.walk import encode_pair, front


def method_of(backbone: Backbone, *, trained: bool) -> Method:
    torch.manual_seed(2)
    method = choose("late_fusion").build(backbone.shape, {"hidden": 8}).eval()
    if trained:
        with torch.no_grad():
            for parameter in method.parameters():
                parameter.normal_(0, 0.3)
    return method


def test_a_fresh_method_leaves_the_directions_alone(
    backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    ids = backbone.tokenize(texts)
    bare = encode_pair(backbone, pixels, ids)
    found = encode_pair(backbone, pixels, ids, method_of(backbone, trained=False))
    torch.testing.assert_close(found.image, torch.nn.functional.normalize(bare.image, dim=-1))
    torch.testing.assert_close(found.text, torch.nn.functional.normalize(bare.text, dim=-1))


def test_both_vectors_are_corrected_by_a_perceptron(
    backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    method, ids = method_of(backbone, trained=True), backbone.tokenize(texts)
    bare, found = encode_pair(backbone, pixels, ids), encode_pair(backbone, pixels, ids, method)
    first, bias, last, end = method.state_dict().values()
    for row in range(len(texts)):
        x, t = (v[row] / v[row].norm() for v in (bare.image, bare.text))
        inner = first @ torch.cat([x, t, x * t * 4]) + bias
        change = last @ torch.tensor([v * 0.5 * (1 + math.erf(v / 2**0.5)) for v in inner.tolist()]) + end
        torch.testing.assert_close(found.image[row], x + change[:16], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.text[row], t + change[16:], atol=1e-5, rtol=1e-4)


def test_the_towers_can_be_kept_whole(backbone: Backbone, pixels: Tensor, texts: list[str]) -> None:
    method, ids = method_of(backbone, trained=True), backbone.tokenize(texts)
    depths = [backbone.shape.side(side).depth for side in SIDES]
    assert [method.first_layer(side) for side in SIDES] == depths
    starts = front(backbone.image, pixels, depths[0]), front(backbone.text, ids, depths[1])
    behind, whole = encode_pair(backbone, *starts, method), encode_pair(backbone, pixels, ids, method)
    torch.testing.assert_close(behind.image, whole.image)
    torch.testing.assert_close(behind.text, whole.text)


def test_its_size() -> None:
    choice, shape = choose("late_fusion"), PRESETS["clip-vit-base-patch16"]
    assert choice.method.parameter_count(shape, choice.settings()) == 1537 * 256 + 257 * 1024
    with pytest.raises(InterplayError, match="hidden >= 1"):
        choice.settings({"hidden": 0})

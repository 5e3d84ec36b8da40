"""LoRA: where its adapters act, what is kept of it, and that the frozen layers are lent without a trace."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.registry import choose
from interplay.towers.backbone import Backbone
from interplay.towers.walk import encode


def method_of(backbone: Backbone, **settings: Any) -> Method:
    torch.manual_seed(1)
    method = choose("lora").build(backbone.shape, {"rank": 2, **settings}).eval()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.normal_(0, 0.2)
    return method


@pytest.mark.parametrize("sides", ["image", "text", "both"])
@pytest.mark.parametrize("targets", [("qkv",), ("out",), ("qkv", "out")])
def test_adapters_stand_where_the_settings_say(
    sides: str, targets: tuple[str, ...], backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    method = method_of(backbone, sides=sides, targets=targets)
    inputs: dict[Any, Tensor] = {"image": pixels, "text": backbone.tokenize(texts)}
    total = 0
    for side, raw in inputs.items():
        tower = backbone.tower(side)
        adapted = sides in (side, "both")
        assert torch.equal(encode(tower, side, raw, method), encode(tower, side, raw)) is not adapted
        assert method.first_layer(side) == (0 if adapted else tower.shape.depth)
        for target in targets if adapted else ():
            outputs, width = {"qkv": 3, "out": 1}[target], tower.shape.width
            total += tower.shape.depth * 2 * (width + outputs * width)
    settings = choose("lora").settings({"rank": 2, "sides": sides, "targets": targets})
    assert total == choose("lora").method.parameter_count(backbone.shape, settings)
    assert total == sum(tensor.numel() for tensor in method.state_dict().values())


def test_a_fresh_adapter_changes_nothing(backbone: Backbone, pixels: Tensor) -> None:
    method = choose("lora").build(backbone.shape).eval()
    torch.testing.assert_close(
        encode(backbone.image, "image", pixels, method), encode(backbone.image, "image", pixels)
    )


def test_many_threads_may_use_one_method(backbone: Backbone, pixels: Tensor) -> None:
    methods = [method_of(backbone), method_of(backbone, alpha=20)]

    def vectors(at: int) -> Tensor:
        with torch.no_grad():
            return encode(backbone.image, "image", pixels, methods[at % 2])

    expected = [vectors(0), vectors(1)]
    with ThreadPoolExecutor(4) as threads:
        for at, found in enumerate(threads.map(vectors, range(200))):
            assert torch.equal(found, expected[at % 2])


def test_the_weights_of_the_tower_are_lent_and_not_kept(backbone: Backbone, pixels: Tensor) -> None:
    method = method_of(backbone)
    before = copy.deepcopy(backbone.state_dict())
    encode(backbone.image, "image", pixels, method).sum().backward()
    memo: dict[int, Any] = {}
    copy.deepcopy(method, memo)
    real = {id(p) for p in memo.values() if isinstance(p, Tensor) and p.device.type != "meta"}
    assert len(real) == len(list(method.parameters()))
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_a_copy_has_adapters_of_its_own(backbone: Backbone, pixels: Tensor) -> None:
    method = method_of(backbone)
    before = encode(backbone.image, "image", pixels, method)
    twin = copy.deepcopy(method)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.1)
    assert torch.equal(encode(backbone.image, "image", pixels, method), before)
    assert not torch.equal(encode(backbone.image, "image", pixels, twin), before)


def test_dropout_is_for_training_alone(backbone: Backbone, pixels: Tensor) -> None:
    method = method_of(backbone, dropout=0.5)
    reference = encode(backbone.image, "image", pixels, method)
    assert torch.equal(encode(backbone.image, "image", pixels, method), reference)
    method.train()
    assert not torch.equal(encode(backbone.image, "image", pixels, method), reference)
    method.eval()
    assert torch.equal(encode(backbone.image, "image", pixels, method), reference)


def test_contradictions_are_refused() -> None:
    for wrong in ({"rank": 0}, {"targets": ()}, {"dropout": 1.0}):
        with pytest.raises(InterplayError, match="LoRA needs"):
            choose("lora").settings(wrong)

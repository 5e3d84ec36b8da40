"""Temporal prompts: on every interaction layer, exchanged after it, and gone after the last."""

from __future__ import annotations

import pytest
import torch

from interplay.methods.registry import choose
from interplay.parts.temporal_prompts import Schedule
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import SIDES
from interplay.towers.walk import encode_pair
from tests.contract.watching import watched

NAMES = ("mitp", "mitp-naive", "mitp-prompts", "epic")


@pytest.mark.parametrize("carry", [True, False])
@pytest.mark.parametrize("layers", [(1, 2), (2, 3), (1, 3)])
@pytest.mark.parametrize("name", NAMES)
def test_prompts_stand_on_the_prompted_layers_alone(
    name: str,
    layers: tuple[int, ...],
    carry: bool,
    backbone: Backbone,
    pixels: torch.Tensor,
    texts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choice = choose(name)
    method = choice.build(
        backbone.shape, {**choice.method.tiny(), **choice.preset, "layers": layers, "carry": carry}
    )
    schedule = method.schedule
    assert isinstance(schedule, Schedule)
    exchanged: list[int] = []
    exchange = method._exchange
    assert callable(exchange)
    monkeypatch.setattr(method, "_exchange", lambda *ends: exchanged.append(1) or exchange(*ends))
    with watched(backbone) as calls:
        encode_pair(backbone, pixels, backbone.tokenize(texts), method)
    for side in SIDES:
        prompted = {step.side(side) for step in schedule.prompted}
        found = {call.layer: call.given.prompts for call in calls if call.side == side}
        assert found == {i: 6 if i in prompted else 0 for i in range(backbone.shape.side(side).depth)}
    expected = 0 if name == "mitp-prompts" else len(layers) if carry else len(layers) - 1
    assert len(exchanged) == expected

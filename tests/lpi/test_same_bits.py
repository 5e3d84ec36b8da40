"""What a session has learned is the same bit for bit when it is the newest, an older one, or the last that is left.

The kernels of `tests/kernels.py` round by shape, so that a set that is computed in two ways shows on any processor.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from interplay.methods.registry import choose
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import SIDES, Side
from interplay.towers.walk import encode
from tests.kernels import KernelsByShape

ISOLATED = ("lpi-m", "lpi-p", "s_prompts", "maple", "dcp")
SESSIONS = 4


@pytest.mark.bitwise
@pytest.mark.parametrize("name", ISOLATED)
@settings(
    deadline=None,
    max_examples=6,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(depth=st.integers(2, 4), length=st.integers(1, 6), rank=st.integers(1, 8))
def test_a_session_s_embeddings_do_not_change_with_its_place(
    name: str, depth: int, length: int, rank: int, backbone: Backbone, pixels: Tensor, texts: list[str]
) -> None:
    asked: dict[str, Any] = {"depth": depth, "length": length}
    if name == "s_prompts":
        asked = {"image_length": length, "text_length": depth}
    elif name == "dcp":
        asked["heads"] = 4
    elif name.startswith("lpi"):
        asked["rank"] = rank
    choice = choose(name)
    method = choice.build(backbone.shape, {**choice.preset, **asked}).eval()
    inputs: dict[Side, Tensor] = {
        "image": pixels,
        "text": backbone.tokenize(texts, reserve=method.traits.reserve),
    }

    def vectors(session: int) -> dict[Side, Tensor]:
        route = torch.full((len(pixels),), session)
        with torch.no_grad(), KernelsByShape():
            return {s: encode(backbone.tower(s), s, inputs[s], method, route=route) for s in SIDES}

    def check(seen: list[dict[Side, Tensor]]) -> None:
        for at, before in enumerate(seen):
            now = vectors(at)
            assert all(torch.equal(now[side], before[side]) for side in SIDES), (at, len(seen))

    seen: list[dict[Side, Tensor]] = []
    for session in range(SESSIONS):
        method.sessions.begin(f"task {session}", torch.zeros(16))
        seen.append(vectors(session))
        check(seen)
    for gone in (SESSIONS - 1, 0, 0):
        method.sessions.forget(method.sessions.names[gone])
        del seen[gone]
        check(seen)


def test_the_kernels_tell_shapes_apart() -> None:
    whole = torch.randn(6, 8)
    weights = torch.randn(8, 5)
    with KernelsByShape() as kernels:
        assert torch.equal(whole @ weights, whole @ weights)
        assert not torch.equal((whole @ weights)[:2], whole[:2] @ weights)
        assert kernels.calls == 4

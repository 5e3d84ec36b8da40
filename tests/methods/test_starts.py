"""Methods that start as the frozen model: what is refused, what is saved, and gates of each session's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from interplay.errors import InterplayError
from interplay.methods.registry import choose
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import SIDES
from interplay.towers.walk import encode


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("coop", {"position": "front"}, "set position = end"),
        ("maple-released", {}, "set profile = between"),
        ("dcp", {"exchange": "released"}, "set exchange = first"),
        ("lpi", {"text_positions": True}, "leave them out"),
    ],
)
def test_what_moves_the_words_of_a_text_cannot_start_frozen(
    name: str, settings: dict[str, Any], says: str
) -> None:
    choose(name).settings(settings)
    with pytest.raises(InterplayError, match=says):
        choose(name).settings({**settings, "start": "frozen"})


@pytest.mark.parametrize("name", ["mitp", "lpi-m", "coop", "dual_prompt"])
def test_the_papers_form_holds_what_it_held_and_draws_the_same(name: str, backbone: Backbone) -> None:
    choice = choose(name)
    states = []
    for start in ("paper", "frozen"):
        torch.manual_seed(0)
        settings = {**choice.method.tiny(), "start": start}
        states.append(choice.build(backbone.shape, settings).state_dict())
    paper, frozen = states
    assert not [key for key in paper if "gates" in key]
    assert [key for key in frozen if "gates" not in key] == list(paper)
    for key, value in paper.items():
        torch.testing.assert_close(frozen[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["s_prompts", "maple", "lpi-m", "dual_prompt"])
def test_every_sample_passes_the_gates_of_its_own_session(
    name: str, backbone: Backbone, pixels: torch.Tensor, texts: list[str]
) -> None:
    """A batch that mixes sessions is each session alone, and one whose gates are closed is the frozen model."""
    torch.manual_seed(1)
    choice = choose(name)
    method = choice.build(backbone.shape, {**choice.method.tiny(), "start": "frozen"})
    for _ in range(2):
        method.sessions.begin("a task", torch.zeros(backbone.shape.joint))
    bank = method.sessions.bank  # type: ignore[attr-defined]
    with torch.no_grad():
        for gate in bank.sets[1].gates.parameters():
            gate.fill_(0.05)
    inputs = {"image": pixels, "text": backbone.tokenize(texts)}
    with torch.no_grad():
        for side in SIDES:
            if method.first_layer(side) == backbone.shape.side(side).depth:
                continue
            tower, rows = backbone.tower(side), len(texts)
            bare = encode(tower, side, inputs[side])
            route = torch.arange(rows) % 2
            mixed = encode(tower, side, inputs[side], method, route=route)
            second = encode(tower, side, inputs[side], method, route=torch.ones(rows, dtype=torch.long))
            torch.testing.assert_close(mixed[route == 0], bare[route == 0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(mixed[route == 1], second[route == 1], atol=1e-5, rtol=1e-5)
            assert not torch.allclose(second, bare, atol=1e-3), f"the {side} gates of the second session"

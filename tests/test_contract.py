"""Every method and named variant passes every rule of the contract (`tests/contract/rules.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError

from interplay.methods.registry import MethodChoice, choices, choose
from interplay.parts.similarity import similarity
from tests.contract.rules import BITWISE, RULES, Rule, a_frozen_start_is_the_frozen_model_and_can_be_left
from tests.contract.world import Subject, starting_frozen, towers

SOUND = {name: choose(name) for name in sorted(choices())}
GATED = starting_frozen()


def cases() -> Iterator[Any]:
    """Every rule on every method and variant; on the gated forms of variants the rule on starts alone."""
    for rule in RULES:
        marks = pytest.mark.bitwise if rule in BITWISE else ()
        for name, choice in (SOUND | GATED).items():
            variant = choice.name != choice.method.__module__.rsplit(".", 1)[-1]
            if name in SOUND or not variant or rule is a_frozen_start_is_the_frozen_model_and_can_be_left:
                yield pytest.param(rule, choice, marks=marks, id=f"{rule.__name__}-{name}")


@pytest.mark.parametrize(("rule", "choice"), list(cases()))
def test_every_method_keeps_every_rule(rule: Rule, choice: MethodChoice) -> None:
    rule(Subject(choice, towers()))


def test_shapes_in_signatures_are_checked_here() -> None:
    with pytest.raises(TypeCheckError):
        similarity(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), "cosine", "token", cross=False)

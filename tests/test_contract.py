"""Every method and named variant passes every rule of the contract (`tests/contract/rules.py`)."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from interplay.methods.registry import choices, choose
from interplay.parts.similarity import similarity
from tests.contract.rules import BITWISE, RULES, Rule
from tests.contract.world import Subject, starting_frozen, towers

CASES = [
    pytest.param(rule, marks=pytest.mark.bitwise if rule in BITWISE else (), id=rule.__name__)
    for rule in RULES
]


SUBJECTS = {name: choose(name) for name in sorted(choices())} | starting_frozen()


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("rule", CASES)
def test_every_method_keeps_every_rule(rule: Rule, name: str) -> None:
    rule(Subject(SUBJECTS[name], towers()))


def test_shapes_in_signatures_are_checked_here() -> None:
    with pytest.raises(TypeCheckError):
        similarity(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), "cosine", "token", cross=False)

"""The contract turns red on methods that are broken on purpose, by the rule that names what is broken."""

from __future__ import annotations

import copy

import pytest

from interplay.methods.base import choose
from tests.contract.mutants import MUTANTS, Mutant
from tests.contract.rules import RULES
from tests.contract.world import Subject, towers


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.method.__name__ for mutant in MUTANTS])
def test_a_broken_method_turns_its_rule_red(mutant: Mutant) -> None:
    mutant.rule(Subject(choose(mutant.of), towers()))
    with pytest.raises((AssertionError, IndexError, ValueError), match=mutant.says):
        mutant.rule(Subject(mutant.choice, copy.deepcopy(towers())))


def test_every_rule_has_a_broken_method() -> None:
    assert {mutant.rule for mutant in MUTANTS} == set(RULES)
    assert len(MUTANTS) >= 30

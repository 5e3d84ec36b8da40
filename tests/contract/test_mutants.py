"""The contract turns red on methods that are broken on purpose, by the rule that names what is broken."""

from __future__ import annotations

import copy

import pytest
import torch

from interplay.methods.base import Method
from interplay.methods.registry import MethodChoice, choices, choose
from interplay.towers.tokens import SIDES, Side, Tokens, Tower
from tests.contract.mutants import MUTANTS, Mutant
from tests.contract.rules import RULES, it_says_what_it_is
from tests.contract.world import Subject, towers


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.method.__name__ for mutant in MUTANTS])
def test_a_broken_method_turns_its_rule_red(mutant: Mutant) -> None:
    mutant.rule(Subject(mutant.sound, towers()))
    with pytest.raises((AssertionError, IndexError, ValueError), match=mutant.says):
        mutant.rule(Subject(mutant.choice, copy.deepcopy(towers())))


def test_every_rule_has_a_broken_method() -> None:
    assert {mutant.rule for mutant in MUTANTS} == set(RULES)
    assert len(MUTANTS) >= 30


def leaving_out(method: type[Method], side: Side, layer: int) -> type[Method]:
    """The method without what it does around one layer of one side."""

    class LeavesOut(method):  # type: ignore[misc, valid-type]
        def layer(self, at: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
            return tower.layer(i, tokens) if (at, i) == (side, layer) else super().layer(at, i, tower, tokens)

    return LeavesOut


def is_red(subject: Subject) -> bool:
    """Whether any rule that runs the method fails."""
    for rule in RULES:
        if rule is it_says_what_it_is:
            continue
        try:
            rule(subject)
        except (AssertionError, IndexError, ValueError, RuntimeError):
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(choices()))
def test_no_layer_can_be_left_out(name: str) -> None:
    """Wherever leaving out the method on one layer of one side changes its output, the contract is red."""
    sound = choose(name)
    reference = Subject(sound, towers())
    logits = reference.classifier()(towers(), reference.batch())
    for side in SIDES:
        for layer in range(towers().shape.side(side).depth):
            broken = MethodChoice(name, leaving_out(sound.method, side, layer), sound.preset)
            subject = Subject(broken, copy.deepcopy(towers()))
            changed = subject.classifier()(subject.backbone, subject.batch())
            if not torch.allclose(changed, logits, atol=1e-4):
                assert is_red(subject), f"{name} without {side} layer {layer} passes the contract"

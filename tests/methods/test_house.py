"""The contract stays small, no hook is there for one method, and what methods have in common stands in their parts."""

from __future__ import annotations

import difflib
import inspect
import itertools
import re
from pathlib import Path
from types import FunctionType

import pytest
from torch import nn

from interplay.methods.base import Method
from interplay.methods.registry import MethodChoice, choices
from tests.contract.rules import RULES, Rule
from tests.contract.world import Subject, towers
from tests.methods.every_hook import EveryHook

METHODS = sorted({choice.method for choice in choices().values()}, key=lambda method: method.__module__)
MOST_MEMBERS = 14
MOST_SHARED = 0.10
RUN = 3
"""Lines in a row from which they count as shared: fewer are a signature."""


def members() -> set[str]:
    """What a method has beside what every module has and the arguments that it was built with."""
    named = set(vars(Method)) | set(Method.__annotations__) | {"sessions"}
    return {name for name in named if not name.startswith("_") and not hasattr(nn.Module, name)}


def hooks(owner: type) -> set[str]:
    """The functions of a class that others may override."""
    functions = {
        name: member.__func__ if isinstance(member, classmethod) else member
        for name, member in vars(owner).items()
    }
    return {name for name, f in functions.items() if isinstance(f, FunctionType) and not name.startswith("_")}


def test_the_contract_is_small() -> None:
    assert {"traits", "sessions", "Settings"} <= members()
    assert len(members()) <= MOST_MEMBERS, sorted(members())


def test_the_guide_names_every_member() -> None:
    guide = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")
    table = guide.split("A method may define these names")[1].split("\n\n")[1]
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == members() - {"name"}


@pytest.mark.parametrize("hook", sorted(hooks(Method)))
def test_no_hook_is_there_for_one_method(hook: str) -> None:
    overriding = [method.__name__ for method in METHODS if hook in vars(method)]
    assert len(overriding) >= 2, f"{hook} is overridden by {overriding}"


@pytest.mark.parametrize("rule", RULES, ids=[rule.__name__ for rule in RULES])
def test_a_method_with_every_hook_is_one_file_and_keeps_the_contract(rule: Rule) -> None:
    assert hooks(Method) <= set(vars(EveryHook))
    rule(Subject(MethodChoice("every_hook", EveryHook, {}), towers()))


def code(method: type[Method]) -> list[str]:
    """The lines of a method's file without imports, empty ones and those that close a bracket."""
    source = inspect.getsource(inspect.getmodule(method))  # type: ignore[arg-type]
    source = re.sub(r"^(from \S+ )?import (\([^)]*\)|.*)$", "", source, flags=re.MULTILINE)
    lines = [line.strip() for line in source.splitlines()]
    return [line for line in lines if re.search(r"\w", line)]


def test_what_two_methods_have_in_common_stands_in_a_part() -> None:
    lines = {method.__name__: code(method) for method in METHODS}
    for one, other in itertools.combinations(lines, 2):
        blocks = difflib.SequenceMatcher(None, lines[one], lines[other], autojunk=False).get_matching_blocks()
        shared = sum(block.size for block in blocks if block.size >= RUN)
        share = shared / min(len(lines[one]), len(lines[other]))
        assert share < MOST_SHARED, f"{one} and {other} share {shared} lines, {share:.0%} of the shorter"

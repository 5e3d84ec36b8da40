"""What the documents say of commands, files and figures is so; `test_samples.py` runs what they show."""

from __future__ import annotations

import contextlib
import io
import re
from functools import cache
from pathlib import Path

import pytest

import interplay.cli.commands
import interplay.methods
from interplay.cli import main
from interplay.cli.command import commands
from interplay.methods.registry import choices, choose
from tests.contract.rules import RULES, Rule
from tests.contract.world import Subject, towers

from .conftest import Run, write_toy
from .test_samples import DOCUMENTS, ROOT, samples


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_of_the_documents_exist(document: str) -> None:
    shown = "\n".join(one.code for one in samples(document) if one.language == "bash")
    named = re.findall(r"`(interplay [^`]*)`", (ROOT / document).read_text("utf-8"))
    for line in [*re.findall(r"^interplay .*$", shown, re.MULTILINE), *named]:
        words = line.split()
        name = " ".join(words[1:3]) if " ".join(words[1:3]) in commands() else words[1]
        if name.startswith("-") or name == "COMMAND":
            continue
        options = help_of(name)
        for option in re.findall(r"(?<!\w)--[\w-]+", line):
            assert re.search(rf"{option}(?![\w-])", options), f"{line}: {option}"


@cache
def help_of(command: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main([*command.split(), "--help"]) == 0, command
    return out.getvalue()


def python_of_contributing() -> list[str]:
    """The method and the command that CONTRIBUTING.md shows whole."""
    return [one.code for one in samples("CONTRIBUTING.md") if one.language == "python"]


@pytest.fixture
def shift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The method of CONTRIBUTING.md, as if its file lay among the methods."""
    code = python_of_contributing()[0]
    (tmp_path / "shift.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(interplay.methods, "__path__", [*interplay.methods.__path__, str(tmp_path)])
    assert "shift" in choices()
    return "shift"


@pytest.mark.parametrize("rule", RULES, ids=[rule.__name__ for rule in RULES])
def test_the_method_of_the_contributing_guide_passes_the_contract(rule: Rule, shift: str) -> None:
    rule(Subject(choose(shift), towers()))


def test_the_command_of_the_contributing_guide_is_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    table = write_toy(tmp_path / "toy")
    code = python_of_contributing()[1]
    (tmp_path / "data_classes.py").write_text(code, encoding="utf-8")
    package = interplay.cli.commands
    assert "data classes" not in commands()
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert set(run("data", "classes", table, "--json").json) == {"same", "other"}
    assert "same" not in run("data", "classes", table, "--fewest", 1000).out
    assert "'--fewest'" in run("data", "classes", table, "--fewst", 2).err
    assert re.search(r"^  data classes +List the classes of a data set", run("--help").out, re.MULTILINE)
    assert "rows that a class needs to be listed" in run("data", "classes", "--help").out


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_inside_the_repository_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


def test_every_defect_has_a_test_that_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/methods/index.md").read_text("utf-8"))
    assert len(named) >= 9
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text("utf-8"), name


def test_the_figures_of_the_readme_are_those_of_the_benchmarks() -> None:
    measured = (ROOT / "docs/evidence/benchmarks.md").read_text("utf-8").split("### openmoji/relation")[1]
    rows = {cells[0].strip("*"): cells for cells in map(_cells, measured.splitlines()) if len(cells) > 7}
    told = (ROOT / "README.md").read_text("utf-8").split("## What to expect")[1].split("\n## ")[0]
    claims = [cells for cells in map(_cells, told.splitlines()) if len(cells) == 3][2:]
    assert len(claims) > 4
    for method, parameters, accuracy in claims:
        assert rows[method][1].strip("*") == accuracy
        assert rows[method][7] == parameters


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []

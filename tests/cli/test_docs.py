"""What the front documents show runs as it stands."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import interplay.methods
import interplay.retrieval.retriever
from interplay.cli.commands import COMMANDS
from interplay.cli.parsing import CommandLine
from interplay.methods.registry import choices, choose
from tests.contract.rules import RULES, Rule
from tests.contract.world import Subject, towers

from .conftest import Outcome, Run, drawn, write_stream, write_toy

ROOT = Path(__file__).parents[2]
GUIDES = [
    "README.md",
    "docs/data.md",
    "docs/retrieval.md",
    "docs/compare.md",
    "docs/calibration.md",
    "docs/search.md",
    "docs/export.md",
    "docs/backbones.md",
    "docs/data/food101.md",
    "docs/data/mm_imdb.md",
    "docs/data/snli_ve.md",
]
DOCUMENTS = [*GUIDES, "CONTRIBUTING.md", "CHANGELOG.md"]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / document).read_text("utf-8"), re.DOTALL | re.MULTILINE
    )


def test_the_python_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_toy(tmp_path)
    shutil.copy(tmp_path / "0.png", tmp_path / "cat.png")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("README.md", "python")
    assert len([line for line in code.splitlines() if line]) <= 10
    exec(compile(code.replace("epochs=5", "epochs=1, progress=False"), "README.md", "exec"), {})
    assert "accuracy" in capsys.readouterr().out


def test_the_own_data_of_the_readme_can_be_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    (table,) = blocks("README.md", "csv")
    (tmp_path / "pairs.csv").write_text(table, encoding="utf-8")
    for at, line in enumerate(table.splitlines()[1:]):
        drawn("circles", (40 * at, 90, 200), at).save(tmp_path / line.split(",")[0])
    monkeypatch.chdir(tmp_path)
    section = (ROOT / "README.md").read_text("utf-8").split("## Your own data")[1].split("## ")[0]
    lines = re.findall(r"^interplay .*$", section, re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        quick = ["--epochs", "1", "--no-progress"] if " train " in line else []
        done = run(*shlex.split(line)[1:], *quick)
        assert done.code == 0, done.err


def test_the_python_of_the_retrieval_guide_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_stream(tmp_path).rename(tmp_path / "pairs.csv")
    monkeypatch.chdir(tmp_path)
    quick = replace(interplay.retrieval.retriever.RETRIEVAL_TRAINING, epochs=1, progress=False)
    monkeypatch.setattr(interplay.retrieval.retriever, "RETRIEVAL_TRAINING", quick)
    (code,) = blocks("docs/retrieval.md", "python")
    assert len([line for line in code.splitlines() if line]) <= 10
    code = code.replace('["0.png", "1.png"]', '["squares-0.png", "circles-1.png"]')
    exec(compile(code, "docs/retrieval.md", "exec"), {})
    assert "circles-1.png" in capsys.readouterr().out


def test_the_commands_of_the_retrieval_guide_work_from_top_to_bottom(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_stream(tmp_path).rename("pairs.csv")
    further = write_stream(tmp_path / "further", ["triangles"])
    further.rename(further.with_name("more.csv"))
    shutil.copytree("further", ".", dirs_exist_ok=True)
    Path("photos").mkdir()
    for name, task in (("shoe", "squares"), ("boot", "circles"), ("hat", "stripes")):
        shutil.copy(f"{task}-0.png", f"photos/{name}.png")
    for name, words in (("captions", "a red square\na blue circle\n"), ("questions", "a shoe\na boot\n")):
        Path(f"{name}.txt").write_text(words)
    Path("prices.csv").write_text(blocks("docs/retrieval.md", "csv")[1])
    found: dict[str, Outcome] = {}
    guide = (ROOT / "docs/retrieval.md").read_text("utf-8")
    for line in re.findall(r"^interplay .*$", guide, re.MULTILINE):
        words = shlex.split(line)[1:]
        quick = ["--epochs", "1", "--no-progress"] if words[0] in ("continual", "learn") else []
        found[line] = run(*words, *quick)
        assert found[line].code == 0, (line, found[line].err)
    narrowed = next(done for line, done in found.items() if "--where" in line)
    assert "photos/shoe.png" in narrowed.out
    assert "sku-17" in narrowed.out
    assert "boot" not in narrowed.out
    assert not any("wait" in done.err for line, done in found.items() if "search" in line)
    assert "2 entries were removed" in next(done.out for line, done in found.items() if "remove" in line)


@pytest.mark.parametrize("document", GUIDES)
def test_the_commands_of_the_guides_exist(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    lines = re.findall(r"^interplay .*$", text, re.MULTILINE) + re.findall(r"`(interplay [^`]*)`", text)
    assert lines
    for line in lines:
        words = line.split()
        name = " ".join(words[1:3]) if " ".join(words[1:3]) in COMMANDS else words[1]
        options = CommandLine.of(name, COMMANDS[name]).parser().format_help()
        for option in re.findall(r"--[\w-]+", line):
            assert f"{option} " in options or f"{option}]" in options, f"{line}: {option}"


@pytest.fixture
def shift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The method of CONTRIBUTING.md, as if its file lay among the methods."""
    (code,) = blocks("CONTRIBUTING.md", "python")
    (tmp_path / "shift.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(interplay.methods, "__path__", [*interplay.methods.__path__, str(tmp_path)])
    assert "shift" in choices()
    return "shift"


@pytest.mark.parametrize("rule", RULES, ids=[rule.__name__ for rule in RULES])
def test_the_method_of_the_contributing_guide_passes_the_contract(rule: Rule, shift: str) -> None:
    rule(Subject(choose(shift), towers()))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_inside_the_repository_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


def test_every_defect_has_a_test_that_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/baselines.md").read_text("utf-8"))
    assert len(named) >= 9
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text("utf-8"), name

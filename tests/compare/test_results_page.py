"""The committed pages of results say what the committed cells say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from interplay.comparison.grid import read_grid

ROOT = Path(__file__).parents[2]


def script(path: str) -> ModuleType:
    """A script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_that_of_the_cells() -> None:
    text = (ROOT / "docs" / "evidence" / "benchmarks.md").read_text("utf-8")
    assert text == script("scripts/results_page.py").page(), "run python scripts/results_page.py"
    links = re.findall(r"\]\(\.\./\.\./(results/[^)]+)\)", text)
    assert len(links) > 50
    assert all((ROOT / link).exists() for link in links)


def test_the_recipe_takes_the_schedules_that_won(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    tuning = script("benchmarks/tuning.py")
    cells = {cell.name: cell for cell in read_grid(Path("recipes/openmoji.yaml")).cells}
    rows = [cell for cell in tuning.untuned().cells if cell.seed == 0 and tuning.tunable(cell)]
    assert len(rows) == 17 * 3
    for cell in rows:
        best, taken = tuning.best(cell), cells[cell.name].training
        assert best is not None, f"{cell.name} has not had its trials"
        assert (best["epochs"], best["learning_rate"]) == (
            taken["epochs"],
            pytest.approx(taken["learning_rate"]),
        )


def test_the_continual_tables_are_those_of_the_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = Path("docs/evidence/continual.md").read_text("utf-8")
    assert text.count("<!-- recipes/") == 3
    assert text == script("benchmarks/continual.py").page(text), "run python benchmarks/continual.py page"

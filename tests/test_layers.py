"""The packages stand on one another in the order that CONTRIBUTING.md gives."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "interplay"


def imports() -> Iterator[tuple[str, str]]:
    """Package and imported package, for every import of every file; those for type checkers too."""
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0]
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("interplay."):
                yield own, str(node.module).split(".")[1]


def test_packages_import_only_from_rows_above_their_own() -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("## Where things are")[1].split("## ")[0]
    rows = [
        re.findall(r"`(\w+)`", line.split("|")[1]) for line in section.splitlines() if line.startswith("| `")
    ]
    level = {name: at for at, row in enumerate(rows) for name in row}
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert set(level) == packages
    found = {(own, used) for own, used in imports() if own in level and used in level}
    assert not {(own, used) for own, used in found if own != used and level[used] >= level[own]}


def at_import(module: str) -> set[str]:
    """The modules of the package that one imports at its top, and those that they import there."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        if (name := waiting.pop()) in found:
            continue
        path = PACKAGE.parent.joinpath(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if file.exists():
            found.add(name)
            for node in ast.parse(
                file.read_text("utf-8")
            ).body:  # what stands in functions and conditions waits
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("interplay"):
                    waiting += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def test_inference_imports_of_training_its_settings_and_reports_alone() -> None:
    light = {"interplay.training", "interplay.training.settings", "interplay.training.report"}
    for module in (
        "classification.classifier",
        "classification.adapter_bank",
        "retrieval.retriever",
        "gallery.gallery",
    ):
        found = at_import(f"interplay.{module}")
        assert {name for name in found if name.startswith("interplay.training")} <= light, module
        assert f"interplay.{module}" in found
    assert "interplay.training.train" in at_import("interplay.retrieval.learning")

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

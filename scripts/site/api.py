"""Pages of the Python API: the public names, and a page for each package, from the docstrings by mkdocstrings."""

from __future__ import annotations

import ast
from pathlib import Path

import interplay

SOURCE = Path(interplay.__file__).parent
COMMAND_LINE = "cli"
"""The package that has other pages: those of the commands."""


def packages() -> list[str]:
    """The packages that have a page, and `interplay` for the modules beside them."""
    found = [path.name for path in sorted(SOURCE.iterdir()) if (path / "__init__.py").exists()]
    return [name for name in found if name != COMMAND_LINE] + ["interplay"]


def modules(package: str) -> list[str]:
    """The modules of a package, by the names that they are imported under."""
    folder = SOURCE if package == "interplay" else SOURCE / package
    prefix = "interplay" if package == "interplay" else f"interplay.{package}"
    return [f"{prefix}.{path.stem}" for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")]


def public() -> dict[str, str]:
    """The public names, each with the module that defines it."""
    tree = ast.parse((SOURCE / "__init__.py").read_text("utf-8"))
    return {
        alias.name: str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("interplay.")
        for alias in node.names
    }


def pages() -> dict[str, str]:
    """All pages by their place in the site."""
    names = "\n".join(f"| [`{name}`](#interplay.{name}) | `{home}` |" for name, home in public().items())
    blocks = "\n\n".join(f"::: interplay.{name}" for name in public())
    made = {
        "api/index.md": "# Python API\n\nThe names to import from `interplay`. The pages of the packages have the "
        f"rest; what they define may still change.\n\n| name | defined in |\n|---|---|\n{names}\n\n{blocks}\n"
    }
    for package in packages():
        blocks = "\n\n".join(f"::: {module}" for module in modules(package))
        made[f"api/{package}.md"] = f"# {package}\n\n{blocks}\n"
    return made

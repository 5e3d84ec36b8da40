"""Write `recipes/mitp` and `recipes/lpi` from the tables in `interplay.comparison`: `python scripts/recipes.py`."""

from __future__ import annotations

from pathlib import Path

from interplay.comparison.papers.catalogue import tables
from interplay.files import write_text

FOLDER = Path(__file__).parents[1] / "recipes"


def main() -> None:
    """Write every file anew, and take away those of cells that are no more."""
    wanted = {FOLDER / recipe.file: recipe.text() for cells in tables().values() for recipe in cells}
    for path in FOLDER.glob("*/*/*.yaml"):
        if path not in wanted:
            path.unlink()
    for path, text in wanted.items():
        write_text(path, text)
    print(f"{len(wanted)} recipes in {FOLDER}")


if __name__ == "__main__":
    main()

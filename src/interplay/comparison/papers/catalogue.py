"""All tables of the papers that can be reproduced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from interplay.comparison.papers import lpi, mitp
from interplay.comparison.papers.recipes import Recipe
from interplay.data.coco import MS_COCO
from interplay.data.readers import BENCHMARKS


def tables() -> dict[str, list[Recipe]]:
    """Name, as `interplay reproduce` takes it → the recipes of its cells."""
    return mitp.tables() | lpi.tables()


def missing_data(recipes: Sequence[Recipe], root: str | Path) -> dict[str, str]:
    """Data set → what is missing of it, where it is from and where it goes; only those that some recipes need.

    Args:
        root: folder with the benchmarks' folders.
    """
    needed = {recipe.dataset for recipe in recipes}
    return {
        benchmark.name: sentence
        for benchmark in (*(known for known, _ in BENCHMARKS), MS_COCO)
        if benchmark.name in needed and (sentence := benchmark.missing(Path(root) / benchmark.name))
    }

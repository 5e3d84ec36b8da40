"""The committed page of results says what the committed cells say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_that_of_the_cells() -> None:
    spec = importlib.util.spec_from_file_location("results_page", ROOT / "scripts" / "results_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    assert text == module.page(), "run python scripts/results_page.py"
    links = re.findall(r"\]\(\.\./(results/[^)]+)\)", text)
    assert len(links) > 50
    assert all((ROOT / link).exists() for link in links)

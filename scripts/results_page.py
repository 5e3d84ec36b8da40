"""Write docs/benchmarks.md from the finished cells of recipes/openmoji.yaml under results/openmoji.

python scripts/results_page.py
"""

from __future__ import annotations

from pathlib import Path

from interplay.comparison.engine import load_record
from interplay.comparison.grid import read_grid
from interplay.comparison.pages import NOTE, markdown, overview
from interplay.comparison.tables import data_tables
from interplay.files import write_text

ROOT = Path(__file__).parents[1]
GRID, RESULTS, PAGE = "recipes/openmoji.yaml", "results/openmoji", "docs/benchmarks.md"
COMMAND = f"interplay compare --grid {GRID} --out {RESULTS}"


def page() -> str:
    """The page as it has to be."""
    grid = read_grid(ROOT / GRID)
    found = {cell.name: load_record(ROOT / RESULTS, cell) for cell in grid.cells}
    records = [record for record in found.values() if record is not None]
    missing = [name for name, record in found.items() if record is None]
    tables = data_tables(records)
    open_cells = f"{len(missing)} of {len(found)} cells are not run yet." if missing else "Every cell is run."
    return f"""# Benchmarks: every method on the OpenMoji tasks

Written by `python scripts/results_page.py` from the cells under `{RESULTS}`; do not edit. {open_cells}

Every number links to the JSON file of its (first) cell, which holds all settings, metrics and predictions. One command
makes every cell that is missing, and `--only` one of them:

```
{COMMAND}
{COMMAND} --only mitp openmoji/relation "#0"
```

All gradient methods of a task share head, loss and batch size. Epochs and learning rate come from the same budget for
each (four schedules on validation: `python -m benchmarks.tuning choose`); `{GRID}` has them. Backbone:
`tiny`, frozen (but for `full` and `mmbt`, which train copies). What the numbers mean for MITP and EPIC is in
[results.md](results.md).

## Overview

Test splits, per cent, mean ± deviation over seeds; the rank within the column in brackets.

{overview(tables, f"../{RESULTS}")}
## Each task

{NOTE} Cells of earlier runs hold no predictions, so they cannot be compared pair by pair ("–").

{markdown(tables, f"../{RESULTS}")}"""


if __name__ == "__main__":
    write_text(ROOT / PAGE, page())
    print(PAGE)

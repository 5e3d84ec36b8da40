"""A small grid for the tests that kill it."""

from __future__ import annotations

from pathlib import Path

from interplay.comparison.grid import Grid, make_grid
from interplay.comparison.run import Conduct, run_grid
from tests.forking import serve


def small_grid(data: Path) -> Grid:
    """A probe and two rows by gradient on a toy table, two seeds."""
    return make_grid(
        {
            "rows": {
                "linear_probe": {},
                "mitp": {"settings": {"layers": [11], "hidden": 4, "length": 2}},
                "prompts": {"method": "mitp-prompts", "settings": {"layers": [11], "length": 2}},
            },
            "data": [str(data)],
            "seeds": [0, 1],
            "head": {"kind": "pair"},
            "training": {"epochs": 1, "batch_size": 8},
        },
        "test",
    )


def work(data: Path, folder: Path) -> None:
    """The whole grid."""
    run_grid(small_grid(data), folder, Conduct(memory=False))


if __name__ == "__main__":
    serve(work)

"""What a command hands back, and how it looks: one document for machines, a few lines for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Result:
    """What a command found out.

    Attributes:
        data: plain JSON values, printed as one document with `--json`.
        text: the same for people, printed without it.
    """

    data: Any
    text: str


def note(text: str) -> None:
    """Tell the person at the terminal something; never part of a result."""
    print(text, file=sys.stderr, flush=True)


def columns(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns under a header; numbers stand right, everything else left.

    Args:
        header: one name a column.
        rows: cells; floats are shown with three digits, integers with thousands separators, None as `-`.
    """
    right = [
        all(isinstance(row[i], (int, float)) or row[i] is None for row in rows) for i in range(len(header))
    ]
    lines = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def task_count(tasks: int) -> str:
    """A number of tasks in words."""
    return "1 task" if tasks == 1 else f"{tasks or 'no'} tasks"

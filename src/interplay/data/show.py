"""A look at a table: its counts, and a sheet of its pictures with their texts and labels."""

from __future__ import annotations

import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from interplay.data.schema import PairTable
from interplay.errors import InterplayError
from interplay.files import write_atomically

_INK, _ACCENT, _FRAME, _BOX = "#1f2430", "#2f6db5", "#d9dee7", "#9aa3b2"
_LINES, _LINE_LETTERS = 3, 24
_CELL, _WORDS, _MARGIN, _TITLE = 1.9, 0.8, 0.2, 0.55  # inches: picture, its words, gaps, the title


def summary(table: PairTable) -> dict[str, Any]:
    """Counts for people and machines (plain JSON values).

    Returns:
        `name`, `kind`, `rows`, `splits` (rows of each), `classes` (for each class its rows in each split),
        `tasks` (rows of each, where there are any), `skipped` (one sentence a row) and `notes`.
    """
    splits = table.rows["split"] if "split" in table.rows.column_names else ["all"] * len(table)
    classes: dict[str, Counter[str]] = {name: Counter() for name in table.classes}
    for split, labels in zip(splits, table.labels(), strict=True):
        for label in labels:
            classes[label][split] += 1
    return {
        "name": table.name,
        "kind": table.kind,
        "rows": len(table),
        "splits": table.splits(),
        "classes": {name: dict(count) for name, count in classes.items()},
        "tasks": dict(Counter(table.tasks())) if "task" in table.rows.column_names else {},
        "skipped": [str(row) for row in table.skipped],
        "notes": list(table.notes),
    }


def contact_sheet(table: PairTable, path: str | Path, rows: int = 4, columns: int = 6, seed: int = 0) -> Path:
    """Draws some rows of a table as a sheet of pictures, each with its text and, in colour, its labels.

    Where the table has a column `boxes` they are drawn too.

    Args:
        table: image-text pairs, not empty.
        path: where the PNG goes; its folder is made.
        rows: lines of pictures.
        columns: pictures in a line.
        seed: decides which rows of the table are shown.

    Returns:
        The path.

    Raises:
        InterplayError: the table is empty, a picture cannot be read, or the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    if not len(table):
        raise InterplayError(f"{table.name} has no rows to show.")
    count = min(rows * columns, len(table))
    picked = sorted(np.random.default_rng(seed).choice(len(table), size=count, replace=False).tolist())
    sample = table.select(picked)
    width, height = _CELL * columns + _MARGIN, (_CELL + _WORDS) * rows + _TITLE
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    figure.subplots_adjust(
        left=_MARGIN / width,
        right=1 - _MARGIN / width,
        top=1 - _TITLE / height,
        bottom=_WORDS / height,
        hspace=_WORDS / (_CELL - _MARGIN),
        wspace=_MARGIN / (_CELL - _MARGIN),
    )
    title = f"{table.name}: {count} of {len(table):,} rows"
    figure.suptitle(
        title,
        x=_MARGIN / width,
        y=1 - 0.15 / height,
        va="top",
        ha="left",
        fontsize=13,
        color=_INK,
        weight="bold",
    )
    cells = figure.subplots(rows, columns, squeeze=False).flat
    texts, labels = sample.texts(), sample.labels()
    boxes = sample.rows["boxes"][:] if "boxes" in sample.rows.column_names else [[]] * count
    for number, cell in enumerate(cells):
        if number >= count:
            cell.set_axis_off()
            continue
        cell.imshow(sample.image(number))
        for left, top, right, bottom in boxes[number]:
            corner = (left - 0.5, top - 0.5)  # pixels are drawn around whole numbers
            size = (right - left, bottom - top)
            cell.add_patch(Rectangle(corner, *size, fill=False, edgecolor=_BOX, linewidth=0.6))
        cell.set(xticks=[], yticks=[], anchor="N")
        cell.spines[:].set_color(_FRAME)
        _caption(cell, texts[number], ", ".join(labels[number]))
    target = Path(path)
    write_atomically(target, lambda temporary: figure.savefig(temporary, format="png", dpi=110))
    return target


def _caption(cell: Any, text: str, label: str) -> None:
    """Writes a label and below it the text under a picture, as many lines as there is room for."""
    shown = textwrap.shorten(text.replace("$", r"\$"), _LINES * _LINE_LETTERS, placeholder=" …")
    lines = textwrap.wrap(shown, _LINE_LETTERS)[:_LINES]
    style = {"transform": cell.transAxes, "ha": "center", "va": "top"}
    if label:
        label = textwrap.shorten(label.replace("$", r"\$"), _LINE_LETTERS + 2, placeholder=" …")
        cell.text(0.5, -0.04, label, fontsize=8.5, color=_ACCENT, weight="bold", **style)
    cell.text(0.5, -0.17 if label else -0.04, "\n".join(lines), fontsize=8, color=_INK, **style)

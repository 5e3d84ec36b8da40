"""What a trained classifier is worth beside the simplest answers to its task, and what there is to say of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from interplay.cli.result import columns


def standings(monitor: str, table: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> str:
    """A row for each answer with its 95 % interval, and a line for each note.

    Args:
        monitor: the metric of the table.
        table: rows as `Standing` has them; empty where no start was fitted.
        notes: sentences.
    """
    parts = []
    if table:
        rows = [(one["name"], one["value"], f"{one['low']:.3f} to {one['high']:.3f}") for one in table]
        parts.append(columns((f"on {table[0]['rows']:,} pairs", monitor, "95 % interval"), rows))
    if notes:
        parts.append("\n".join(notes))
    return "\n\n".join(parts)

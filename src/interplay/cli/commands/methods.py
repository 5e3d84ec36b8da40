"""`interplay methods`: the methods with their variants."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from interplay.cli.result import Result
from interplay.cli.result import columns as aligned

if TYPE_CHECKING:
    pass

GROUP = "Look"


def methods() -> Result:
    """List the methods with their variants.

    `train --method` takes every name in the first and the last column. A coupled method runs both towers in
    lock-step on true pairs, so it cannot encode a picture or a text alone.

    Example: interplay methods
    """
    from interplay.methods.catalogue import catalogue

    rows = [asdict(entry) for entry in catalogue()]
    shown = [
        (row["name"], row["trained"], "yes" if row["coupled"] else "no", ", ".join(row["variants"]))
        for row in rows
    ]
    width = max(len(row["name"]) for row in rows)
    summaries = "\n".join(f"{row['name']:<{width}}  {row['summary']}" for row in rows)
    return Result(rows, aligned(("method", "trained", "coupled", "variants"), shown) + "\n\n" + summaries)

"""From finished cells to what contrasts are judged by: outcomes of each test pair, and which pairs belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from interplay.comparison.contrasts import Contrast, Measured, Place
from interplay.comparison.engine import Record, load_record
from interplay.comparison.grid import Grid
from interplay.comparison.loader import Loader
from interplay.comparison.run import class_numbers
from interplay.comparison.statistics import Clusters, Floats, clusters_of
from interplay.comparison.streams import StreamCell
from interplay.comparison.tables import HEADLINE, check_pairs, headline, outcome
from interplay.data.checks import OnBadRow
from interplay.data.schema import PairTable
from interplay.errors import InterplayError, unknown
from interplay.methods.registry import choose


def measured_grid(
    grid: Grid,
    folder: Path,
    contrasts: Sequence[Contrast],
    loader: Loader | None = None,
    on_bad_row: OnBadRow = "error",
) -> dict[Place, Measured]:
    """What a grid's finished cells say on the data sets of some contrasts, trained on all of the training data.

    A cell without the predictions of its test pairs counts as one that is missing.

    Args:
        loader: of the data; by default a fresh one.
        on_bad_row: as the cells were run with.

    Raises:
        InterplayError: cells of other settings or of other test pairs than the data has now, a metric that predictions
            do not give, or a column that the data lacks.
    """
    loader = loader or Loader()
    found: dict[Place, Measured] = {}
    for place in dict.fromkeys(contrast.place for contrast in contrasts):
        data, asked = place[0], [contrast for contrast in contrasts if contrast.place == place]
        rows: dict[str, list[Record]] = {}
        for cell in grid.cells:
            wanted = cell.data == data and cell.share == 1 and any(cell.row in c.rows for c in asked)
            record = load_record(folder, cell) if wanted else None
            if record is not None and record["predicted"] is not None:
                rows.setdefault(cell.row, []).append(record)
        if rows:
            found[place] = _on_pairs(rows, loader.table(data, on_bad_row).split("test"), asked)
    return found


def _on_pairs(
    rows: Mapping[str, Sequence[Record]], table: PairTable, contrasts: Sequence[Contrast]
) -> Measured:
    """What the records of some rows say on one test split."""
    first = next(iter(rows.values()))[0]
    kind, classes = first["kind"], first["classes"]
    for contrast in contrasts:
        if contrast.metric != HEADLINE[kind]:
            raise InterplayError(
                f"The contrast '{contrast.name}': predictions on {table.name} give the metric {HEADLINE[kind]}, not "
                f"{contrast.metric}."
            )
    for records in rows.values():
        check_pairs(first, records, table.name)
    if first["truth"] != class_numbers(table.targets(), multi=kind == "multi"):
        raise InterplayError(
            f"The cells on {table.name} were measured on other test pairs than it has now: remove them, and they are "
            "run again."
        )
    return Measured(
        {name: np.stack([outcome(one, classes) for one in records]) for name, records in rows.items()},
        frozenset(name for name, records in rows.items() if _depends_on_seed(records[0]["cell"]["method"])),
        clusters_of(table.picture_keys(), table.texts()),
        lambda sums, pairs: headline(sums, pairs, kind),
        {contrast.over: _numbers(table, contrast) for contrast in contrasts if contrast.over is not None},
    )


def _numbers(table: PairTable, contrast: Contrast) -> Floats:
    """The column that a contrast is over: its numbers, or how long its lists are."""
    if contrast.over not in table.rows.column_names:
        raise unknown(f"column of {table.name}", str(contrast.over), table.rows.column_names)
    try:
        column = table.rows[contrast.over]
        return np.array([len(one) if isinstance(one, list) else one for one in column], dtype=np.float64)
    except (TypeError, ValueError):
        raise InterplayError(
            f"The contrast '{contrast.name}' is over '{contrast.over}', which holds neither numbers nor lists in "
            f"{table.name}."
        ) from None


def measured_streams(
    rows: Mapping[str, Sequence[StreamCell]], folder: Path, contrasts: Sequence[Contrast]
) -> dict[Place, Measured]:
    """The same of streams; a row is resampled over its seeds alone, each the mean over its orders.

    Raises:
        InterplayError: cells of other settings, or a metric that is no figure of a stream.
    """
    found: dict[Place, Measured] = {}
    alone = Clusters((np.zeros(1, dtype=np.int64),))
    for place in dict.fromkeys(contrast.place for contrast in contrasts):
        asked = {row for contrast in contrasts if contrast.place == place for row in contrast.rows}
        values = {row: _by_seed(rows[row], folder, place[1]) for row in asked}
        found[place] = Measured(
            {row: np.array(of_seeds)[:, None, None] for row, of_seeds in values.items() if of_seeds},
            frozenset(row for row in asked if _depends_on_seed(rows[row][0].method)),
            alone,
            lambda sums, pairs: sums[..., 0] / pairs,
            {},
        )
    return found


def _by_seed(cells: Sequence[StreamCell], folder: Path, metric: str) -> list[float]:
    """A figure of every seed whose orders are all finished, the mean over them."""
    values = []
    for seed in dict.fromkeys(cell.seed for cell in cells):
        own = [cell for cell in cells if cell.seed == seed]
        records = [load_record(folder, cell) for cell in own]
        finished = [record for record in records if record is not None]
        if len(finished) == len(own):
            values.append(
                fmean(_figure(record, metric, cell.name) for record, cell in zip(finished, own, strict=True))
            )
    return values


def _depends_on_seed(method: str) -> bool:
    """Whether a method is trained by gradient."""
    return choose(method).method.traits.solver.by_gradient


def _figure(record: Record, metric: str, name: str) -> float:
    """A figure of a stream: the mean over k and both directions."""
    figure: Any = record.get(metric)
    if not isinstance(figure, dict) or figure.get("mean") is None:
        raise InterplayError(f"{name} has no figure '{metric}': its record has {', '.join(sorted(record))}.")
    return float(figure["mean"])

"""From finished cells to rows: mean ± deviation over seeds, and a paired bootstrap against the best one."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interplay.comparison.grid import GridCell
from interplay.errors import InterplayError

Record = Mapping[str, Any]
HEADLINE = {"single": "accuracy", "multi": "f1_macro"}
"""The metric of a table by the kind of labels."""
BESIDE = {"single": ("macro_accuracy", "f1_macro"), "multi": ("f1_micro", "map")}
"""The metrics that stand beside it."""
WHERE_MEASURED = ("group_score", "beyond_additive")
"""Metrics that stand there too where all cells of a table have them."""
METRIC_WORDS = {
    "group_score": "group score",
    "beyond_additive": "beyond additive",
    "accuracy": "accuracy",
    "macro_accuracy": "macro accuracy",
    "f1_macro": "macro F1",
    "f1_micro": "micro F1",
    "map": "mean average precision",
}
RESAMPLES = 2000


@dataclass(frozen=True)
class Row:
    """One row of one data set's table.

    Attributes:
        name: of the row.
        values: the headline metric of each seed, 0 to 1.
        beside: those that stand beside it, each of every seed, in the order of `DataTable.beside`.
        files: the cell of each seed, below the grid's folder.
        behind: mean difference to the best row, at most 0; None without predictions to compare.
        low, high: its 95 % interval over resampled test pairs.
        p_value: share of resamples in which the row is at least as good as the best one.
        parameters: trained, head included.
        seconds: of training, mean over seeds.
        peak_mib: of a training step, None where it was not measured.
        pairs_per_second: in prediction, mean over seeds; None where it was not measured.
    """

    name: str
    values: tuple[float, ...]
    beside: tuple[tuple[float, ...], ...]
    files: tuple[Path, ...]
    behind: float | None
    low: float | None
    high: float | None
    p_value: float | None
    parameters: int
    seconds: float
    peak_mib: float | None
    pairs_per_second: float | None

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        """Over seeds, 0 with one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0


@dataclass(frozen=True)
class DataTable:
    """The rows of one data set, trained on one share of it.

    Attributes:
        data: its name.
        share: of the training data.
        metric: the headline metric.
        beside: the metrics that stand beside it.
        rows: in the order of the grid.
    """

    data: str
    share: float
    metric: str
    beside: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """The data, with the share where it is not all."""
        return self.data if self.share == 1 else f"{self.data}, {100 * self.share:g} % of the training data"

    @property
    def best(self) -> Row:
        """The row with the highest mean; the first of equals."""
        return max(self.rows, key=lambda row: row.mean)

    def plain(self) -> dict[str, Any]:
        """As JSON holds it, each row with its mean and deviation."""
        rows = [
            asdict(row)
            | {"mean": row.mean, "deviation": row.deviation}
            | {"beside": dict(zip(self.beside, row.beside, strict=True))}
            for row in self.rows
        ]
        found = {"data": self.data, "share": self.share, "metric": self.metric, "rows": rows}
        values: dict[str, Any] = json.loads(json.dumps(found, default=str))
        return values


def outcome(record: Record, classes: int) -> NDArray[np.float64]:
    """What a bootstrap adds up: for each test pair its part in the metric.

    Returns:
        Single label: (N, 1), 1 where the prediction is right. Several labels: (N, 3·K): for each class whether it
        was predicted rightly, predicted at all, and true.
    """
    predicted, truth = record["predicted"], record["truth"]
    if record["kind"] == "single":
        right: NDArray[np.float64] = (np.array(predicted) == np.array(truth)).astype(float)[:, None]
        return right
    masks = []
    for rows in (predicted, truth):
        mask = np.zeros((len(rows), classes))
        for at, numbers in enumerate(rows):
            mask[at, numbers] = 1
        masks.append(mask)
    return np.concatenate([masks[0] * masks[1], *masks], axis=1)


def headline(sums: NDArray[np.float64], pairs: int | NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    """The metric from what `outcome` adds up to, given the number of pairs of each: (…, 1) or (…, 3·K) → (…)."""
    if kind == "single":
        accuracy: NDArray[np.float64] = sums[..., 0] / pairs
        return accuracy
    hits, predicted, true = np.split(sums, 3, axis=-1)
    both = predicted + true
    f1 = np.divide(2 * hits, both, out=np.zeros_like(both), where=both > 0)
    means: NDArray[np.float64] = f1.sum(axis=-1) / np.maximum(1, (both > 0).sum(axis=-1))
    return means


def bootstrap(
    best: Sequence[Record], other: Sequence[Record], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float, float, float]:
    """Paired bootstrap over test pairs of two rows, each the mean over its seeds.

    Both rows are measured on the same resampled pairs, so what makes a pair hard for both cancels out.

    Args:
        best, other: the records of each row's seeds, on the same test pairs.
        resamples: how many draws with replacement.

    Returns:
        The difference other − best, its 2.5 % and 97.5 % quantiles, and the share of resamples in which it is >= 0.
    """
    kind, classes, pairs = best[0]["kind"], best[0]["classes"], len(best[0]["truth"])
    draws = np.random.default_rng(seed).multinomial(pairs, np.full(pairs, 1 / pairs), size=resamples)
    weights = np.concatenate([np.ones((1, pairs)), draws])
    means = [
        np.mean([headline(weights @ outcome(record, classes), pairs, kind) for record in records], axis=0)
        for records in (best, other)
    ]
    difference = means[1] - means[0]
    low, high = np.quantile(difference[1:], [0.025, 0.975])
    return float(difference[0]), float(low), float(high), float((difference[1:] >= 0).mean())


def data_tables(records: Sequence[Record]) -> list[DataTable]:
    """The tables of the records that hold metrics, one a data set and share."""
    groups: dict[tuple[str, float], dict[str, list[Record]]] = {}
    for record in records:
        if "problem" not in record:
            cell = record["cell"]
            rows = groups.setdefault((cell["data"], cell["share"]), {})
            rows.setdefault(cell["row"], []).append(record)
    return [_data_table(data, share, rows) for (data, share), rows in groups.items()]


def check_pairs(best: Record, records: Sequence[Record], data: str) -> None:
    """Whether all were measured on the same test pairs.

    Raises:
        InterplayError: they were not; names the files of two.
    """
    for record in records:
        if None not in (best["predicted"], record["predicted"]) and record["truth"] != best["truth"]:
            files = [GridCell(**one["cell"]).file for one in (record, best)]
            raise InterplayError(
                f"{files[0]} and {files[1]} were measured on different test pairs: {data} has changed between them. "
                "Remove the older one, and it is run again."
            )


def _data_table(data: str, share: float, groups: Mapping[str, Sequence[Record]]) -> DataTable:
    kind = next(iter(groups.values()))[0]["kind"]
    metric = HEADLINE[kind]
    everywhere = set.intersection(*({*one["metrics"]} for records in groups.values() for one in records))
    beside = BESIDE[kind] + tuple(name for name in WHERE_MEASURED if name in everywhere)
    best = max(groups.values(), key=lambda records: statistics.fmean(r["metrics"][metric] for r in records))
    rows = []
    for name, records in groups.items():
        check_pairs(best[0], records, data)
        comparable = records is not best and all(r["predicted"] is not None for r in (*best, *records))
        behind, low, high, p_value = bootstrap(best, records) if comparable else (None,) * 4
        peaks = [r["peak_mib"] for r in records if r["peak_mib"] is not None]
        rates = [r["pairs_per_second"] for r in records if r["pairs_per_second"] is not None]
        rows.append(
            Row(
                name,
                tuple(r["metrics"][metric] for r in records),
                tuple(tuple(r["metrics"][other] for r in records) for other in beside),
                tuple(GridCell(**r["cell"]).file for r in records),
                behind,
                low,
                high,
                p_value,
                max(r["trained_parameters"] for r in records),
                statistics.fmean(r["seconds"] for r in records),
                max(peaks) if peaks else None,
                statistics.fmean(rates) if rates else None,
            )
        )
    return DataTable(data, share, metric, beside, tuple(rows))

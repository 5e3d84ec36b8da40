"""From finished cells to tables: mean ± deviation over seeds, and a paired bootstrap against the best row."""

from __future__ import annotations

import html
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interplay.grid import Cell

Record = Mapping[str, Any]
HEADLINE = {"single": "accuracy", "multi": "f1_macro"}
"""The metric of a table by the kind of labels."""
METRIC_WORDS = {"accuracy": "accuracy", "f1_macro": "macro F1"}
RESAMPLES = 2000


@dataclass(frozen=True)
class Row:
    """One row of one data set's table.

    Attributes:
        name: of the row.
        values: the headline metric of each seed, 0 to 1.
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
        rows: in the order of the grid.
    """

    data: str
    share: float
    metric: str
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """The data, with the share where it is not all."""
        return self.data if self.share == 1 else f"{self.data}, {100 * self.share:g} % of the training data"

    @property
    def best(self) -> Row:
        """The row with the highest mean; the first of equals."""
        return max(self.rows, key=lambda row: row.mean)


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


def headline(sums: NDArray[np.float64], pairs: int, kind: str) -> NDArray[np.float64]:
    """The metric from what `outcome` adds up to: (…, 1) or (…, 3·K) → (…)."""
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


def _data_table(data: str, share: float, groups: Mapping[str, Sequence[Record]]) -> DataTable:
    metric = HEADLINE[next(iter(groups.values()))[0]["kind"]]
    best = max(groups.values(), key=lambda records: statistics.fmean(r["metrics"][metric] for r in records))
    rows = []
    for name, records in groups.items():
        comparable = records is not best and all(r["predicted"] is not None for r in (*best, *records))
        behind, low, high, p_value = bootstrap(best, records) if comparable else (None,) * 4
        peaks = [r["peak_mib"] for r in records if r["peak_mib"] is not None]
        rates = [r["pairs_per_second"] for r in records if r["pairs_per_second"] is not None]
        rows.append(
            Row(
                name,
                tuple(r["metrics"][metric] for r in records),
                tuple(Cell(**r["cell"]).file for r in records),
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
    return DataTable(data, share, metric, tuple(rows))


HEADER = (
    "row",
    "{metric}",
    "runs",
    "to the best [95 %]",
    "p",
    "trained parameters",
    "training s",
    "step MiB",
    "pairs/s",
)


def cells_of_row(row: Row, table: DataTable) -> list[str]:
    """The row as words, in the order of `HEADER`; the metric in per cent."""
    best = row is table.best
    compared = (
        "best"
        if best
        else f"{100 * row.behind:+.1f} [{100 * (row.low or 0):+.1f}, {100 * (row.high or 0):+.1f}]"
        if row.behind is not None
        else "–"
    )
    return [
        row.name,
        shown(row.values),
        str(len(row.values)),
        compared,
        "–" if row.p_value is None else f"{row.p_value:.3f}",
        f"{row.parameters:,}",
        f"{row.seconds:.0f}" if row.seconds >= 10 else f"{row.seconds:.1f}",
        "–" if row.peak_mib is None else f"{row.peak_mib:,.0f}",
        "–" if row.pairs_per_second is None else f"{row.pairs_per_second:,.0f}",
    ]


def shown(values: Sequence[float]) -> str:
    """Mean ± deviation in per cent; one value as it is."""
    mean = f"{100 * statistics.fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.1f}"


def markdown(tables: Sequence[DataTable], links: str = "") -> str:
    """All tables as Markdown, the best row of each in bold.

    Args:
        links: path from the page to the grid's folder; the number of runs then links to the first one's cell.
    """
    parts = []
    for table in tables:
        header = [name.format(metric=METRIC_WORDS[table.metric]) for name in HEADER]
        lines = [f"### {table.title}", "", "| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
        for row in table.rows:
            words = cells_of_row(row, table)
            words[2] = _linked(row, links)
            if row is table.best:
                words[:2] = [f"**{word}**" for word in words[:2]]
            lines.append("| " + " | ".join(words) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def overview(tables: Sequence[DataTable], links: str = "") -> str:
    """Rows × data sets as Markdown: mean ± deviation, the rank in its column behind it, the best in bold.

    Every number links to the cell of its first seed.
    """
    names = list(dict.fromkeys(row.name for table in tables for row in table.rows))
    header = ["row", "trained parameters", *(f"{t.title} ({METRIC_WORDS[t.metric]})" for t in tables)]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    base = f"{links}/" if links else ""
    for name in names:
        found = [next((row for row in table.rows if row.name == name), None) for table in tables]
        words = []
        for table, row in zip(tables, found, strict=True):
            if row is None:
                words.append("–")
                continue
            rank = 1 + sum(other.mean > row.mean for other in table.rows)
            number = f"[{shown(row.values)}]({base}{row.files[0].as_posix()})"
            words.append(f"{f'**{number}**' if row is table.best else number} ({rank})")
        parameters = max(row.parameters for row in found if row is not None)
        lines.append("| " + " | ".join([name, f"{parameters:,}", *words]) + " |")
    return "\n".join(lines) + "\n"


def _linked(row: Row, links: str) -> str:
    """The seeds of a row, each a link to its cell."""
    base = f"{links}/" if links else ""
    return " ".join(f"[{file.stem.rpartition('-')[2]}]({base}{file.as_posix()})" for file in row.files)


_STYLE = """body{font:15px/1.5 system-ui,sans-serif;color:#1f2430;max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:0 0 2rem}
th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid #e5e7eb}
th:first-child,td:first-child{text-align:left}th{color:#6b7280;font-weight:600}tr.best td{font-weight:700}
p{color:#6b7280}"""


def page(tables: Sequence[DataTable], title: str, note: str) -> str:
    """All tables as one HTML page without anything from elsewhere; seeds link to their cells.

    Args:
        note: below the title.
    """
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>",
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1><p>{html.escape(note)}</p>",
    ]
    for table in tables:
        header = "".join(
            f"<th>{html.escape(n.format(metric=METRIC_WORDS[table.metric]))}</th>" for n in HEADER
        )
        parts.append(f"<h2>{html.escape(table.title)}</h2><table><tr>{header}</tr>")
        for row in table.rows:
            words = [html.escape(word) for word in cells_of_row(row, table)]
            words[2] = " ".join(
                f'<a href="{html.escape(file.as_posix())}">{html.escape(file.stem.rpartition("-")[2])}</a>'
                for file in row.files
            )
            best = ' class="best"' if row is table.best else ""
            parts.append(f"<tr{best}>" + "".join(f"<td>{word}</td>" for word in words) + "</tr>")
        parts.append("</table>")
    return "\n".join(parts) + "\n"


NOTE = (
    "Test splits, in per cent: mean ± deviation over seeds. 'to the best' is the difference to the best row with a "
    f"95 % interval from a paired bootstrap ({RESAMPLES:,} resamples of the test pairs, means over seeds); p is the "
    "share of resamples in which the row is at least as good. Step MiB: peak memory of one training step above the "
    "libraries."
)
"""What the columns mean, for the page and the Markdown."""

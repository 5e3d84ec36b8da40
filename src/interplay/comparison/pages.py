"""Tables of finished cells as words, Markdown and HTML."""

from __future__ import annotations

import html
import statistics
from collections.abc import Sequence
from pathlib import Path

from interplay.comparison.tables import METRIC_WORDS, RESAMPLES, DataTable, Row
from interplay.files import write_text

_BEHIND = (
    "to the best [95 %]",
    "p",
    "trained parameters",
    "training s",
    "step MiB",
    "pairs/s",
)
_RUNS = 2
"""The column of the seeds."""


def header_of(table: DataTable) -> list[str]:
    """The names of a table's columns."""
    beside = [METRIC_WORDS[name] for name in table.beside]
    return ["row", METRIC_WORDS[table.metric], "runs", *beside, *_BEHIND]


def cells_of_row(row: Row, table: DataTable) -> list[str]:
    """The row as words, in the order of `header_of`; metrics in per cent."""
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
        *(shown(values) for values in row.beside),
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
        header = header_of(table)
        lines = [f"### {table.title}", "", "| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
        for row in table.rows:
            words = cells_of_row(row, table)
            words[_RUNS] = _linked(row, links)
            if row is table.best:
                words[:2] = [f"**{word}**" for word in words[:2]]
            lines.append("| " + " | ".join(words) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def overview(tables: Sequence[DataTable], links: str = "") -> str:
    """Rows × data sets as Markdown: mean ± deviation, followed by the rank in its column, the best in bold.

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
        header = "".join(f"<th>{html.escape(name)}</th>" for name in header_of(table))
        parts.append(f"<h2>{html.escape(table.title)}</h2><table><tr>{header}</tr>")
        for row in table.rows:
            words = [html.escape(word) for word in cells_of_row(row, table)]
            words[_RUNS] = " ".join(
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


def write_pages(tables: Sequence[DataTable], folder: Path, title: str) -> dict[str, str]:
    """Write the tables of a grid beside its cells, where there are any.

    Returns:
        The paths of the pages: `markdown` and `html`.
    """
    files = {"markdown": folder / "table.md", "html": folder / "table.html"}
    if tables:
        write_text(files["markdown"], f"# {title}\n\n{NOTE}\n\n{markdown(tables)}")
        write_text(files["html"], page(tables, title, NOTE))
    return {kind: str(path) for kind, path in files.items()}

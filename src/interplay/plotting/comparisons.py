"""Pictures of finished grids: ablations, layers × similarity, shares of the data, quality against cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from interplay.comparison.papers.experiments import LAST, LAYERS, SIMILARITIES, interaction_row
from interplay.comparison.tables import METRIC_WORDS, DataTable, Row
from interplay.plotting.figures import COLOURS, GRID, INK, MARKERS, PALE, quieten, save, spread


def panels(count: int, width: float, height: float, *, below: int = 1) -> tuple[Figure, Any]:
    """A figure with panels side by side, and `below` lines of them: axes (below, count)."""
    figure = Figure(figsize=(width * count, height * below), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(below, count, squeeze=False)


def _titled(axes: Any, table: DataTable) -> None:
    axes.set_title(table.title, loc="left", fontsize=11, color=INK, weight="bold")


def _per_cent(axis: Any, table: DataTable) -> None:
    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))  # more ticks would run into each other
    axis.set_major_formatter(PercentFormatter(1.0, symbol=""))  # as many digits as the ticks need
    axis.set_label_text(f"test {METRIC_WORDS[table.metric]}, per cent", color=INK)


def ablation(tables: Sequence[DataTable], path: Path) -> Path:
    """Each row as a point with its deviation and every seed, one panel a data set."""
    rows = list(dict.fromkeys(row.name for table in tables for row in table.rows))
    figure, axes = panels(len(tables), 4.6, 0.9 + 0.55 * len(rows))
    for panel, table in zip(axes[0], tables, strict=True):
        quieten(panel)
        panel.grid(visible=False, axis="y")
        panel.grid(axis="x", color=GRID)
        for row in table.rows:
            y = rows.index(row.name)
            panel.plot(row.values, [y] * len(row.values), "|", color=PALE, markersize=9)
            panel.errorbar(
                row.mean, y, xerr=row.deviation, fmt="o", color=COLOURS[5], capsize=3, markersize=7
            )
        panel.set_yticks(range(len(rows)), rows if panel is axes[0][0] else [""] * len(rows))
        panel.set_ylim(len(rows) - 0.5, -0.5)
        _per_cent(panel.xaxis, table)
        _titled(panel, table)
    return save(figure, path)


def interaction(tables: Sequence[DataTable], path: Path) -> Path:
    """Layers × similarity as a heat map, and below it one layer alone; one column of panels a data set."""
    figure, axes = panels(len(tables), 4.6, 3.6, below=2)
    groups = [(kind, layers) for kind, all_of in LAYERS.items() for layers in all_of if len(layers) > 1]
    for column, table in enumerate(tables):
        found = {row.name: row for row in table.rows}
        heat, alone = axes[0][column], axes[1][column]
        names = [[interaction_row(kind, group, s) for s in SIMILARITIES] for kind, group in groups]
        values = np.array([[found[n].mean if n in found else np.nan for n in line] for line in names])
        heat.imshow(values, cmap="Blues", aspect="auto")
        middle = np.nanmean(values)
        for (y, x), value in np.ndenumerate(values):
            if not math.isnan(value):
                colour = "white" if value > middle else INK
                heat.text(x, y, f"{100 * value:.1f}", ha="center", va="center", fontsize=9, color=colour)
        heat.set_xticks(range(len(SIMILARITIES)), SIMILARITIES)
        heat.set_yticks(range(len(groups)), [", ".join(map(str, layers)) for _, layers in groups])
        heat.set_ylabel("interaction layers", color=INK)
        heat.tick_params(colors=PALE, labelsize=9)
        _titled(heat, table)
        quieten(alone)
        single = [
            (layers[0], found[name])
            for layers in LAYERS["one layer"]
            if (name := interaction_row("one layer", layers, "cosine")) in found
        ]
        alone.errorbar(
            [layer for layer, _ in single],
            [row.mean for _, row in single],
            yerr=[row.deviation for _, row in single],
            fmt="o-",
            color=COLOURS[5],
            capsize=3,
        )
        alone.set_xlabel(f"the only layer (cosine; {LAST} exchanges nothing)", color=INK)
        _per_cent(alone.yaxis, table)
    return save(figure, path)


def shares(tables: Sequence[DataTable], path: Path) -> Path:
    """Quality over the share of the training data, a line a row, one panel a data set."""
    names = list(dict.fromkeys(table.data for table in tables))
    figure, axes = panels(len(names), 4.8, 3.8)
    for panel, name in zip(axes[0], names, strict=True):
        own = sorted((table for table in tables if table.data == name), key=lambda table: table.share)
        quieten(panel)
        for number, row in enumerate(dict.fromkeys(row.name for table in own for row in table.rows)):
            points = [(table.share, found) for table in own for found in table.rows if found.name == row]
            panel.errorbar(
                [share for share, _ in points],
                [found.mean for _, found in points],
                yerr=[found.deviation for _, found in points],
                fmt=f"{MARKERS[number % len(MARKERS)]}-",
                color=COLOURS[(number + 5) % len(COLOURS)],
                capsize=3,
                label=row,
            )
        panel.set_xscale("log")
        ticks = [table.share for table in own]
        panel.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
        panel.minorticks_off()
        panel.set_xlabel("share of the training data (logarithmic)", color=INK)
        _per_cent(panel.yaxis, own[0])
        panel.set_title(name, loc="left", fontsize=11, color=INK, weight="bold")
        panel.legend(frameon=False, fontsize=9)
    return save(figure, path)


def cost(tables: Sequence[DataTable], path: Path) -> Path:
    """Quality against trained parameters and against the memory of a step, one line of panels a data set."""
    figure, axes = panels(2, 5.6, 3.8, below=len(tables))
    for line, table in zip(axes, tables, strict=True):
        _scatter(line[0], table, lambda row: row.parameters or None, "trained parameters, head included")
        _scatter(line[1], table, lambda row: row.peak_mib, "peak memory of a training step, MiB")
        line[0].set_xscale("log")
        line[0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        line[0].xaxis.set_major_formatter(EngFormatter(sep=""))
        line[0].xaxis.set_minor_formatter(NullFormatter())
        _titled(line[0], table)
    return save(figure, path)


def _scatter(panel: Any, table: DataTable, x: Callable[[Row], float | None], words: str) -> None:
    """One labelled point a row that has such a cost; labels stand right of their points, none on another."""
    quieten(panel)
    there = [(value, row) for row in table.rows if (value := x(row)) is not None]
    means = [row.mean for _, row in there]
    low, high = (min(means), max(means)) if means else (0.0, 1.0)
    room = max(high - low, 0.01)
    labels = spread(means, room * 0.09, low - room * 0.1, high + room * 0.1)
    numbers = {row.name: at for at, row in enumerate(table.rows)}
    for (value, row), label in zip(there, labels, strict=True):
        style = {
            "color": COLOURS[numbers[row.name] % len(COLOURS)],
            "marker": MARKERS[numbers[row.name] % len(MARKERS)],
        }
        panel.errorbar(
            value,
            row.mean,
            yerr=row.deviation,
            linestyle="",
            capsize=3,
            markersize=8,
            label=row.name,
            **style,
        )
        panel.annotate(
            row.name,
            (value, row.mean),
            (1.02, label),
            textcoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            color=INK,
            arrowprops={"arrowstyle": "-", "color": style["color"], "alpha": 0.5, "linewidth": 0.8},
            annotation_clip=False,
        )
    panel.set_ylim(low - room * 0.15, high + room * 0.15)
    panel.set_xlabel(words, color=INK)
    _per_cent(panel.yaxis, table)


PICTURES: Mapping[str, Callable[[Sequence[DataTable], Path], Path]] = {
    "ablation": ablation,
    "interaction": interaction,
    "shares": shares,
    "cost": cost,
}
"""The picture of each experiment."""

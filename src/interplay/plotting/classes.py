"""Pictures of what a classifier makes of every class."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from interplay.errors import brief
from interplay.plotting.figures import COLOURS, GRID, INK, PALE, quieten, save

if TYPE_CHECKING:
    import pandas

_MOST = 100
"""The most classes that have a place of their own; of more, the largest have."""
_NUMBERED = 25
"""The most classes whose cells hold a number."""
_LETTERS = 24
_CELL, _LABELS = 0.2, 2.2  # inches: a class, the names beside the matrix
_TITLE_LETTERS = 8.5  # in an inch


def confusion(counts: pandas.DataFrame, path: str | Path, title: str = "") -> Path:
    """The confusion matrix: of each class the share of its rows that were predicted as each class.

    Classes come by falling number of rows. Of more than 100 the largest 99 are drawn and the others together. The
    colour grows with the square root of the share, so rare confusions are seen.

    Args:
        counts: (K, K) rows of the class of the row that were predicted as that of the column.
        path: where the PNG goes.
        title: above the picture.

    Returns:
        The path.

    Raises:
        InterplayError: the file cannot be written.
    """
    names, values = _by_size(counts)
    rows = values.sum(axis=1, keepdims=True)
    shares = np.divide(values, rows, out=np.full(values.shape, np.nan), where=rows > 0)
    side = max(3.0, (0.45 if len(names) <= _NUMBERED else _CELL) * len(names)) + _LABELS
    figure, axes = _page(side + 0.8, side, title)
    drawn = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    if len(names) <= _NUMBERED:
        for (y, x), share in np.ndenumerate(shares):
            if share >= 0.005:
                colour = "white" if share > 0.4 else INK
                axes.text(x, y, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=colour)
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90)
    axes.set_yticks(
        places, [f"{name} ({count:,})" for name, count in zip(names, rows[:, 0].tolist(), strict=True)]
    )
    borders = np.arange(len(names) + 1) - 0.5
    axes.set_xticks(borders, minor=True)
    axes.set_yticks(borders, minor=True)
    axes.grid(which="minor", color=GRID, linewidth=0.5)
    axes.tick_params(which="both", length=0, labelsize=8, colors=INK)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted", color=PALE)
    axes.set_ylabel("true (rows)", color=PALE)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.6, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    bar.set_label("share of the true class's rows", color=PALE)
    bar.outline.set_visible(False)
    return save(figure, path)


def precision_and_recall(classes: pandas.DataFrame, path: str | Path, title: str = "") -> Path:
    """Precision and recall of every class as bars, by falling number of rows; of more than 100 classes the largest.

    A bar that is missing is 0, or has nothing to divide by: nothing was predicted as that class, or no row has it.

    Args:
        classes: a row a class with `rows`, `precision` and `recall`.
        path: where the PNG goes.
        title: above the picture.

    Returns:
        The path.

    Raises:
        InterplayError: the file cannot be written.
    """
    shown = classes.sort_values("rows", ascending=False, kind="stable")[:_MOST]
    figure, axes = _page(7.0, 1.4 + 0.3 * len(shown), title)
    quieten(axes)
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=GRID)
    places = np.arange(len(shown))
    for name, shift, colour in (("precision", -0.19, COLOURS[1]), ("recall", 0.19, COLOURS[5])):
        axes.barh(places + shift, shown[name].fillna(0), height=0.36, color=colour, label=name)
    names = [
        f"{brief(str(name), _LETTERS)} ({rows:,})"
        for name, rows in zip(shown.index, shown["rows"], strict=True)
    ]
    axes.set_yticks(places, names)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.tick_params(axis="y", length=0, labelsize=8, colors=INK)
    left = len(classes) - len(shown)
    axes.set_ylabel(f"class (rows){f', without the {left:,} smallest' if left else ''}", color=PALE)
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return save(figure, path)


def _by_size(counts: pandas.DataFrame) -> tuple[list[str], Any]:
    """Names and counts (K, K), the largest class first, and what is beyond the hundredth in one."""
    values = counts.to_numpy()
    order = np.argsort(-values.sum(axis=1), kind="stable")
    names = [brief(str(counts.index[at]), _LETTERS) for at in order]
    values = values[np.ix_(order, order)]
    if len(names) > _MOST:
        kept = _MOST - 1
        names = [*names[:kept], f"{len(names) - kept:,} other classes"]
        starts = list(range(_MOST))
        values = np.add.reduceat(np.add.reduceat(values, starts, axis=0), starts, axis=1)
    return names, values


def _page(width: float, height: float, title: str) -> tuple[Figure, Any]:
    """A figure under its title, in as many lines as that needs."""
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        lines = textwrap.fill(title.replace("$", r"\$"), int(_TITLE_LETTERS * width))
        figure.suptitle(lines, x=0.02, ha="left", fontsize=12, color=INK, weight="bold")
    return figure, figure.subplots()

"""Pictures of results, drawn without a display: colour-blind-safe, and no label on another one."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from interplay.errors import brief
from interplay.files import write_atomically

INK, PALE, GRID = "#1f2430", "#6b7280", "#e5e7eb"
_RIGHT, _WRONG = "#0072b2", "#d55e00"  # blue and vermillion of Okabe and Ito
COLOURS = ("#7f7f7f", "#56b4e9", "#e69f00", "#cc79a7", "#009e73", "#0072b2", "#d55e00", "#000000")
MARKERS = "osD^vPX*"
_LINE_LETTERS, _LINES = 26, 3


@dataclass(frozen=True)
class Point:
    """One method of a comparison.

    Attributes:
        name: its label.
        parameters: how many numbers it trains.
        accuracy: on test, 0 to 1.
        deviation: over seeds, where there were several.
    """

    name: str
    parameters: int
    accuracy: float
    deviation: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """One pair, what is true of it and what was predicted.

    Attributes:
        image, text: the pair.
        truth, predicted: class names.
        probability: of the predicted class, 0 to 1.
    """

    image: Image.Image
    text: str
    truth: str
    predicted: str
    probability: float


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions in the order given that are near the wanted ones, at least `gap` apart, from `low` to `high`.

    Where there is no room for that, they are evenly spaced.
    """
    last = len(wanted) - 1
    gap = min(gap, (high - low) / max(1, last))
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    pools: list[tuple[float, int]] = []  # mean and size: neighbours that would be too close move together
    for rank, at in enumerate(order):
        mean, size = wanted[at] - rank * gap, 1
        while pools and pools[-1][0] > mean:
            other, count = pools.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        pools.append((mean, size))
    starts = [mean for mean, size in pools for _ in range(size)]
    result = [0.0] * len(wanted)
    for rank, (at, start) in enumerate(zip(order, starts, strict=True)):
        result[at] = min(max(start, low), high - last * gap) + rank * gap
    return result


def accuracy_against_parameters(rows: Sequence[Point], path: str | Path, title: str = "") -> Path:
    """Test accuracy over the number of trained parameters, on a logarithmic axis with a place for 0.

    Args:
        rows: one point a method, at least one.
        path: where the PNG goes.
        title: above the picture.

    Returns:
        The path.

    Raises:
        InterplayError: the file cannot be written.
    """
    figure, axes = canvas(8.6, 4.8)
    figure.subplots_adjust(left=0.09, right=0.70, top=0.88, bottom=0.14)
    first = _parameter_axis(axes, [row.parameters for row in rows])
    low, high = _accuracy_axis(axes, rows)
    labels = spread([row.accuracy for row in rows], (high - low) * 0.075, low, high)
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        x = math.log10(row.parameters) if row.parameters else first
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        if row.deviation:
            axes.errorbar(x, row.accuracy, yerr=row.deviation, color=colour, capsize=3, zorder=2)
        axes.plot(x, row.accuracy, marker, color=colour, markersize=9, markeredgecolor="white", zorder=3)
        axes.annotate(
            f"{row.name}  {row.accuracy:.1%}",
            (x, row.accuracy),
            (1.03, (label - low) / (high - low)),
            textcoords="axes fraction",
            va="center",
            fontsize=10,
            color=INK,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "alpha": 0.6,
                "linewidth": 0.8,
                "relpos": (0, 0.5),
            },
        )
    if title:
        axes.set_title(title, loc="left", fontsize=12.5, color=INK, weight="bold", pad=12)
    return save(figure, path)


def _parameter_axis(axes: Any, parameters: Sequence[int]) -> float:
    """A logarithmic axis; where a method trains nothing, it begins with 0, set apart. The place of 0 is returned."""
    logs = [math.log10(value) for value in parameters if value] or [0.0, 1.0]
    left, right = math.floor(min(logs)), math.ceil(max(logs) + 0.05)
    ticks = list(range(left, right + 1))
    names = [f"{10**tick:,}" for tick in ticks]
    if 0 in parameters:
        ticks.insert(0, left - 1)
        names.insert(0, "0")
        axes.axvspan(left - 1.5, left - 0.5, color="#f3f4f6", zorder=0)
    axes.set_xlim(ticks[0] - 0.5, right + 0.15)
    axes.set_xticks(ticks, names)
    axes.set_xlabel("trained parameters, head included (logarithmic; 0 stands apart)", color=INK)
    return float(left - 1)


def _accuracy_axis(axes: Any, rows: Sequence[Point]) -> tuple[float, float]:
    """Limits in steps of 10 % around all points and their deviations."""
    low = math.floor(min(row.accuracy - row.deviation for row in rows) * 10 - 0.2) / 10
    high = math.ceil(max(row.accuracy + row.deviation for row in rows) * 10 + 0.2) / 10
    low, high = max(low, -0.02), min(high, 1.02)
    axes.set_ylim(low, high)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_ylabel("test accuracy", color=INK)
    return low, high


def predictions(rows: Sequence[Prediction], path: str | Path, title: str = "", columns: int = 4) -> Path:
    """A sheet of pairs: picture, text, what is true and what was predicted, right in blue and wrong in vermillion.

    Args:
        rows: pairs; without any the sheet is empty.
        path: where the PNG goes.
        title: above the sheet.
        columns: pairs in a line.

    Returns:
        The path.

    Raises:
        InterplayError: the file cannot be written.
    """
    lines = max(1, math.ceil(len(rows) / columns))
    width, height = 2.35 * columns, 3.0 * lines + 0.45
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    cells = figure.subplots(lines, columns, squeeze=False).flat
    figure.subplots_adjust(
        left=0.02, right=0.98, top=1 - 0.6 / height, bottom=1.0 / height, hspace=1.25 / 1.75, wspace=0.15
    )
    for cell in list(cells)[len(rows) :]:
        cell.set_axis_off()
    for cell, row in zip(figure.axes, rows, strict=False):
        _pair(cell, row)
    if title:
        place = {"x": 0.02, "y": 1 - 0.14 / height, "ha": "left", "va": "top"}
        figure.suptitle(title.replace("$", r"\$"), fontsize=12.5, color=INK, weight="bold", **place)
    return save(figure, path)


def _pair(cell: Any, row: Prediction) -> None:
    """One picture in a frame of the verdict's colour, with its words below."""
    right = row.truth == row.predicted
    colour = _RIGHT if right else _WRONG
    cell.imshow(row.image)
    cell.set(xticks=[], yticks=[], anchor="N")
    cell.spines[:].set_color(colour)
    cell.spines[:].set_linewidth(2.0)
    predicted = brief(row.predicted, _LINE_LETTERS - 6)
    verdict = f"{'✓' if right else '✗'} {predicted} ({row.probability:.0%})"
    text = textwrap.shorten(f"“{row.text}”", _LINES * _LINE_LETTERS, placeholder=" …”").replace("$", r"\$")
    style = {"transform": cell.transAxes, "ha": "center", "va": "top"}
    cell.text(0.5, -0.04, verdict.replace("$", r"\$"), fontsize=9.5, color=colour, weight="bold", **style)
    truth = f"truth: {brief(row.truth, _LINE_LETTERS)}".replace("$", r"\$")
    cell.text(0.5, -0.16, truth, fontsize=8.5, color=PALE, **style)
    cell.text(
        0.5, -0.29, "\n".join(textwrap.wrap(text, _LINE_LETTERS)[:_LINES]), fontsize=8.5, color=INK, **style
    )


def risk_against_coverage(
    coverage: Sequence[float], risk: Sequence[float], path: str | Path, title: str = ""
) -> Path:
    """The share of wrong answers over the share of pairs that are answered, the surest first.

    Args:
        coverage, risk: points of the curve, 0 to 1, at least one, in the order of coverage.
        path: where the PNG goes.
        title: above the picture.

    Returns:
        The path.

    Raises:
        InterplayError: the file cannot be written.
    """
    figure, axes = canvas(6.4, 4.2)
    figure.subplots_adjust(left=0.12, right=0.96, top=0.88, bottom=0.15)
    axes.plot(coverage, risk, color=_RIGHT, linewidth=2, solid_capstyle="round")
    axes.axhline(risk[-1], color=PALE, linewidth=1, linestyle="--", zorder=1)
    axes.annotate(
        f"all answered: {risk[-1]:.1%} wrong", (0.0, risk[-1]), (4, 4), textcoords="offset points", color=PALE
    )
    axes.set_xlim(0, 1.005)
    axes.set_ylim(0, max(*risk, 0.01) * 1.15)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    axes.set_xlabel("share of pairs answered (coverage), the surest first", color=INK)
    axes.set_ylabel("share of wrong answers (risk)", color=INK)
    if title:
        axes.set_title(title, loc="left", fontsize=12.5, color=INK, weight="bold", pad=12)
    return save(figure, path)


def canvas(width: float, height: float) -> tuple[Figure, Any]:
    """A figure with one quiet pair of axes."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    quieten(axes)
    return figure, axes


def quieten(axes: Any) -> None:
    """Pale spines, ticks and lines across, behind what is drawn."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.tick_params(colors=PALE, labelsize=9)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def save(figure: Figure, path: str | Path) -> Path:
    target = Path(path)
    write_atomically(target, lambda temporary: figure.savefig(temporary, format="png", dpi=130))
    return target

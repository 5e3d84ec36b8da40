"""Pictures of streams: recall and forgetting of every task, the score matrix, and maps of task names and prompts."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image

from interplay.errors import InterplayError
from interplay.metrics.recall import DIRECTIONS, Direction
from interplay.plotting.figures import COLOURS, GRID, INK, MARKERS, PALE, canvas, quieten, save, spread
from interplay.retrieval.score_matrix import ScoreMatrix

FEWEST = 3
"""A map of fewer points shows nothing: any two points are equally far apart."""
_WRITTEN = 20
"""A score matrix of more tasks is drawn without figures in its cells."""
_LEGEND = 4  # names in a line
_MOST = 2000
"""The most prompts on a map; of more, this number is taken at equal steps."""
_TITLES: dict[Direction, str] = {"image_to_text": "image → text", "text_to_image": "text → image"}
_STYLE = {"loc": "left", "fontsize": 12, "color": INK, "weight": "bold", "pad": 10}
Vectors = npt.NDArray[np.float32]
_BARE = "bare backbone"


@dataclass(frozen=True)
class RankPoint:
    """What a run came to with one rank.

    Attributes:
        rank: x.
        group: runs of one line have it alike.
        matrix: of the run.
    """

    rank: int
    group: str
    matrix: ScoreMatrix


def tasks_figure(
    runs: Mapping[str, ScoreMatrix], path: str | Path, bare: ScoreMatrix | None = None, k: int = 1
) -> Path:
    """Recall after the last session and forgetting of every task, in both directions (LPI, Fig. 6).

    Args:
        runs: by name, all of the same tasks in the same order.
        path: where the PNG goes.
        bare: the bare backbone's matrix, drawn beside them.
        k: of recall@k.

    Returns:
        The path.

    Raises:
        InterplayError: the runs have unlike tasks, or the file cannot be written.
    """
    drawn = dict(runs) if bare is None else {_BARE: bare, **runs}
    first = next(iter(runs.values()))
    count = min(len(matrix.stages) for matrix in drawn.values())
    if any(matrix.tasks[:count] != first.tasks[:count] for matrix in drawn.values()):
        raise InterplayError(
            "These runs have unlike tasks, or learned them in another order: draw them one by one."
        )
    figure, grid = _grid(2, 2, min(26.0, max(9.6, 1.2 + 1.0 * count)), 7.4)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.19, hspace=0.22, wspace=0.16)
    for column, direction in enumerate(DIRECTIONS):
        for number, (name, matrix) in enumerate(drawn.items()):
            lines = matrix.per_task(direction, k)[:count]
            style = _style(number, name == _BARE)
            for row, key in enumerate(("last", "forgetting")):
                values = [math.nan if line[key] is None else line[key] for line in lines]
                grid[row][column].plot(range(count), values, label=name, **style)
        top, bottom = grid[0][column], grid[1][column]
        top.set_title(f"{_TITLES[direction]}, recall@{k} after the last session", **_STYLE)
        bottom.set_title(f"{_TITLES[direction]}, forgetting of recall@{k}", **_STYLE)
        bottom.axhline(0, color=PALE, linewidth=0.8)
        top.set_xticks(range(count), [""] * count)
        bottom.set_xticks(
            range(count), [_short(name) for name in first.tasks[:count]], rotation=40, ha="right", color=INK
        )
        for axes in (top, bottom):
            axes.set_xlim(-0.4, count - 0.6)
            axes.yaxis.set_major_formatter(PercentFormatter(1))
    _legend(figure, grid[0][0])
    return save(figure, path)


def matrix_figure(matrix: ScoreMatrix, path: str | Path, title: str = "", k: int = 1) -> Path:
    """R[t, i], the recall of task i after session t, as two heat maps; arguments as `tasks_figure`."""
    count = len(matrix.stages)
    cell = min(0.62, 14 / count)
    figure, grid = _grid(1, 2, max(9.0, 2 * (2.2 + cell * count)), max(4.2, 2.6 + 0.8 * cell * count))
    figure.subplots_adjust(left=0.15, right=0.97, top=0.84, bottom=0.14, wspace=0.10)
    shares = {d: matrix.matrix(d, k) for d in DIRECTIONS}
    values = {
        d: np.array([[row[i] if i <= t else math.nan for i in range(count)] for t, row in enumerate(rows)])
        for d, rows in shares.items()
    }
    high = max(float(np.nanmax(value)) for value in values.values())
    for axes, direction in zip(grid[0], DIRECTIONS, strict=True):
        axes.imshow(values[direction], cmap="cividis", vmin=0, vmax=high or 1, aspect="auto")
        for t in range(count):
            for i in range(t + 1 if count <= _WRITTEN else 0):
                share = values[direction][t, i]
                colour = "white" if share < 0.6 * high else "black"
                axes.text(i, t, f"{share:.0%}", ha="center", va="center", fontsize=8, color=colour)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xticks(range(count), [str(i + 1) for i in range(count)])
        axes.set_xlabel("task", color=INK)
        names = [f"{t + 1} {_short(name)}" for t, name in enumerate(matrix.tasks[:count])]
        axes.set_yticks(range(count), names if axes is grid[0][0] else [""] * count, color=INK)
        axes.set_title(f"{_TITLES[direction]}, recall@{k}", **_STYLE)
    grid[0][0].set_ylabel("after the session of", color=INK)
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=12.5, color=INK, weight="bold")
    return save(figure, path)


def rank_figure(points: Sequence[RankPoint], setting: str, path: str | Path, k: int = 1) -> Path:
    """Recall and forgetting over a rank, both directions averaged (LPI, Fig. 5); deviation over runs of one rank.

    Args:
        points: of at least two ranks.
        setting: what is varied, for the axis.
        path: where the PNG goes.
        k: of recall@k.
    """
    figure, grid = _grid(1, 2, 9.6, 4.4)
    figure.subplots_adjust(left=0.08, right=0.97, bottom=0.16, wspace=0.18)
    ranks = sorted({point.rank for point in points})
    place = {rank: at for at, rank in enumerate(ranks)}
    for axes, measure in zip(grid[0], ("final_average", "forgetting"), strict=True):
        for number, group in enumerate(dict.fromkeys(point.group for point in points)):
            cells: dict[int, list[float]] = {}
            for point in points:
                if point.group == group:
                    values = [getattr(point.matrix, measure)(d, k) for d in DIRECTIONS]
                    cells.setdefault(point.rank, []).append(
                        fmean(math.nan if v is None else v for v in values)
                    )
            known = sorted(cells)
            axes.errorbar(
                [place[rank] for rank in known],
                [fmean(cells[rank]) for rank in known],
                yerr=[stdev(cells[rank]) if len(cells[rank]) > 1 else 0 for rank in known],
                label=group,
                capsize=3,
                **_style(number, False),
            )
        words = (
            "recall@{} after the last session" if measure == "final_average" else "forgetting of recall@{}"
        )
        axes.set_title(words.format(k), **_STYLE)
        axes.set_xticks(range(len(ranks)), [str(rank) for rank in ranks])
        axes.set_xlabel(setting, color=INK)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    _legend(figure, grid[0][0])
    return save(figure, path)


def names_map(names: Sequence[str], meanings: Vectors, path: str | Path) -> Path:
    """Task names on a plane by t-SNE: what the frozen text tower thinks is alike (LPI, Fig. 4).

    Args:
        names: at least `FEWEST`.
        meanings: (names, d) their vectors.
        path: where the PNG goes.

    Raises:
        InterplayError: fewer names, or the file cannot be written.
    """
    places = plane(meanings)
    figure, axes = canvas(8.6, 5.6)
    figure.subplots_adjust(left=0.04, right=0.76, top=0.9, bottom=0.04)
    _bare(axes)
    low, high = float(places[:, 1].min()), float(places[:, 1].max())
    pad = 0.06 * (high - low or 1.0)
    axes.set_ylim(low - pad, high + pad)
    labels = spread(places[:, 1].tolist(), 0.05 * (high - low or 1.0), low, high)
    for number, (name, (x, y), label) in enumerate(zip(names, places.tolist(), labels, strict=True)):
        axes.plot(x, y, "o", color=COLOURS[number % len(COLOURS)], markersize=10, markeredgecolor="white")
        axes.annotate(
            _short(name),
            (x, y),
            (1.03, (label - low + pad) / (high - low + 2 * pad)),
            textcoords="axes fraction",
            va="center",
            fontsize=9.5,
            color=INK,
            arrowprops={"arrowstyle": "-", "color": PALE, "alpha": 0.5, "linewidth": 0.7, "relpos": (0, 0.5)},
        )
    axes.set_title("Task names, by t-SNE", **_STYLE)
    return save(figure, path)


def prompts_map(names: Sequence[str], prompts: Mapping[str, Vectors], path: str | Path) -> Path:
    """All prompts of all tasks on a plane by t-SNE, one panel a side (LPI, Fig. 7).

    Args:
        names: of the tasks.
        prompts: (tasks, prompts, width) by side.
        path: where the PNG goes.

    Raises:
        InterplayError: fewer than `FEWEST` prompts, or the file cannot be written.
    """
    figure, grid = _grid(1, len(prompts), 5.2 * len(prompts), 5.4)
    figure.subplots_adjust(left=0.03, right=0.97, bottom=0.04, wspace=0.06)
    for axes, (side, vectors) in zip(grid[0], prompts.items(), strict=True):
        tasks, each, width = vectors.shape
        step = math.ceil(tasks * each / _MOST)
        owner = np.repeat(np.arange(tasks), each)[::step]
        places = plane(vectors.reshape(-1, width)[::step])
        _bare(axes)
        for number, name in enumerate(names):
            style = _style(number, False) | {"linestyle": "none", "markersize": 4, "alpha": 0.75}
            axes.plot(*places[owner == number].T, label=_short(name), **style)
        axes.set_title(f"{side} prompts", **_STYLE)
    _legend(figure, grid[0][0])
    return save(figure, path)


def hits_sheet(
    rows: Sequence[tuple[str, Sequence[tuple[Image.Image, str]]]], path: str | Path, title: str = ""
) -> Path:
    """One line a query: its words and the pictures that were found, best first, each with a caption.

    Args:
        rows: query, and picture and caption of each hit; at least one hit each.
        path: where the PNG goes.
        title: above the sheet.

    Raises:
        InterplayError: the file cannot be written.
    """
    most = max(len(hits) for _, hits in rows)
    height = 2.15 * len(rows) + 0.6
    figure, grid = _grid(len(rows), most + 1, 1.75 * (most + 1), height)
    figure.subplots_adjust(
        left=0.02, right=0.99, top=1 - 0.5 / height, bottom=0.5 / height, hspace=0.45, wspace=0.1
    )
    for line, (query, hits) in zip(grid, rows, strict=True):
        for cell in line:
            cell.set_axis_off()
        line[0].text(0, 0.5, _wrapped(f"“{query}”", 16), fontsize=11, color=INK, va="center", weight="bold")
        for cell, (picture, words) in zip(line[1:], hits, strict=False):
            cell.imshow(picture)
            cell.text(
                0.5,
                -0.04,
                _wrapped(words, 24),
                fontsize=8,
                color=PALE,
                ha="center",
                va="top",
                transform=cell.transAxes,
            )
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=12.5, color=INK, weight="bold")
    return save(figure, path)


def plane(vectors: Vectors) -> Vectors:
    """Vectors (N, d) on a plane by t-SNE (van der Maaten & Hinton, 2008): (N, 2), the same on every run.

    Raises:
        InterplayError: fewer than `FEWEST` vectors.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    count = len(vectors)
    if count < FEWEST:
        raise InterplayError(f"A map by t-SNE needs at least {FEWEST} points, not {count}.")
    perplexity = min(30.0, (count - 1) / 2)
    with threadpool_limits(1):
        found: Vectors = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(
            vectors.astype(np.float32)
        )
    return found


def _bare(axes: Any) -> None:
    """Axes without numbers: places on a map have no unit."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_color(GRID)


def _grid(lines: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    """A figure with several quiet pairs of axes."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat:
        quieten(axes)
    return figure, grid


def _legend(figure: Figure, axes: Any) -> None:
    """The names of all lines above the axes, which make room for them; the figure grows by more than one line."""
    handles, names = axes.get_legend_handles_labels()
    lines = math.ceil(len(names) / _LEGEND)
    width, height = figure.get_size_inches()
    grown = height + 0.24 * (lines - 1)
    bottom = figure.subplotpars.bottom * height / grown
    figure.set_size_inches(width, grown)
    figure.subplots_adjust(bottom=bottom, top=1 - (0.24 * lines + 0.5) / grown)
    figure.legend(handles, names, loc="upper left", ncol=_LEGEND, frameon=False, fontsize=9.5, labelcolor=INK)


def _style(number: int, bare: bool) -> dict[str, Any]:
    """Colour and marker of the n-th line; the bare backbone is grey and dashed."""
    if bare:
        return {"color": COLOURS[0], "marker": ".", "linestyle": "--", "linewidth": 1.4}
    colours = COLOURS[1:]
    return {
        "color": colours[number % len(colours)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": "-",
        "linewidth": 1.4,
        "markersize": 6,
    }


def _short(name: str) -> str:
    return textwrap.shorten(name.replace("$", r"\$"), 24, placeholder=" …")


def _wrapped(text: str, letters: int, lines: int = 3) -> str:
    return "\n".join(textwrap.wrap(text.replace("$", r"\$"), letters)[:lines])

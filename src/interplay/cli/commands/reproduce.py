"""`interplay reproduce`: the cells of a published table, trained and measured, beside what was published."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interplay.cli.cells import Cell, kept, measured, training_of
from interplay.cli.output_paths import out_folder
from interplay.cli.result import Result, columns, note
from interplay.cli.runs import open_backbone, open_table
from interplay.comparison.recipes import DATA, Recipe, chosen
from interplay.errors import InterplayError, unknown

if TYPE_CHECKING:
    from interplay.data.schema import PairTable


def reproduce(
    table: str,
    *,
    only: str = "",
    root: str = DATA,
    out: str = "reproduced",
    seeds: int = 1,
    backbone: str | None = None,
    on_bad_row: Literal["error", "skip"] | None = None,
    list: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Train and test the cells of a published table, and set them beside the published values.

    Examples:

      interplay reproduce table1 --list
      interplay reproduce table1 --only mitp,maple,food101 --root data --seeds 3
      interplay reproduce table3 --backbone clip-vit-base-patch32 --precision bf16-mixed
      interplay reproduce lpi-table1 --only lpi-m,s_prompts --root data

    Of the MITP paper: table1 (the main results), table2 (the ablation), table3 (shares of the training data), figure4
    (interaction layers and similarities). Of the LPI paper: lpi-table1 (retrieval on MS-COCO, 12 tasks one after the
    other). Each cell is trained on `train`, chosen on `validation` and measured once on `test`. A
    finished cell is kept in OUT/cells as JSON, so that a run that was stopped goes on where it was. The data are not
    downloaded: `--list` needs none of them, and what is missing is said with where to get it.

    Training options change the recipes' own; what was changed is written into every cell.

    Args:
        table: table1, table2, table3, figure4 or lpi-table1.
        only: data sets, methods or rows to choose, separated by commas; words of one kind widen the choice, words of
            different kinds narrow it.
        root: folder with the benchmarks' folders food101, mm_imdb, snli_ve and coco.
        out: folder for results and runs.
        seeds: runs of each cell, with seeds that count up from --seed.
        backbone: another one than the paper's.
        on_bad_row: what to do with a row that cannot be used: `error` stops and names it, `skip` leaves it out and
            lists it; by default as the recipes say.
        list: only list the cells with published values, estimated costs and commands.
    """
    if seeds < 1:
        raise InterplayError(f"--seeds must be at least 1, not {seeds}.")
    folder = out_folder(out)
    from interplay.comparison import lpi_tables, mitp_tables

    known = mitp_tables.tables() | lpi_tables.tables()
    if table not in known:
        raise unknown("table", table, known)
    recipes = chosen(known[table], [word.strip() for word in only.split(",") if word.strip()])
    if list:
        return _listed(recipes, root)
    changes = dict(settings or {})
    changes |= {} if backbone is None else {"backbone": backbone}
    changes |= {} if on_bad_row is None else {"on_bad_row": on_bad_row}
    first = int(changes.get("seed", 0))
    _require(recipes, root)
    cells = [
        Cell(recipe, recipe.options(root) | changes | {"seed": first + number})
        for recipe in recipes
        for number in range(seeds)
    ]
    training_of(changes)  # contradictions come out before anything is loaded
    results = _run(cells, folder)
    return _compared(cells, results, out)


def _listed(recipes: Sequence[Recipe], root: str) -> Result:
    """The cells without running them."""
    data = [
        {
            "cell": recipe.title,
            "dataset": recipe.dataset,
            "method": recipe.method,
            "published": dict(recipe.published),
            "estimated_gpu_hours": recipe.hours,
            "recipe": f"recipes/{recipe.file}",
            "command": recipe.command(root),
        }
        for recipe in recipes
    ]
    rows = [(recipe.title, recipe.outcome, f"{recipe.hours:.1f}", recipe.command(root)) for recipe in recipes]
    hours, speed = sum(recipe.hours for recipe in recipes), recipes[0].paper.speed // 1000
    text = columns(("cell", "published", "GPU hours (estimate)", "command"), rows)
    return Result(
        data,
        f"{text}\n\n{len(recipes)} cells, about {hours:.0f} GPU hours a seed: an estimate at {speed} TFLOP/s, not "
        "measured.",
    )


def _require(recipes: Sequence[Recipe], root: str) -> None:
    """Refuse to begin while data are missing.

    Raises:
        InterplayError: for each data set what is missing, where it is from and where it goes.
    """
    from interplay.data.coco import MS_COCO
    from interplay.data.readers import BENCHMARKS

    needed = dict.fromkeys(recipe.dataset for recipe in recipes)
    absent = {
        benchmark.name: sentence
        for benchmark in (*(known for known, _ in BENCHMARKS), MS_COCO)
        if benchmark.name in needed and (sentence := benchmark.missing(Path(root) / benchmark.name))
    }
    if not absent:
        return
    for sentence in absent.values():
        note(sentence)
    present = [name for name in needed if name not in absent]
    hint = f" What is there can be run with --only {','.join(present)}." if present else ""
    raise InterplayError(
        f"There is no {' and no '.join(absent)} in '{root}', as is said above.{hint} '--list' shows cells, published "
        "values and costs without data."
    )


def _run(cells: Sequence[Cell], out: Path) -> dict[str, dict[str, Any]]:
    """The results by key; what is finished is read, each data set and the backbone are loaded at most once."""
    results: dict[str, dict[str, Any]] = {}
    opened: dict[str, PairTable] = {}
    backbone = None
    for number, cell in enumerate(cells, start=1):
        what = f"[{number}/{len(cells)}] {cell.recipe.title}, seed {cell.seed}"
        if cell.key in results:
            continue
        if found := kept(cell, out):
            note(f"{what}: finished before")
            results[cell.key] = found
            continue
        note(what)
        backbone = backbone or open_backbone(cell.options["backbone"])
        source = cell.options["data"]
        if source not in opened:
            opened = {source: open_table(source, cell.options.get("on_bad_row", "error"))}  # one at a time
        results[cell.key] = measured(cell, backbone, opened[source], out)
    return results


def _compared(cells: Sequence[Cell], results: Mapping[str, dict[str, Any]], out: str) -> Result:
    """Published and measured values side by side, in percent."""
    by_recipe: dict[str, list[Cell]] = {}
    for cell in cells:
        by_recipe.setdefault(cell.recipe.title, []).append(cell)
    data: list[dict[str, Any]] = []
    rows = []
    for title, group in by_recipe.items():
        found = [results[cell.key]["metrics"] for cell in group]
        recipe = group[0].recipe
        for metric in recipe.metrics:
            values = [100 * metrics[metric] for metrics in found]
            mean = statistics.mean(values)
            deviation = statistics.stdev(values) if len(values) > 1 else None
            published = recipe.published.get(metric)
            difference = None if published is None else mean - published
            data.append(
                {
                    "cell": title,
                    "metric": metric,
                    "published": published,
                    "values": values,
                    "mean": mean,
                    "deviation": deviation,
                    "difference": difference,
                }
            )
            shown = f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"
            rows.append(
                (
                    title,
                    metric,
                    "-" if published is None else f"{published:.2f}",
                    shown,
                    "-" if difference is None else f"{difference:+.2f}",
                    len(values),
                )
            )
    text = columns(("cell", "metric", "published", "measured", "difference", "seeds"), rows)
    files = [str(cell.file(Path(out))) for cell in cells]
    backbone = cells[0].options["backbone"]
    return Result(
        {"backbone": backbone, "split": "test", "rows": data, "cells": [*dict.fromkeys(files)]},
        f"{text}\n\nPercent on test, backbone {backbone}; the deviation is over seeds. Every run is in {out}/cells.",
    )

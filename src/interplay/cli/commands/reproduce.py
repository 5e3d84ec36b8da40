"""`interplay reproduce`: the cells of a published table, trained and measured, beside what was published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from interplay.cli.options import Further
from interplay.cli.output_paths import out_folder
from interplay.cli.result import Result, columns, note
from interplay.comparison.papers.recipes import DATA, Recipe, chosen
from interplay.errors import InterplayError, unknown
from interplay.training.settings import TrainSettings

if TYPE_CHECKING:
    from interplay.comparison.engine import Record
    from interplay.comparison.papers.cells import RecipeCell

GROUP = "Compare"


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
    ray: str | None = None,
    cpus: int | None = None,
    gpus: float = 0.0,
    settings: Annotated[Mapping[str, Any] | None, Further(TrainSettings, "Training", shown=False)] = None,
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
        ray: address of a Ray cluster (auto, local or ray://HOST:PORT); by default one cell runs after the other here.
        cpus: threads of a cell; on a cluster, processors that it reserves. By default as many threads as there are, and
            one processor.
        gpus: graphics processors that a cell reserves on a cluster.
    """
    if seeds < 1:
        raise InterplayError(f"--seeds must be at least 1, not {seeds}.")
    folder = out_folder(out)
    from interplay.comparison.papers.catalogue import tables

    known = tables()
    if table not in known:
        raise unknown("table", table, known)
    recipes = chosen(known[table], [word.strip() for word in only.split(",") if word.strip()])
    if list:
        return _listed(recipes, root)
    from interplay.comparison.engine import Place, run_cells
    from interplay.comparison.papers.cells import RecipeCell, RunRecipe, training_of

    changes = dict(settings or {})
    changes |= {} if backbone is None else {"backbone": backbone}
    changes |= {} if on_bad_row is None else {"on_bad_row": on_bad_row}
    first = int(changes.get("seed", 0))
    place = Place(cpus, gpus, ray)
    _require(recipes, root)
    cells = [
        RecipeCell(recipe, recipe.options(root) | changes | {"seed": first + number})
        for recipe in recipes
        for number in range(seeds)
    ]
    training_of(changes)  # contradictions come out before anything is loaded
    runs = folder.resolve() / "runs"
    number_of = {cell.file: number for number, cell in reversed([*enumerate(cells, start=1)])}

    def announce(cell: RecipeCell, finished: bool) -> None:
        end = ": finished before" if finished else ""
        note(f"[{number_of[cell.file]}/{len(cells)}] {cell.name}{end}")

    jobs = [(cell, RunRecipe(cell, runs)) for cell in cells]
    records = run_cells(jobs, folder, place, announce=announce, report=_check, tell=note)
    return _compared(cells, records, out)


def _check(_cell: RecipeCell, record: Record) -> None:
    """A cell that cannot be trained ends the command; those before it are kept.

    Raises:
        InterplayError: it could not be trained.
    """
    if "problem" in record:
        raise InterplayError(record["problem"])


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
    from interplay.comparison.papers.catalogue import missing_data

    absent = missing_data(recipes, root)
    if not absent:
        return
    for sentence in absent.values():
        note(sentence)
    present = [name for name in dict.fromkeys(recipe.dataset for recipe in recipes) if name not in absent]
    hint = f" What is there can be run with --only {','.join(present)}." if present else ""
    raise InterplayError(
        f"There is no {' and no '.join(absent)} in '{root}', as is said above.{hint} '--list' shows cells, published "
        "values and costs without data."
    )


def _compared(cells: Sequence[RecipeCell], records: Sequence[Record], out: str) -> Result:
    """Published and measured values side by side, in percent."""
    from interplay.comparison.papers.cells import SPLIT, outcomes

    found = outcomes(cells, records)
    rows = [
        (
            one.recipe.title,
            one.metric,
            "-" if one.published is None else f"{one.published:.2f}",
            f"{one.mean:.2f}" if one.deviation is None else f"{one.mean:.2f} ± {one.deviation:.2f}",
            "-" if one.difference is None else f"{one.difference:+.2f}",
            len(one.values),
        )
        for one in found
    ]
    text = columns(("cell", "metric", "published", "measured", "difference", "seeds"), rows)
    files = [str(Path(out) / cell.file) for cell in cells]
    backbone = cells[0].options["backbone"]
    return Result(
        {
            "backbone": backbone,
            "split": SPLIT,
            "rows": [one.plain() for one in found],
            "cells": [*dict.fromkeys(files)],
        },
        f"{text}\n\nPercent on {SPLIT}, backbone {backbone}; the deviation is over seeds. Every run is in {out}/cells.",
    )

"""The same tuning budget for every method of recipes/openmoji.yaml: four schedules each, on the validation split.

    python -m benchmarks.tuning run --only openmoji/subgroup     # the trials that are missing, seed 0
    python -m benchmarks.tuning choose                           # Markdown, the best schedule of each row in bold

A trial changes the epochs and learning rate that a row has by default (what its data set's `rows` say of training, the
outcome of this, is left out) by `TRIALS` and nothing else. It counts with the metric its data set is monitored by, at
its best epoch; a tie goes to the default, then to the smaller validation loss. No row of `test` is read. Trials are
appended to results/openmoji/tuning/trials-DATA.jsonl, and a run that was stopped continues after them.
"""

from __future__ import annotations

import argparse
import functools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from interplay import Backbone, PairTable, TrainSettings, load, load_backbone
from interplay.comparison.engine import load_record
from interplay.comparison.grid import Grid, GridCell, make_grid, slug
from interplay.comparison.run import classifier_of, training_of
from interplay.errors import InterplayError
from interplay.methods.registry import choose
from interplay.training.settings import SMALLER_IS_BETTER

RECIPE = Path("recipes/openmoji.yaml")
CELLS = Path("results/openmoji")
FOLDER = CELLS / "tuning"
SHORT = 3
"""Epochs of a short schedule."""
TRIALS: dict[str, tuple[int | None, float]] = {
    "as it is": (None, 1.0),
    "rate / 5": (None, 0.2),
    "short": (SHORT, 1.0),
    "short, rate x 4": (SHORT, 4.0),
}
"""Name → epochs (None: the default) and the factor on the default learning rate."""

Record = dict[str, Any]


def measured(cell: GridCell, trial: str, backbone: Backbone, table: PairTable) -> Record:
    """One trial; the default schedule is read from its cell where that was run and keeps what validation said."""
    plan = TrainSettings(**cell.training)
    epochs, factor = TRIALS[trial]
    changes = {"epochs": epochs or plan.epochs, "learning_rate": factor * plan.learning_rate}
    found = _finished_cell(cell) if trial == "as it is" else None
    if found is None:
        training = training_of(cell, backbone.shape, changes)
        report = classifier_of(cell, backbone).fit(table, settings=training)
        found = {**asdict(report), "validation": report.validation}
    return {
        "row": cell.row,
        "data": cell.data,
        "trial": trial,
        **changes,
        "monitor": found["monitor"],
        "value": found["validation"][found["monitor"]],
        "best_epoch": found["best_epoch"],
        "loss": found["validation"]["loss"],
        "seconds": round(found["seconds"], 1),
    }


def _finished_cell(cell: GridCell) -> Record | None:
    try:
        record = load_record(CELLS, cell)
    except InterplayError:  # of another schedule
        return None
    return record if record and "validation" in record else None


def untuned() -> Grid:
    """The recipe without the schedules that were chosen here."""
    values = yaml.safe_load(RECIPE.read_text())
    for special in values["data"].values():
        for row in special.get("rows", {}).values():
            row.pop("training", None)
    return make_grid(values, str(RECIPE))


def tunable(cell: GridCell) -> bool:
    """Whether a cell has a schedule."""
    return choose(cell.method).method.traits.solver.by_gradient


def record_of(data: str) -> Path:
    """Where the trials of a data set are kept."""
    return FOLDER / f"trials-{slug(data)}.jsonl"


def finished(data: str) -> list[Record]:
    """Its trials so far."""
    path = record_of(data)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def merit(record: Record) -> tuple[float, bool, float]:
    """What the best trial has most of."""
    value = -record["value"] if record["monitor"] in SMALLER_IS_BETTER else record["value"]
    return value, record["trial"] == "as it is", -record["loss"]


def run(cells: list[GridCell], trials: list[str]) -> None:
    """The missing trials of some cells."""
    backbones, tables = functools.cache(load_backbone), functools.cache(load)
    for cell in cells:
        done = {(record["row"], record["trial"]) for record in finished(cell.data)}
        for trial in trials:
            if (cell.row, trial) not in done:
                record = measured(cell, trial, backbones(cell.backbone), tables(cell.data))
                print(json.dumps(record), flush=True)
                with record_of(cell.data).open("a") as file:
                    file.write(json.dumps(record) + "\n")


def best(cell: GridCell) -> Record | None:
    """The trial that won; None while some are missing."""
    found = [record for record in finished(cell.data) if record["row"] == cell.row]
    return max(found, key=merit) if len(found) == len(TRIALS) else None


def markdown(cells: list[GridCell]) -> str:
    """Markdown: rows × trials of each data set."""
    lines = []
    for data in dict.fromkeys(cell.data for cell in cells):
        lines += ["", data, "", f"| row | {' | '.join(TRIALS)} |", "|---" * (len(TRIALS) + 1) + "|"]
        for cell in (cell for cell in cells if cell.data == data):
            found = {r["trial"]: r for r in finished(data) if r["row"] == cell.row}
            winner = best(cell)
            shown = [_shown(found.get(trial), bold=found.get(trial) == winner) for trial in TRIALS]
            lines.append(f"| {cell.row} | {' | '.join(shown)} |")
    return "\n".join(lines[1:])


def _shown(record: Record | None, *, bold: bool) -> str:
    if record is None:
        return "–"
    text = f"{record['value']:.3f}" if record["monitor"] == "loss" else f"{100 * record['value']:.1f}"
    return f"**{text}**" if bold else text


def main() -> None:
    """Run trials, or show them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("run", "choose"))
    parser.add_argument("--only", nargs="*", default=[], help="rows and data sets")
    parser.add_argument("--trials", nargs="*", default=list(TRIALS), choices=TRIALS)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    grid = untuned().only([*given.only, "#0"])
    cells = [cell for cell in grid.cells if tunable(cell)]
    if given.action == "run":
        run(cells, given.trials)
    else:
        print(markdown(cells))


if __name__ == "__main__":
    main()

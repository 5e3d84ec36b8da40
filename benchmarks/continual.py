"""What the methods keep: every row of a recipe x seeds x task orders on a stream, measured on its test split.

    python benchmarks/continual.py run   --recipe recipes/openmoji-continual.yaml   # the cells that are missing
    python benchmarks/continual.py table --recipe recipes/openmoji-continual.yaml   # Markdown, mean ± deviation
    python benchmarks/continual.py run   --ray auto  # the same, a task a cell on a Ray cluster
    python benchmarks/continual.py page      # the tables of docs/evidence/continual.md, made anew from the cells
    python benchmarks/continual.py tune  --rows maple --rates 0.0005 0.002          # one run a rate, on validation

Every finished cell is a JSON file under `results/`, so a grid that was stopped goes on where it was. All gradient
methods of a recipe are trained alike but for their learning rate, which was chosen on validation (`tune` adds to
`tuning.jsonl` beside the cells; the recipe says what was chosen).
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from interplay.comparison.engine import Place, Record, load_record, run_cells
from interplay.comparison.loader import Loader
from interplay.comparison.pages import shown as mean_and_deviation
from interplay.comparison.streams import RunStream, StreamCell, by_turn, read_streams
from interplay.files import write_text
from interplay.retrieval.score_matrix import ScoreMatrix

Rows = dict[str, list[StreamCell]]
PAGE = Path("docs/evidence/continual.md")
HERE = Path()
"""Results lie where the recipes say, below this folder."""


def go(rows: Rows, place: Place) -> None:
    """Run the missing cells, seed by seed, so that every row is there early."""

    def report(cell: StreamCell, record: Record) -> None:
        told = record.get("problem") or f"{record['seconds']} {record['final_average']}"
        print(cell.name, told, flush=True)

    run_cells([(cell, RunStream(cell)) for cell in by_turn(rows)], HERE, place, report=report)


def tune(rows: Rows, rates: list[float]) -> None:
    """One run a row and learning rate, first order, first seed, measured on validation; what is there is kept."""
    loader = Loader()
    for name, (first, *_) in rows.items():
        path = Path(first.results) / "tuning.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        tried = {(entry["row"], entry["learning_rate"]) for entry in map(json.loads, lines)}
        for rate in rates:
            if (name, rate) in tried:
                continue
            training = {**first.training, "learning_rate": rate}
            trial = replace(first, row=name, seed=0, order=0, training=training, split="validation")
            done = RunStream(trial).run(loader)
            kept = {key: done[key] for key in ("row", "settings", "training", "seconds", "final_average")}
            lines.append(json.dumps({"row": name, "learning_rate": rate, **kept}))
            write_text(path, "\n".join(lines) + "\n")
            print(name, rate, done["seconds"], done["final_average"]["mean"], flush=True)


def shown(values: list[float | None]) -> str:
    """Mean ± deviation in per cent of the values that are there."""
    there = [value for value in values if value is not None]
    return mean_and_deviation(there) if there else "–"


def table(rows: Rows) -> str:
    """The cells as Markdown."""
    columns = [
        "i→t R@1",
        "R@5",
        "R@10",
        "t→i R@1",
        "R@5",
        "R@10",
        "stage average",
        "forgetting",
        "oracle",
        "routing",
    ]
    lines = [
        "| method | parameters a task | runs | " + " | ".join(columns) + " |",
        "|---" * (3 + len(columns)) + "|",
    ]
    for row, planned in rows.items():
        cells = [record for cell in planned if (record := load_record(HERE, cell)) is not None]
        if not cells:
            lines.append(f"| {row} | " + " | ".join(["–"] * (2 + len(columns))) + " |")
            continue
        values = [
            shown([c["final_average"][direction][k] for c in cells])
            for direction in ("image_to_text", "text_to_image")
            for k in ("1", "5", "10")
        ]
        for name in ("stage_average", "forgetting"):
            values.append(shown([(c.get(name) or {}).get("mean") for c in cells]))
        values.append(
            shown([c["oracle"]["final_average"]["mean"] if c.get("oracle") else None for c in cells])
        )
        values.append(
            shown([statistics.fmean(c["routing"].values()) if c.get("routing") else None for c in cells])
        )
        parameters = f"{cells[0]['trained_parameters']:,}"
        lines.append(f"| {row} | {parameters} | {len(cells)} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def page(text: str) -> str:
    """A page with the table after each line `<!-- recipes/NAME.yaml -->` made anew from the cells."""

    def renewed(found: re.Match[str]) -> str:
        return f"{found[1]}{table(read_streams(Path(found[2])))}\n"

    return re.sub(r"(<!-- (recipes/\S+) -->\n)(?:\|.*\n)*", renewed, text)


def check(rows: Rows) -> None:
    """Every stored matrix can be read."""
    for cell in (cell for cells in rows.values() for cell in cells):
        stored: dict[str, Any] = load_record(HERE, cell) or {}
        if "matrix" in stored:
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / "matrix.json"
                write_text(copy, json.dumps(stored["matrix"]))
                ScoreMatrix.load(copy)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "tune", "table", "page"))
    parser.add_argument("--recipe", type=Path, default=Path("recipes/openmoji-continual.yaml"))
    parser.add_argument("--rows", nargs="*", help="only these rows of the recipe")
    parser.add_argument(
        "--rates", nargs="*", type=float, default=(), help="learning rates to try with `tune`"
    )
    parser.add_argument("--threads", type=int, help="CPU threads of a cell")
    parser.add_argument("--ray", help="address of a Ray cluster")
    arguments = parser.parse_args()
    rows = {
        name: cells
        for name, cells in read_streams(arguments.recipe).items()
        if arguments.rows is None or name in arguments.rows
    }
    if arguments.what == "table":
        check(rows)
        print(table(rows))
    elif arguments.what == "page":
        write_text(PAGE, page(PAGE.read_text()))
    elif arguments.what == "tune":
        tune(rows if arguments.rows else {}, arguments.rates)
    else:
        go(rows, Place(arguments.threads, ray=arguments.ray))


if __name__ == "__main__":
    main()

"""What the methods keep: every row of a recipe x seeds x task orders on a stream, measured on its test split.

    python benchmarks/continual.py run   --recipe recipes/openmoji-continual.yaml   # the cells that are missing
    python benchmarks/continual.py table --recipe recipes/openmoji-continual.yaml   # Markdown, mean ± deviation
    python benchmarks/continual.py page      # the tables of docs/continual-results.md, made anew from the cells
    python benchmarks/continual.py tune  --rows maple --rates 0.0005 0.002          # one run a rate, on validation

Every finished cell is a JSON file under `results/`, so a grid that was stopped goes on where it was. All gradient
methods of a recipe are trained alike but for their learning rate, which was chosen on validation (`tune` adds to
`tuning.jsonl` beside the cells; the recipe says what was chosen).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from interplay import TrainSettings, load, load_backbone
from interplay.cli.recall_tables import averages
from interplay.comparison.pages import shown as mean_and_deviation
from interplay.data.schema import Split
from interplay.data.sessions import Session, sessions_of
from interplay.files import write_text
from interplay.methods.registry import choose
from interplay.retrieval.continual import StreamEvaluation, run_joint, run_stream
from interplay.retrieval.retriever import Retriever
from interplay.retrieval.run_folder import MATRIX
from interplay.retrieval.score_matrix import ScoreMatrix
from interplay.towers.backbone import Backbone

Recipe = dict[str, Any]
PAGE = Path("docs/continual-results.md")


def ordered(recipe: Recipe, order: int) -> list[Session]:
    """The stream in one of its orders: 0 is the table's own, another number seeds a permutation."""
    table = load(recipe["data"])
    sessions = sessions_of(table)
    if order:
        random.Random(order).shuffle(sessions)
    return sessions


def cell(
    recipe: Recipe, row: Recipe, seed: int, sessions: Sequence[Session], backbone: Backbone, split: Split
) -> Recipe:
    """One row with one seed on one order of the stream."""
    retriever = Retriever(backbone, row["method"], settings=row.get("settings"), seed=seed)
    training = TrainSettings(
        **{**recipe["training"], **row.get("training", {})}, seed=seed, progress=False, loggers=()
    )
    trained = [p.numel() for p in retriever.method.parameters() if p.requires_grad]
    start = time.perf_counter()
    names = tuple(session.name for session in sessions)
    evaluation = StreamEvaluation(backbone, sessions, split, reserve=retriever.method.traits.reserve)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if row.get("joint"):
            learned = run_joint(retriever, sessions, folder, settings=training)
            recall = evaluation.stage(learned, len(sessions)).recall
            summary: Recipe = {"final_average": averages(recall)}
        else:
            _, matrix = run_stream(retriever, sessions, folder, settings=training, evaluation=evaluation)
            summary = matrix.summary() | {"matrix": json.loads((folder / MATRIX).read_text())}
    return {
        "row": row["name"],
        "method": row["method"],
        "settings": row.get("settings", {}),
        "training": {**recipe["training"], **row.get("training", {})},
        "seed": seed,
        "order": names,
        "split": split,
        "trained_parameters": sum(trained) if choose(row["method"]).method.traits.solver.by_gradient else 0,
        "seconds": round(time.perf_counter() - start, 1),
        "threads": torch.get_num_threads(),
        "backbone_digest": backbone.digest,
        **summary,
    }


def path_of(recipe: Recipe, row: Recipe, order: int, seed: int) -> Path:
    """Where a cell is kept; a row may stand in the table of another recipe (`results`) by another name (`cells`)."""
    folder = Path(row.get("results", recipe["results"])) / "cells"
    return folder / f"{row.get('cells', row['name'])}-order{order}-seed{seed}.json"


def planned(recipe: Recipe, row: Recipe) -> list[tuple[int, int]]:
    """The seeds and orders of a row, seed by seed."""
    seeds, orders = row.get("seeds", recipe["seeds"]), row.get("orders", recipe["orders"])
    return [(seed, order) for seed in seeds for order in orders]


def go(arguments: argparse.Namespace, recipe: Recipe) -> None:
    """Run the missing cells, seed by seed, so that every row is there early."""
    backbone = load_backbone(recipe["backbone"])
    streams = {order: ordered(recipe, order) for order in recipe["orders"]}
    for seed in recipe["seeds"]:
        for order, sessions in streams.items():
            for row in recipe["rows"]:
                if arguments.rows and row["name"] not in arguments.rows:
                    continue
                if (seed, order) not in planned(recipe, row):
                    continue
                path = path_of(recipe, row, order, seed)
                if path.exists():
                    continue
                done = cell(recipe, row, seed, sessions, backbone, "test")
                write_text(path, json.dumps(done, indent=1) + "\n")
                print(row["name"], order, seed, done["seconds"], done["final_average"], flush=True)


def tune(arguments: argparse.Namespace, recipe: Recipe) -> None:
    """One run a row and learning rate, first order, first seed, measured on validation; what is there is kept."""
    backbone = load_backbone(recipe["backbone"])
    sessions = ordered(recipe, 0)
    record = Path(recipe["results"]) / "tuning.jsonl"
    lines = record.read_text().splitlines() if record.exists() else []
    tried = {(entry["row"], entry["learning_rate"]) for entry in map(json.loads, lines)}
    for row in recipe["rows"]:
        for rate in arguments.rates if row["name"] in arguments.rows else ():
            if (row["name"], rate) in tried:
                continue
            trial = row | {"training": {**row.get("training", {}), "learning_rate": rate}}
            done = cell(recipe, trial, 0, sessions, backbone, "validation")
            kept = {key: done[key] for key in ("row", "settings", "training", "seconds", "final_average")}
            lines.append(json.dumps({"row": row["name"], "learning_rate": rate, **kept}))
            write_text(record, "\n".join(lines) + "\n")
            print(row["name"], rate, done["seconds"], done["final_average"]["mean"], flush=True)


def shown(values: list[float | None]) -> str:
    """Mean ± deviation in per cent of the values that are there."""
    there = [value for value in values if value is not None]
    return mean_and_deviation(there) if there else "–"


def table(recipe: Recipe) -> str:
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
    for row in recipe["rows"]:
        paths = [path_of(recipe, row, order, seed) for seed, order in planned(recipe, row)]
        cells = [json.loads(path.read_text()) for path in paths if path.exists()]
        if not cells:
            lines.append(f"| {row['name']} | " + " | ".join(["–"] * (2 + len(columns))) + " |")
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
        lines.append(f"| {row['name']} | {parameters} | {len(cells)} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def page(text: str) -> str:
    """A page with the table behind each line `<!-- recipes/NAME.yaml -->` made anew from the cells."""

    def renewed(found: re.Match[str]) -> str:
        return f"{found[1]}{table(yaml.safe_load(Path(found[2]).read_text()))}\n"

    return re.sub(r"(<!-- (recipes/\S+) -->\n)(?:\|.*\n)*", renewed, text)


def check(recipe: Recipe) -> None:
    """Every stored matrix can be read."""
    for path in (Path(recipe["results"]) / "cells").glob("*.json"):
        stored = json.loads(path.read_text())
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
    parser.add_argument("--threads", type=int, default=0, help="CPU threads")
    arguments = parser.parse_args()
    recipe = yaml.safe_load(arguments.recipe.read_text())
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.what == "table":
        check(recipe)
        print(table(recipe))
    elif arguments.what == "page":
        write_text(PAGE, page(PAGE.read_text()))
    elif arguments.what == "tune":
        tune(arguments, recipe)
    else:
        go(arguments, recipe)


if __name__ == "__main__":
    main()

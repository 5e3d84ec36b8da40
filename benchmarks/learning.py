"""What the methods learn: every method of a recipe x the three OpenMoji tasks x seeds, on the test splits.

    python benchmarks/learning.py tune  --recipe recipes/openmoji.yaml   # learning rates, on validation alone
    python benchmarks/learning.py run   --recipe recipes/openmoji.yaml   # the cells that are missing
    python benchmarks/learning.py table --recipe recipes/openmoji.yaml   # Markdown, mean ± deviation

Every finished cell is a JSON file under `results/`, so a grid that was stopped goes on where it was. All
gradient methods of a task share the head, the epochs and the grid of learning rates; test is measured once a cell.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from interplay import Classifier, TrainSettings, load, load_backbone
from interplay.data.schema import PairTable
from interplay.files import write_text
from interplay.methods.base import choose
from interplay.towers.backbone import Backbone

Recipe = dict[str, Any]
HEADLINE = {"single": "accuracy", "multi": "f1_macro"}


def is_trained(method: str) -> bool:
    """Whether a method is trained by gradient, and so has a learning rate and depends on the seed."""
    return choose(method).method.solver == "gradient"


def cell(
    recipe: Recipe,
    task: str,
    row: Recipe,
    seed: int,
    rate: float,
    table: PairTable,
    backbone: Backbone,
    split: str,
) -> Recipe:
    """Train one cell and measure it on `split`."""
    method, shared = row["method"], recipe["tasks"][task]
    settings = shared.get("settings", {}).get(row["name"], row.get("settings", {}))
    front = choose(method).build(backbone.shape, settings).first_layer("image")
    training = TrainSettings(
        **{**recipe["training"], **shared.get("training", {})},
        learning_rate=rate,
        seed=seed,
        cache_prefix=front > 0,
        progress=False,
    )
    classifier = Classifier(
        backbone,
        method,
        settings=settings,
        head=shared["head"],
        multi_loss=shared.get("multi_loss", "bce"),
        seed=seed,
    )
    start = time.perf_counter()
    report = classifier.fit(table, settings=training)
    assert classifier.model is not None
    return {
        "task": task,
        "row": row["name"],
        "method": method,
        "seed": seed,
        "learning_rate": rate if is_trained(method) else None,
        "trained_parameters": sum(p.numel() for p in classifier.model.method.parameters()),
        "seconds": round(time.perf_counter() - start, 1),
        "best_epoch": report.best_epoch,
        "threads": torch.get_num_threads(),
        "backbone_digest": backbone.digest,
        **{f"{split}_{name}": value for name, value in classifier.evaluate(table, split).items()},
    }


def path_of(recipe: Recipe, kind: str, task: str, row: Recipe, tail: str) -> Path:
    """Where a cell is kept."""
    return Path(recipe["results"]) / kind / task.replace("/", "-") / f"{row['name']}-{tail}.json"


def rates_of(recipe: Recipe, task: str) -> list[float]:
    """The learning rates that are searched on a task."""
    return [float(rate) for rate in recipe["tasks"][task].get("rates", recipe["rates"])]


def best_rate(recipe: Recipe, task: str, row: Recipe, kind: str) -> float:
    """The learning rate with the best validation value; rows may share another row's search (`rate_of`)."""
    rates = rates_of(recipe, task)
    if len(rates) == 1:
        return rates[0]
    source = next(r for r in recipe["rows"] if r["name"] == row.get("rate_of", row["name"]))
    found = []
    for rate in rates:
        path = path_of(recipe, "tuning", task, source, f"{rate:g}")
        if path.exists():
            found.append((json.loads(path.read_text())[f"validation_{HEADLINE[kind]}"], rate))
    if not found:
        raise SystemExit(f"{source['name']} on {task} has no learning rate yet: run `tune` first.")
    return float(max(found)[1])


def go(arguments: argparse.Namespace, recipe: Recipe) -> None:
    """Run the missing cells of `tune` or `run`."""
    backbone = load_backbone(recipe["backbone"])
    for task in arguments.tasks or recipe["tasks"]:
        table = load(task)
        for row in recipe["rows"]:
            if arguments.rows and row["name"] not in arguments.rows:
                continue
            trained = is_trained(row["method"])
            if arguments.what == "tune":
                todo = [(0, rate, f"{rate:g}") for rate in rates_of(recipe, task)]
                todo = todo if trained and "rate_of" not in row else []
            else:
                rate = best_rate(recipe, task, row, table.kind) if trained else 1.0
                todo = [(seed, rate, str(seed)) for seed in (recipe["seeds"] if trained else [0])]
            for seed, rate, tail in todo:
                kind = "tuning" if arguments.what == "tune" else "cells"
                path = path_of(recipe, kind, task, row, tail)
                if path.exists():
                    continue
                split = "validation" if arguments.what == "tune" else "test"
                done = cell(recipe, task, row, seed, rate, table, backbone, split)
                write_text(path, json.dumps(done, indent=1) + "\n")
                print(json.dumps(done), flush=True)


def table(recipe: Recipe) -> str:
    """The cells as Markdown: mean ± deviation over seeds, in per cent."""
    header = "| method | trained parameters | " + " | ".join(recipe["tasks"]) + " |"
    lines = [header, "|---" * (2 + len(recipe["tasks"])) + "|"]
    for row in recipe["rows"]:
        columns, parameters = [], 0
        for task, shared in recipe["tasks"].items():
            name = f"test_{shared['metric']}"
            cells = [
                json.loads(p.read_text())
                for p in sorted(path_of(recipe, "cells", task, row, "x").parent.glob("*"))
            ]
            values = [100 * c[name] for c in cells if c["row"] == row["name"]]
            parameters = max(
                [parameters, *(c["trained_parameters"] for c in cells if c["row"] == row["name"])]
            )
            if not values:
                columns.append("–")
            elif len(values) == 1:
                columns.append(f"{values[0]:.1f}")
            else:
                columns.append(f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}")
        lines.append(f"| {row['name']} | {parameters:,} | " + " | ".join(columns) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("tune", "run", "table"))
    parser.add_argument("--recipe", type=Path, default=Path("recipes/openmoji.yaml"))
    parser.add_argument("--tasks", nargs="*", help="only these tasks")
    parser.add_argument("--rows", nargs="*", help="only these rows of the recipe")
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads; two runs beside each other take 1 each"
    )
    arguments = parser.parse_args()
    recipe = yaml.safe_load(arguments.recipe.read_text())
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.what == "table":
        print(table(recipe))
    else:
        go(arguments, recipe)


if __name__ == "__main__":
    main()

"""Cells of a published table: trained, measured on test, and kept one by one, so that a killed run goes on."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interplay.cli.key_value import assignments, given
from interplay.cli.runs import recorded_run
from interplay.comparison.recipes import Recipe, digest
from interplay.errors import InterplayError
from interplay.files import read_json, write_text
from interplay.training.settings import EXECUTION

if TYPE_CHECKING:
    from interplay.data.schema import PairTable, Split
    from interplay.towers.backbone import Backbone
    from interplay.training.settings import TrainSettings

SPLIT: Split = "test"


@dataclass(frozen=True)
class Cell:
    """One run of one recipe.

    Attributes:
        recipe: what is reproduced.
        options: of the paper's command: the recipe's, with what was changed, and the seed.
    """

    recipe: Recipe
    options: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """Of the run."""
        return int(self.options["seed"])

    @property
    def key(self) -> str:
        """Tells cells with other options apart; equal cells of two tables have one key and are trained once."""
        what = f"{self.recipe.dataset}-{self.recipe.method}-seed-{self.seed}"
        return f"{what}-{digest({key: value for key, value in self.options.items() if key not in EXECUTION})}"

    def file(self, out: Path) -> Path:
        """Where its result is kept."""
        return out / "cells" / f"{self.key}.json"


def kept(cell: Cell, out: Path) -> dict[str, Any] | None:
    """The result of a finished cell; None where it is not finished.

    Raises:
        InterplayError: its file cannot be read.
    """
    path = cell.file(out)
    if not path.exists():
        return None
    stored = read_json(path)
    if not isinstance(stored, dict) or not isinstance(stored.get("metrics"), dict):
        raise InterplayError(f"{path} holds no result: take it away to measure it anew.")
    return stored


def measured(cell: Cell, backbone: Backbone, table: PairTable, out: Path) -> dict[str, Any]:
    """Train one cell, or go on where its training stopped, measure it on test, and keep the result.

    Args:
        cell: what to train.
        backbone: loaded.
        table: its data.
        out: the result goes to `cells/`, the run to `runs/`.

    Raises:
        InterplayError: as `Classifier.fit` or `run_stream`.
    """
    options, training = cell.options, training_of(cell.options)
    folder = out / "runs" / cell.key
    train = _stream if cell.recipe.paper.command == "continual" else _classifier
    with recorded_run(folder, dict(options) | given(training), resume=True):
        found = train(cell, backbone, table, folder, training)
    result = {
        "table": f"{cell.recipe.paper.prefix}{cell.recipe.table}",
        "cell": cell.recipe.title,
        "options": dict(options),
        "split": SPLIT,
        **found,
        "left_out": len(table.skipped),
        "notes": list(table.notes),
        "backbone_digest": backbone.digest,
    }
    write_text(cell.file(out), json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    return result


def _classifier(
    cell: Cell, backbone: Backbone, table: PairTable, folder: Path, training: TrainSettings
) -> dict[str, Any]:
    """One classifier, trained and measured."""
    from interplay.classification.classifier import Classifier
    from interplay.methods.registry import choose
    from interplay.parts.heads import HeadSettings

    options = cell.options
    classifier = Classifier(
        backbone,
        cell.recipe.method,
        settings=assignments(options["set"], choose(cell.recipe.method).method.Settings, "set"),
        head=assignments(options["head"], HeadSettings, "head"),
        multi_loss=options.get("multi_loss", "bce"),
        seed=cell.seed,
    )
    drawn = table.with_share(options["share"], cell.seed)
    report = classifier.fit(drawn, settings=training, run=folder, resume=True)
    return {
        "metrics": classifier.evaluate(drawn, SPLIT),
        "pairs": drawn.splits(),
        "trained_parameters": report.parameters,
        "best_epoch": report.best_epoch,
        "seconds": report.seconds,
    }


def _stream(
    cell: Cell, backbone: Backbone, table: PairTable, folder: Path, training: TrainSettings
) -> dict[str, Any]:
    """One retriever that learned the tasks of a stream, measured after each of them."""
    from interplay.cli.retriever_evaluation import trained_parameters
    from interplay.data.sessions import sessions_of
    from interplay.methods.registry import choose
    from interplay.metrics.recall import DIRECTIONS
    from interplay.retrieval.continual import StreamEvaluation, run_stream
    from interplay.retrieval.retriever import Retriever

    settings = assignments(cell.options["set"], choose(cell.recipe.method).method.Settings, "set")
    retriever = Retriever(backbone, cell.recipe.method, settings=settings, seed=cell.seed)
    trained = trained_parameters(retriever)
    sessions = sessions_of(table)
    evaluation = StreamEvaluation(backbone, sessions, SPLIT, reserve=retriever.method.traits.reserve)
    begun = time.monotonic()
    _, matrix = run_stream(retriever, sessions, folder, settings=training, resume=True, evaluation=evaluation)
    summary = matrix.summary()
    average, forgetting = summary["task_average"], summary["forgetting"]
    metrics = {f"{d}_recall_{k}": average[d][str(k)] for d in DIRECTIONS for k in matrix.ks}
    for direction in DIRECTIONS:
        lost = [value for value in forgetting[direction].values() if value is not None]
        metrics[f"{direction}_forgetting"] = statistics.fmean(lost) if lost else 0.0
    return {
        "metrics": metrics,
        "tasks": list(matrix.tasks),
        "summary": summary,
        "pairs": table.splits(),
        "trained_parameters": trained,
        "seconds": time.monotonic() - begun,
    }


def training_of(options: Mapping[str, Any]) -> TrainSettings:
    """The training settings among a cell's options."""
    from interplay.methods.settings import make_settings
    from interplay.training.settings import TrainSettings

    names = {field.name for field in fields(TrainSettings)}
    found: TrainSettings = make_settings(
        TrainSettings, {key: value for key, value in options.items() if key in names}, "training"
    )
    return found

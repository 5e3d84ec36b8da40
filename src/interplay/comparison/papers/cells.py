"""Cells of a published table: recipes with a seed, trained, measured on test, and set beside what was published."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from interplay.classification.classifier import Classifier
from interplay.comparison.engine import Record
from interplay.comparison.loader import Loader
from interplay.comparison.papers.recipes import Recipe, digest
from interplay.data.schema import PairTable, Split
from interplay.data.sessions import sessions_of
from interplay.key_value import assignments, given
from interplay.methods.registry import choose
from interplay.metrics.recall import DIRECTIONS
from interplay.parts.heads import HeadSettings
from interplay.retrieval.continual import StreamEvaluation, run_stream
from interplay.retrieval.learning import trained_parameters
from interplay.retrieval.retriever import Retriever
from interplay.settings import make_settings
from interplay.towers.backbone import Backbone
from interplay.training.run_record import recorded_run
from interplay.training.settings import EXECUTION, TrainSettings

SPLIT: Split = "test"


@dataclass(frozen=True)
class RecipeCell:
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
    def name(self) -> str:
        """Recipe and seed."""
        return f"{self.recipe.title}, seed {self.seed}"

    @property
    def key(self) -> str:
        """Tells cells with other options apart; equal cells of two tables have one key and are trained once."""
        what = f"{self.recipe.dataset}-{self.recipe.method}-seed-{self.seed}"
        return f"{what}-{digest({key: value for key, value in self.options.items() if key not in EXECUTION})}"

    @property
    def file(self) -> Path:
        """Where its record is kept."""
        return Path("cells") / f"{self.key}.json"

    @property
    def indent(self) -> int:
        """A record is laid out for people."""
        return 2

    def plain(self) -> Record:
        """Nothing that the digest in its file's name does not tell."""
        return {}

    def recorded(self, record: Record) -> Record:
        """Nothing, of a record that holds metrics."""
        if not isinstance(record["metrics"], dict):
            raise TypeError(f"metrics: {record['metrics']}")
        return {}


@dataclass(frozen=True)
class RunRecipe:
    """The work of a `RecipeCell`.

    Attributes:
        cell: what to train.
        runs: the folder of its run, by its key, where a training that was killed goes on; on a cluster, of the node
            that trains it.
    """

    cell: RecipeCell
    runs: Path

    def run(self, loader: Loader) -> Record:
        """Train the cell, or go on where its training stopped, and measure it on test.

        Returns:
            `table`, `cell`, `options`, `split`; `metrics`; `pairs` by split, `left_out`, `notes` of the data's reader;
            `trained_parameters`, `seconds`, `backbone_digest`; `best_epoch` of a classifier; of a stream its `tasks`
            and `summary`.

        Raises:
            InterplayError: as `Classifier.fit` or `run_stream`.
        """
        options, training, recipe = self.cell.options, training_of(self.cell.options), self.cell.recipe
        backbone = loader.backbone(options["backbone"])
        table = loader.table(options["data"], options.get("on_bad_row", "error"))
        folder = self.runs / self.cell.key
        measure = _stream if recipe.paper.command == "continual" else _classifier
        with recorded_run(folder, dict(options) | given(training), resume=True):
            found = measure(self.cell, backbone, table, folder, training)
        return {
            "table": f"{recipe.paper.prefix}{recipe.table}",
            "cell": recipe.title,
            "options": dict(options),
            "split": SPLIT,
            **found,
            "left_out": len(table.skipped),
            "notes": list(table.notes),
            "backbone_digest": backbone.digest,
        }


def _classifier(
    cell: RecipeCell, backbone: Backbone, table: PairTable, folder: Path, training: TrainSettings
) -> Record:
    """One classifier, trained and measured."""
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
    cell: RecipeCell, backbone: Backbone, table: PairTable, folder: Path, training: TrainSettings
) -> Record:
    """One retriever that learned the tasks of a stream, measured after each of them."""
    settings = assignments(cell.options["set"], choose(cell.recipe.method).method.Settings, "set")
    retriever = Retriever(backbone, cell.recipe.method, settings=settings, seed=cell.seed)
    trained = trained_parameters(retriever.method)
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
    names = {field.name for field in fields(TrainSettings)}
    found: TrainSettings = make_settings(
        TrainSettings, {key: value for key, value in options.items() if key in names}, "training"
    )
    return found


@dataclass(frozen=True)
class Outcome:
    """One metric of one recipe, in per cent.

    Attributes:
        recipe: which.
        metric: as the library calls it.
        values: that were measured, one a seed.
    """

    recipe: Recipe
    metric: str
    values: tuple[float, ...]

    @property
    def published(self) -> float | None:
        """What the paper says; None where it cannot be read."""
        return self.recipe.published.get(self.metric)

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.mean(self.values)

    @property
    def deviation(self) -> float | None:
        """Over seeds, None with one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def difference(self) -> float | None:
        """Measured less published."""
        return None if self.published is None else self.mean - self.published

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "cell": self.recipe.title,
            "metric": self.metric,
            "published": self.published,
            "values": list(self.values),
            "mean": self.mean,
            "deviation": self.deviation,
            "difference": self.difference,
        }


def outcomes(cells: Sequence[RecipeCell], records: Sequence[Record]) -> list[Outcome]:
    """What the cells of a table came to: one outcome a recipe and metric.

    Args:
        records: one a cell.
    """
    by_recipe: dict[str, list[Record]] = {}
    recipes = {cell.recipe.title: cell.recipe for cell in cells}
    for cell, record in zip(cells, records, strict=True):
        by_recipe.setdefault(cell.recipe.title, []).append(record["metrics"])
    return [
        Outcome(recipes[title], metric, tuple(100 * metrics[metric] for metrics in found))
        for title, found in by_recipe.items()
        for metric in recipes[title].metrics
    ]

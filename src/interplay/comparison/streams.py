"""Cells of retrieval: a stream of sessions is learned and measured, with several seeds and in several orders."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from interplay.comparison.engine import Record
from interplay.comparison.loader import Loader
from interplay.data.schema import Split
from interplay.data.sessions import Session, sessions_of
from interplay.methods.registry import choose
from interplay.retrieval.averages import averages
from interplay.retrieval.continual import StreamEvaluation, run_all_at_once, run_stream
from interplay.retrieval.learning import trained_parameters
from interplay.retrieval.retriever import Retriever
from interplay.retrieval.run_folder import MATRIX
from interplay.training.settings import TrainSettings

Values = Mapping[str, Any]


@dataclass(frozen=True)
class StreamCell:
    """One stream that a retriever learns, and its recall after each session.

    Attributes:
        row: what the table calls it.
        method, settings: as `Retriever` takes them.
        data: as `interplay.data.load` takes it.
        results: the folder of the table's cells.
        seed: of the prompts' first values and of the order of the pairs.
        order: of the tasks: 0 is the data's own, another number seeds a permutation.
        backbone: as `load_backbone` takes it.
        training: as `TrainSettings` takes it, the seed not among it.
        joint: whether all tasks are learned at once, the upper bound of a stream.
        split: which rows are measured.
    """

    row: str
    method: str
    data: str
    results: str
    seed: int = 0
    order: int = 0
    backbone: str = "tiny"
    settings: Values = field(default_factory=dict)
    training: Values = field(default_factory=dict)
    joint: bool = False
    split: Split = "test"

    @property
    def name(self) -> str:
        """`row@data#seed`, with the order where it is not the data's own."""
        order = f"@order{self.order}" if self.order else ""
        return f"{self.row}@{self.data}{order}#{self.seed}"

    @property
    def file(self) -> Path:
        """Where its record is kept, below the folder that the path of its table's results begins from."""
        return Path(self.results) / "cells" / f"{self.row}-order{self.order}-seed{self.seed}.json"

    @property
    def indent(self) -> int:
        """A record is laid out for people: most of it is the matrix."""
        return 1

    def plain(self) -> Record:
        """What it is run with: the method's settings in full, so that one at its default may be said or not."""
        return {
            "method": self.method,
            "settings": asdict(choose(self.method).settings(self.settings)),
            "training": dict(self.training),
            "seed": self.seed,
            "split": self.split,
        }

    def recorded(self, record: Record) -> Record:
        """The same, as a record says it."""
        settings = asdict(choose(record["method"]).settings(record["settings"]))
        return {key: record[key] for key in ("method", "training", "seed", "split")} | {"settings": settings}


@dataclass(frozen=True)
class RunStream:
    """The work of a `StreamCell`.

    Attributes:
        cell: what to learn.
    """

    cell: StreamCell

    def run(self, loader: Loader) -> Record:
        """Learn the stream and measure it.

        Returns:
            What the cell was run with; `order`, the names of the tasks as they arrived; `trained_parameters` of a
            session; `seconds`, `threads`, `backbone_digest`; the figures of `ScoreMatrix.summary` and the `matrix`, or
            `final_average` alone where all tasks were learned at once.

        Raises:
            InterplayError: as `run_stream`.
        """
        cell = self.cell
        backbone, sessions = loader.backbone(cell.backbone), in_order(loader, cell)
        retriever = Retriever(backbone, cell.method, settings=cell.settings, seed=cell.seed)
        training = TrainSettings(**{**cell.training, "seed": cell.seed, "progress": False, "loggers": ()})
        trained = trained_parameters(retriever.method)
        begun = time.perf_counter()
        evaluation = StreamEvaluation(backbone, sessions, cell.split, reserve=retriever.method.traits.reserve)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            if cell.joint:
                learned = run_all_at_once(retriever, sessions, folder, settings=training)
                summary: Record = {"final_average": averages(evaluation.stage(learned, len(sessions)).recall)}
            else:
                _, matrix = run_stream(retriever, sessions, folder, settings=training, evaluation=evaluation)
                summary = matrix.summary() | {"matrix": json.loads((folder / MATRIX).read_text("utf-8"))}
        return {
            "row": cell.row,
            "method": cell.method,
            "settings": dict(cell.settings),
            "training": dict(cell.training),
            "seed": cell.seed,
            "order": [session.name for session in sessions],
            "split": cell.split,
            "trained_parameters": trained,
            "seconds": round(time.perf_counter() - begun, 1),
            "threads": torch.get_num_threads(),
            "backbone_digest": backbone.digest,
            **summary,
        }


def in_order(loader: Loader, cell: StreamCell) -> list[Session]:
    """The sessions of a cell's stream, in its order."""
    sessions = sessions_of(loader.table(cell.data))
    if cell.order:
        random.Random(cell.order).shuffle(sessions)
    return sessions


def read_streams(path: Path) -> dict[str, list[StreamCell]]:
    """The rows of a file such as recipes/openmoji-continual.yaml, each with its cells, seed by seed.

    A row may stand in the table of another file (`results`), there by another name (`cells`).
    """
    recipe: Values = yaml.safe_load(path.read_text("utf-8"))
    return {row["name"]: _cells(recipe, row) for row in recipe["rows"]}


def _cells(recipe: Values, row: Values) -> list[StreamCell]:
    return [
        StreamCell(
            row=row.get("cells", row["name"]),
            method=row["method"],
            data=recipe["data"],
            results=row.get("results", recipe["results"]),
            seed=seed,
            order=order,
            backbone=recipe["backbone"],
            settings=row.get("settings", {}),
            training={**recipe["training"], **row.get("training", {})},
            joint=row.get("joint", False),
        )
        for seed in row.get("seeds", recipe["seeds"])
        for order in row.get("orders", recipe["orders"])
    ]


def by_turn(rows: Mapping[str, Sequence[StreamCell]]) -> list[StreamCell]:
    """The cells of all rows as they run: seed by seed, so that every row is there early."""
    cells = [cell for row in rows.values() for cell in row]
    return sorted(cells, key=lambda cell: (cell.seed, cell.order))

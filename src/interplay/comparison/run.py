"""What a grid's cell does: it trains a classifier and measures it on test."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from interplay.comparison.engine import Place, Record, load_record, run_cells
from interplay.comparison.grid import Grid, GridCell
from interplay.comparison.loader import Loader
from interplay.data.checks import OnBadRow
from interplay.errors import InterplayError
from interplay.methods.registry import choose
from interplay.parts.heads import FORMER_HEAD
from interplay.settings import make_settings
from interplay.towers.tokens import SIDES, Shape
from interplay.training.settings import EXECUTION, FORMER, TrainSettings

if TYPE_CHECKING:
    from torch import Tensor

    from interplay.classification.classifier import Classifier
    from interplay.classification.model import PairClassifier
    from interplay.data.schema import PairTable
    from interplay.encoding.batches import EncodedTable
    from interplay.towers.backbone import Backbone

Report = Callable[[GridCell, Record], None]


@dataclass(frozen=True)
class Conduct:
    """How the cells of a grid are run, where that is no part of what they are.

    Attributes:
        memory: whether the peak memory of a training step is measured, once a row and data set, in a process of its
            own (some seconds each, Linux).
        training: `EXECUTION` settings of `TrainSettings` for all cells, over their own.
        on_bad_row: `error`, or `skip` to leave out the rows of a data set that cannot be used.
        additive: test pairs on which `additive_part` is measured, at the cost of predicting its square; 0: it is not.
    """

    memory: bool = True
    training: Mapping[str, Any] = field(default_factory=dict)
    on_bad_row: OnBadRow = "error"
    additive: int = 0

    def __post_init__(self) -> None:
        if self.additive < 0 or self.additive == 1:
            raise InterplayError(
                f"The additive part is measured on 2 test pairs at least, not {self.additive}."
            )
        if more := set(self.training) - {*EXECUTION}:
            raise InterplayError(
                f"{', '.join(sorted(more))}: this belongs to the cells, not to where they run."
            )
        if lost := {"csv", "tensorboard"} & set(self.training.get("loggers", ())):
            raise InterplayError(
                f"The logger '{min(lost)}' writes into the folder of a training, and a cell keeps none: its epochs are "
                "lost. Use wandb or mlflow with a server, or interplay train."
            )


@dataclass(frozen=True)
class TrainClassifier:
    """The work of a grid's cell.

    Attributes:
        cell: what to train.
        conduct: how.
        memory: whether this cell measures its row's peak memory.
    """

    cell: GridCell
    conduct: Conduct = field(default_factory=Conduct)
    memory: bool = False

    def run(self, loader: Loader) -> Record:
        """Train the cell and measure it on test.

        Returns:
            `cell`, as `plain` gives it; `metrics` on test, with `group_scores` where the pairs are quadruples and
            `beyond_additive` where it is measured; `predicted` and `truth`, class numbers of each test pair
            (lists of them for several labels); `left_out`, how many rows could not be used; `trained_parameters`
            (method and head), `method_parameters`; `seconds` of training; `pairs_per_second` in prediction, pictures
            decoded; `peak_mib` of a training step or None; `best_epoch`, by `monitor`, and its metrics and loss on
            `validation`; `threads`, `backbone_digest`.

        Raises:
            InterplayError: as `Classifier.fit`.
        """
        record = _measured(self.cell, loader, self.conduct)
        if self.memory:
            record["peak_mib"] = _peak(self.cell)
        return {"cell": self.cell.plain(), **record, "threads": torch.get_num_threads()}


def classifier_of(cell: GridCell, backbone: Backbone) -> Classifier:
    """What a cell trains, untrained."""
    from interplay.classification.classifier import Classifier

    return Classifier(
        backbone,
        cell.method,
        settings=cell.settings,
        head={**FORMER_HEAD, **cell.head},
        multi_loss=cell.multi_loss,  # type: ignore[arg-type]
        seed=cell.seed,
    )


def training_of(cell: GridCell, shape: Shape, changes: Mapping[str, Any]) -> TrainSettings:
    """How a cell is trained: in silence, and with the prefix cache where it is of use and nothing else is said.

    Args:
        changes: over the cell's own settings.
    """
    given = {"progress": False, "loggers": (), **FORMER, **cell.training, "seed": cell.seed, **changes}
    if "cache_prefix" not in given:  # exact, so it changes the time and no result
        method = choose(cell.method).build(shape, cell.settings)
        given["cache_prefix"] = any(method.first_layer(side) > 0 for side in SIDES)
    training: TrainSettings = make_settings(TrainSettings, given, "training")
    return training


def _measured(cell: GridCell, loader: Loader, conduct: Conduct) -> Record:
    from interplay.encoding.inputs import encode_table
    from interplay.encoding.predict import predict
    from interplay.metrics.classification import classification_metrics

    backbone = loader.backbone(cell.backbone, random_weights=cell.random_weights)
    table = loader.table(cell.data, conduct.on_bad_row)
    held_out = table.split("test")  # one that is missing is told before anything is trained
    classifier = classifier_of(cell, backbone)
    training = training_of(cell, backbone.shape, conduct.training)
    begun = time.perf_counter()
    report = classifier.fit(table.with_share(cell.share, cell.seed), settings=training)
    seconds = time.perf_counter() - begun
    model = classifier.model
    assert model is not None
    test = encode_table(held_out, backbone, reserve=model.reserve)
    begun = time.perf_counter()
    logits = predict(model, backbone, test)
    probabilities = model.probabilities(logits)
    rate = len(test) / (time.perf_counter() - begun)
    assert test.targets is not None
    return {
        "metrics": classification_metrics(probabilities, test.targets, model.kind)
        | _interaction(model, backbone, held_out, test, logits, conduct.additive),
        "kind": model.kind,
        "classes": len(table.classes),
        "left_out": len(table.skipped),
        "predicted": class_numbers(probabilities, multi=model.kind == "multi"),
        "truth": class_numbers(test.targets, multi=model.kind == "multi"),
        "trained_parameters": report.parameters,
        "method_parameters": sum(p.numel() for p in model.method.parameters()),
        "seconds": round(seconds, 2),
        "pairs_per_second": round(rate, 1),
        "peak_mib": None,
        "best_epoch": report.best_epoch,
        "monitor": report.monitor,
        "validation": report.validation,
        "backbone_digest": backbone.digest,
    }


def _interaction(
    model: PairClassifier,
    backbone: Backbone,
    table: PairTable,
    test: EncodedTable,
    logits: Tensor,
    additive: int,
) -> dict[str, float]:
    """Figures of what neither side says alone, as far as the test pairs have them."""
    from interplay.classification.additive import additive_part
    from interplay.metrics.group_score import group_scores, quadruples

    found: dict[str, float] = {}
    if model.kind == "single" and logits.shape[1] == 2 and test.targets is not None:
        fours = quadruples(table.picture_keys(), table.texts(), test.targets.tolist())
        if fours:
            found |= group_scores((logits[:, 1] - logits[:, 0])[torch.tensor(fours)].view(-1, 2, 2))
    if additive:
        found["beyond_additive"] = additive_part(model, backbone, test, pairs=additive).beyond
    return found


def class_numbers(values: Any, *, multi: bool) -> list[Any]:
    """Class numbers: of the largest column, of those above one half, or as they are."""
    if multi:
        return [row.nonzero().flatten().tolist() for row in values > 0.5]
    found: list[Any] = (values.argmax(dim=1) if values.dim() == 2 else values).tolist()
    return found


def _peak(cell: GridCell) -> float | None:
    """Peak memory of one training step, or None where the method has none or it cannot be measured here."""
    from interplay.profiling.memory import measure_step

    if not choose(cell.method).method.traits.solver.by_gradient:
        return None
    pairs = cell.training.get("batch_size", TrainSettings.batch_size)
    try:
        return round(measure_step(cell.backbone, cell.method, cell.settings, batch_size=pairs).peak, 1)
    except InterplayError:
        return None


def run_grid(
    grid: Grid,
    folder: Path,
    conduct: Conduct | None = None,
    place: Place | None = None,
    *,
    report: Report | None = None,
) -> list[Record]:
    """Run the cells of a grid that are missing; the finished ones are read (`run_cells`).

    Args:
        grid: the cells.
        folder: of the cells' files.
        conduct: how they are run.
        place: where; by default one after the other in this process, on one thread.
        report: called with each cell as it is finished.

    Returns:
        One record a cell, in the grid's order; those that could not be trained hold a `problem` and are not kept.

    Raises:
        InterplayError: as `run_cells`.
    """
    conduct = conduct or Conduct()
    first = {(cell.row, cell.data): cell for cell in reversed(grid.cells)}
    jobs = [
        (cell, TrainClassifier(cell, conduct, conduct.memory and first[cell.row, cell.data] is cell))
        for cell in grid.cells
    ]
    return run_cells(jobs, folder, place or Place(cpus=1), report=report)


def run_part(
    whole: Grid,
    part: Grid,
    folder: Path,
    conduct: Conduct | None = None,
    place: Place | None = None,
    *,
    report: Report | None = None,
) -> list[Record]:
    """Run a part of a grid; the records of it and of all other cells that were finished before, in the grid's order.

    Raises:
        InterplayError: as `run_grid`; a finished cell of other settings anywhere in the grid, before anything runs.
    """
    names = {cell.name for cell in part.cells}
    found = {cell.name: load_record(folder, cell) for cell in whole.cells if cell.name not in names}
    records = run_grid(part, folder, conduct, place, report=report)
    found |= {cell.name: record for cell, record in zip(part.cells, records, strict=True)}
    return [record for cell in whole.cells if (record := found[cell.name]) is not None]

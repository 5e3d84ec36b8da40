"""Run a grid: every finished cell is a JSON file, so a grid that was killed goes on where it was."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interplay.comparison.grid import Cell, Grid
from interplay.data.checks import OnBadRow
from interplay.errors import InterplayError
from interplay.files import read_json, write_text
from interplay.methods.registry import choose
from interplay.methods.settings import make_settings
from interplay.towers.tokens import SIDES, Shape
from interplay.training.settings import EXECUTION, TrainSettings

if TYPE_CHECKING:
    from interplay.classification.classifier import Classifier
    from interplay.towers.backbone import Backbone

Record = dict[str, Any]
Report = Callable[[Cell, Record], None]


@dataclass(frozen=True)
class Resources:
    """What one cell takes.

    Attributes:
        cpus: threads of a cell; on a cluster, the processors that it reserves.
        gpus: on a cluster, the graphics processors (or parts of one) that it reserves.
        memory: whether the peak memory of a training step is measured, once a row and data set, in a process of its
            own (some seconds each, Linux).
        training: `EXECUTION` settings of `TrainSettings` for all cells, over their own.
        on_bad_row: `error`, or `skip` to leave out the rows of a data set that cannot be used.
    """

    cpus: int = 1
    gpus: float = 0.0
    memory: bool = True
    training: Mapping[str, Any] = field(default_factory=dict)
    on_bad_row: OnBadRow = "error"

    def __post_init__(self) -> None:
        if self.cpus < 1 or self.gpus < 0:
            raise InterplayError("A cell takes at least 1 processor and no negative number of GPUs.")
        if more := set(self.training) - {*EXECUTION}:
            raise InterplayError(
                f"{', '.join(sorted(more))}: this belongs to the cells, not to where they run."
            )
        if lost := {"csv", "tensorboard"} & set(self.training.get("loggers", ())):
            raise InterplayError(
                f"The logger '{min(lost)}' writes into the folder of a training, and a cell keeps none: its epochs are "
                "lost. Use wandb or mlflow with a server, or interplay train."
            )


def run_cell(plain: Record, resources: Resources, *, measure_memory: bool) -> Record:
    """Train one cell and measure it on test; a function of plain values, so that any process can run it.

    Args:
        plain: `Cell.plain()`.
        measure_memory: whether this cell measures its row's peak memory.

    Returns:
        `cell` as it was given; `metrics` on test; `predicted` and `truth`, class numbers of each test pair (lists of
        them for several labels); `left_out`, how many rows could not be used; `trained_parameters` (method and head),
        `method_parameters`; `seconds` of training; `pairs_per_second` in prediction, pictures decoded; `peak_mib` of a
        training step or None; `best_epoch`, by `monitor`, and its metrics and loss on `validation`; `threads`,
        `backbone_digest`. A cell that cannot be trained holds `cell` and `problem`, one sentence.
    """
    import torch

    cell = Cell(**plain)
    torch.set_num_threads(resources.cpus)
    try:
        record = _measured(cell, resources)
        if measure_memory:
            record["peak_mib"] = _peak(cell)
    except InterplayError as problem:
        return {"cell": plain, "problem": str(problem)}
    except torch.OutOfMemoryError:
        return {
            "cell": plain,
            "problem": "The memory of the GPU was not enough: choose a smaller batch_size.",
        }
    return {"cell": plain, **record, "threads": resources.cpus}


def classifier_of(cell: Cell, backbone: Backbone) -> Classifier:
    """What a cell trains, untrained."""
    from interplay.classification.classifier import Classifier

    return Classifier(
        backbone,
        cell.method,
        settings=cell.settings,
        head=cell.head,
        multi_loss=cell.multi_loss,  # type: ignore[arg-type]
        seed=cell.seed,
    )


def training_of(cell: Cell, shape: Shape, changes: Mapping[str, Any]) -> TrainSettings:
    """How a cell is trained: in silence, and with the prefix cache where it is of use and nothing else is said.

    Args:
        changes: over the cell's own settings.
    """
    given = {"progress": False, "loggers": (), **cell.training, "seed": cell.seed, **changes}
    if "cache_prefix" not in given:  # exact, so it changes the time and no result
        method = choose(cell.method).build(shape, cell.settings)
        given["cache_prefix"] = any(method.first_layer(side) > 0 for side in SIDES)
    training: TrainSettings = make_settings(TrainSettings, given, "training")
    return training


def _measured(cell: Cell, resources: Resources) -> Record:
    from interplay.encoding.inputs import encode_table
    from interplay.encoding.predict import predict
    from interplay.metrics.classification import classification_metrics

    backbone, table = _backbone(cell.backbone, cell.random_weights), _table(cell.data, resources.on_bad_row)
    held_out = table.split("test")  # one that is missing is told before anything is trained
    classifier = classifier_of(cell, backbone)
    training = training_of(cell, backbone.shape, resources.training)
    begun = time.perf_counter()
    report = classifier.fit(table.with_share(cell.share, cell.seed), settings=training)
    seconds = time.perf_counter() - begun
    model = classifier.model
    assert model is not None
    test = encode_table(held_out, backbone, reserve=model.reserve)
    begun = time.perf_counter()
    probabilities = model.probabilities(predict(model, backbone, test))
    rate = len(test) / (time.perf_counter() - begun)
    assert test.targets is not None
    return {
        "metrics": classification_metrics(probabilities, test.targets, model.kind),
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


def class_numbers(values: Any, *, multi: bool) -> list[Any]:
    """Class numbers: of the largest column, of those above one half, or as they are."""
    if multi:
        return [row.nonzero().flatten().tolist() for row in values > 0.5]
    found: list[Any] = (values.argmax(dim=1) if values.dim() == 2 else values).tolist()
    return found


def _peak(cell: Cell) -> float | None:
    """Peak memory of one training step, or None where the method has none or it cannot be measured here."""
    from interplay.profiling.memory import measure_step

    if not choose(cell.method).method.traits.solver.by_gradient:
        return None
    pairs = cell.training.get("batch_size", TrainSettings.batch_size)
    try:
        return round(measure_step(cell.backbone, cell.method, cell.settings, batch_size=pairs).peak, 1)
    except InterplayError:
        return None


@functools.lru_cache(maxsize=1)
def _backbone(name: str, random_weights: bool) -> Any:
    from interplay.towers.backbone import load_backbone

    return load_backbone(name, random_weights=random_weights)


@functools.lru_cache(maxsize=2)
def _table(data: str, on_bad_row: OnBadRow) -> Any:
    from interplay.data import load

    return load(data, on_bad_row=on_bad_row)


def load_record(folder: Path, cell: Cell) -> Record | None:
    """The finished cell of a grid's folder; None where it is not there.

    Raises:
        InterplayError: the file cannot be read, or is of a cell with other settings.
    """
    path = folder / cell.file
    if not path.exists():
        return None
    try:
        record: Record = read_json(path)
        before = {**record["cell"]}
    except (InterplayError, KeyError, TypeError):
        raise InterplayError(f"{path} is no finished cell: remove it, and it is run again.") from None
    if before != (now := cell.plain()):
        differs = next(key for key in {**now, **before} if before.get(key) != now.get(key))
        raise InterplayError(
            f"{path} was run with {differs} = {before.get(differs)}, now it is {now.get(differs)}: choose another "
            "folder, or remove that file."
        )
    return record


def run_grid(
    grid: Grid, folder: Path, resources: Resources, *, ray: str | None = None, report: Report | None = None
) -> list[Record]:
    """Run the cells that are missing; the finished ones are read.

    Args:
        grid: the cells.
        folder: of the cells' files; written by this process alone, so that no cluster needs to share it.
        ray: None: one cell after the other in this process; else the address of a Ray cluster (`auto`, `local`, or
            `ray://HOST:PORT`), where each cell is a task with its `resources`.
        report: called with each cell as it is finished.

    Returns:
        One record a cell, in the grid's order; those that could not be trained hold a `problem` and are not kept.

    Raises:
        InterplayError: a finished cell of other settings, a cluster that cannot be reached, a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)  # one that cannot be is told before anything is trained
    found = {cell.name: record for cell in grid.cells if (record := load_record(folder, cell)) is not None}
    missing = [cell for cell in grid.cells if cell.name not in found]
    first = {(cell.row, cell.data): cell for cell in reversed(grid.cells)}
    jobs = [(cell, resources.memory and first.get((cell.row, cell.data)) is cell) for cell in missing]
    finished = _one_by_one(jobs, resources) if ray is None else _on_ray(jobs, resources, ray)
    for cell, record in finished:
        if "problem" not in record:
            write_text(folder / cell.file, json.dumps(record) + "\n")
        found[cell.name] = record
        if report is not None:
            report(cell, record)
    return [found[cell.name] for cell in grid.cells]


Jobs = list[tuple[Cell, bool]]


def _one_by_one(jobs: Jobs, resources: Resources) -> Iterator[tuple[Cell, Record]]:
    import torch

    threads = torch.get_num_threads()
    try:
        for cell, measure in jobs:
            yield cell, run_cell(cell.plain(), resources, measure_memory=measure)
    finally:
        torch.set_num_threads(threads)


def _on_ray(jobs: Jobs, resources: Resources, address: str) -> Iterator[tuple[Cell, Record]]:
    """Each cell as a task of its own, in the order in which they finish."""
    try:
        import ray
    except ImportError:
        raise InterplayError("A Ray cluster needs the package ray: pip install ray.") from None
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", ignore_reinit_error=True)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as problem:
        raise InterplayError(
            f"No Ray cluster answers at '{address}' ({str(problem).strip().splitlines()[0][:200]}): start one by "
            "'ray start --head', or leave --ray away."
        ) from None
    try:
        task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(run_cell)
        running = {
            task.remote(cell.plain(), resources, measure_memory=measure): cell for cell, measure in jobs
        }
        while running:
            (ready,), _ = ray.wait(list(running), num_returns=1)
            cell = running.pop(ready)
            try:
                yield cell, ray.get(ready)
            except ray.exceptions.RayError as problem:  # its node died, or its code did: the others go on
                yield cell, {"cell": cell.plain(), "problem": str(problem).strip().splitlines()[-1]}
    finally:
        ray.shutdown()

"""The engine of cells: it runs those that are missing, here or on a Ray cluster, keeps their records and reads them.

A cell is one training and its measurement. What it does is a small object, its `Work`: train a classifier, or let a
retriever learn a stream of sessions. Every finished cell is a JSON file, so what was stopped or killed goes on where it
was.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from interplay.comparison.loader import Loader, Tell
from interplay.errors import InterplayError
from interplay.files import read_json, write_text
from interplay.ray_cluster import connected

Record = dict[str, Any]


class Cell(Protocol):
    """One training and its measurement, as the engine knows it."""

    @property
    def name(self) -> str:
        """How messages call it."""

    @property
    def file(self) -> Path:
        """Where its record is kept, below the folder of all cells; no two cells share one."""

    @property
    def indent(self) -> int | None:
        """Of the JSON of its record; None for a single line."""

    def plain(self) -> Record:
        """What it is run with, as JSON holds it, as far as a record has to agree with it."""

    def recorded(self, record: Record) -> Record:
        """What a record says it was run with, to be compared with `plain`.

        Raises:
            KeyError, TypeError: it is no record of such a cell.
        """


class Work(Protocol):
    """What a cell does: a value that any process can run."""

    def run(self, loader: Loader) -> Record:
        """Train, measure, and say what came of it.

        Raises:
            InterplayError: it cannot be trained.
        """


C = TypeVar("C", bound=Cell)
Finished = Generator[tuple[C, Record], None, None]
"""Cells with their records, as they are finished."""


@dataclass(frozen=True)
class Place:
    """Where cells run.

    Attributes:
        cpus: threads of a cell; on a cluster, the processors that it reserves. None: as many threads as there are
            anyway, and one processor.
        gpus: on a cluster, the graphics processors (or parts of one) that a cell reserves.
        ray: None: one cell after the other in this process; else the address of a Ray cluster (`auto`, `local`, or
            `ray://HOST:PORT`), where each cell is a task.
    """

    cpus: int | None = None
    gpus: float = 0.0
    ray: str | None = None

    def __post_init__(self) -> None:
        if (self.cpus is not None and self.cpus < 1) or self.gpus < 0:
            raise InterplayError("A cell takes at least 1 processor and no negative number of GPUs.")


def load_record(folder: Path, cell: Cell) -> Record | None:
    """The record of a finished cell; None where it is not finished.

    Raises:
        InterplayError: the file cannot be read, or is of a cell with other settings.
    """
    path = folder / cell.file
    if not path.exists():
        return None
    try:
        record: Record = read_json(path)
        before = cell.recorded(record)
    except (InterplayError, KeyError, TypeError):
        raise InterplayError(f"{path} is no finished cell: remove it, and it is run again.") from None
    if before != (now := cell.plain()):
        differs = next(key for key in {**now, **before} if before.get(key) != now.get(key))
        raise InterplayError(
            f"{path} was run with {differs} = {before.get(differs)}, now it is {now.get(differs)}: choose another "
            "folder, or remove that file."
        )
    return record


def run_cells(
    jobs: Sequence[tuple[C, Work]],
    folder: Path,
    place: Place,
    *,
    announce: Callable[[C, bool], None] | None = None,
    report: Callable[[C, Record], None] | None = None,
    tell: Tell | None = None,
) -> list[Record]:
    """Run the cells that are missing; the finished ones are read, all of them before anything runs.

    Args:
        jobs: the cells, each with its work; of equal cells, which share a file, the first one is run.
        folder: of the cells' files; written by this process alone, so that no cluster needs to share it.
        place: where they run.
        announce: called with each cell when its turn comes, and whether it was finished before.
        report: called with each cell that has run, and its record; what it raises ends the run.
        tell: is given what the readers of the data decided and left out; on a cluster nothing is told.

    Returns:
        One record a cell, in the order of the jobs. That of a cell that could not be trained holds a `problem`, one
        sentence, and nothing else; it is not kept.

    Raises:
        InterplayError: a finished cell of other settings, a cluster that cannot be reached, a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)  # one that cannot be is told before anything is trained
    found = {cell.file: record for cell, _ in jobs if (record := load_record(folder, cell)) is not None}
    missing: dict[Path, tuple[C, Work]] = {}
    for cell, work in jobs:
        if cell.file not in found:
            missing.setdefault(cell.file, (cell, work))
        elif announce is not None:
            announce(cell, True)
    runs = _here if place.ray is None else _on_ray
    with contextlib.closing(runs([*missing.values()], place, announce or _silent, tell)) as finished:
        for cell, record in finished:
            if "problem" not in record:
                text = json.dumps(record, indent=cell.indent, ensure_ascii=False)
                write_text(folder / cell.file, text + "\n")
            found[cell.file] = record
            if report is not None:
                report(cell, record)
    return [found[cell.file] for cell, _ in jobs]


def _silent(_cell: Cell, _finished: bool) -> None:
    """Say nothing of a cell whose turn has come."""


def _here(
    jobs: Sequence[tuple[C, Work]], place: Place, announce: Callable[[C, bool], None], tell: Tell | None
) -> Finished[C]:
    """One cell after the other in this process, whose number of threads is as before at the end."""
    threads, loader = torch.get_num_threads(), Loader(tell)
    try:
        for cell, work in jobs:
            announce(cell, False)
            yield cell, attempt(work, loader, place.cpus)
    finally:
        torch.set_num_threads(threads)


def attempt(work: Work, loader: Loader, cpus: int | None = None) -> Record:
    """The record of one cell's work, or the `problem` that ended it.

    Args:
        cpus: threads that it takes; None leaves their number.
    """
    if cpus is not None:
        torch.set_num_threads(cpus)
    try:
        return work.run(loader)
    except InterplayError as problem:
        return {"problem": str(problem)}
    except torch.OutOfMemoryError:
        return {"problem": "The memory of the GPU was not enough: choose a smaller batch_size."}


@functools.lru_cache(maxsize=1)
def _loader_of_the_node() -> Loader:
    """Of a process on a cluster, which runs one cell after the other."""
    return Loader()


def _on_a_node(work: Work, cpus: int | None) -> Record:
    return attempt(work, _loader_of_the_node(), cpus)


def _on_ray(
    jobs: Sequence[tuple[C, Work]], place: Place, announce: Callable[[C, bool], None], _tell: Tell | None
) -> Finished[C]:
    """Each cell as a task of its own, in the order in which they finish."""
    with connected(place.ray or "auto") as ray:
        task = ray.remote(num_cpus=place.cpus or 1, num_gpus=place.gpus)(_on_a_node)
        running = {}
        for cell, work in jobs:
            announce(cell, False)
            running[task.remote(work, place.cpus)] = cell
        while running:
            (ready,), _ = ray.wait(list(running), num_returns=1)
            cell = running.pop(ready)
            try:
                yield cell, ray.get(ready)
            except ray.exceptions.RayError as problem:  # its node died, or its code did: the others go on
                yield cell, {"problem": str(problem).strip().splitlines()[-1]}

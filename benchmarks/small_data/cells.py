"""Cells of the bench: one row on one set with one seed, measured on test and kept as a JSON file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

import interplay
from benchmarks.small_data.catalogue import sets, streams
from benchmarks.small_data.folders import edition, folder
from benchmarks.small_data.ranking import measured_stream
from interplay import Classifier, TrainSettings
from interplay.comparison.engine import Place, Record, load_record, run_cells
from interplay.comparison.loader import Loader
from interplay.comparison.papers.experiments import HEAD, TRAINING
from interplay.comparison.run import class_numbers
from interplay.comparison.tables import HEADLINE
from interplay.errors import InterplayError, unknown
from interplay.methods.registry import choose
from interplay.metrics.classification import classification_metrics
from interplay.retrieval.retriever import Retriever
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import SIDES


@dataclass(frozen=True)
class Row:
    """What is tried on every set.

    Args:
        command: further words of the command that a user types (`interplay train` or `continual` with `--data`, `--out`
            and `--seed`); None: the Python API with the values below.
        method, head, training: as `Classifier` and its `fit` take them.
    """

    command: tuple[str, ...] | None = None
    method: str = ""
    head: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def drawn(self) -> bool:
        """Whether anything of it depends on the seed."""
        return self.command is not None or choose(self.method).method.traits.solver.by_gradient


PROBES = ("text_probe", "image_probe", "linear_probe-pair")
SOLVED = ("zero_shot", *PROBES)
METHODS = ("mitp", "lora", "p_clip", "late_fusion", "full")

ROWS: dict[str, Row] = {
    "default": Row(()),
    **{name: Row(method=name) for name in (*SOLVED, *METHODS)},
    **{
        f"{name}, from the probe": Row(method=name, head=dict(HEAD), training=dict(TRAINING))
        for name in METHODS
    },
}
"""Of sets. `default` is what a user types; methods by their name are at the library's defaults, and `from the probe`
under the one head and schedule of `interplay experiment`, which stays as it is when defaults change."""

STREAM_ROWS: dict[str, Row] = {
    "default": Row(()),
    "linear_map": Row(("--method", "linear_map")),
    "lpi-m": Row(("--method", "lpi-m")),
    "lpi-p": Row(("--method", "lpi-p")),
}
"""Of streams; the bare backbone, and the true task given, are measured beside each."""


@dataclass(frozen=True)
class Cell:
    """One training: a row on a set or stream with a seed; for the engine the cell and its work."""

    data: str
    row: str
    seed: int

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.row}@{self.data}#{self.seed}"

    @property
    def file(self) -> Path:
        """Where it is kept below the bench's folder."""
        return Path("cells") / self.data / f"{self.row.replace(', ', '-').replace(' ', '-')}-{self.seed}.json"

    @property
    def indent(self) -> None:
        """A record is one line."""
        return None

    @property
    def what(self) -> Row:
        """What its row is."""
        return (STREAM_ROWS if self.data in streams() else ROWS)[self.row]

    def plain(self) -> Record:
        """As JSON holds it, with what its row is."""
        values: Record = json.loads(
            json.dumps({**asdict(self), "edition": edition(self.data), "what": asdict(self.what)})
        )
        return values

    def recorded(self, record: Record) -> Record:
        """What a record says it was run with; those from before there were editions are of the first."""
        return {key: record[key] for key in ("data", "row", "seed", "what")} | {
            "edition": record.get("edition", 1)
        }

    def run(self, loader: Loader) -> Record:
        """Train, and measure on validation and test; `chosen` is what the training settled on."""
        measured = _stream_cell if self.data in streams() else _set_cell
        return measured(self, loader, loader.backbone("tiny"))


def planned(names: Sequence[str], rows: Sequence[str], seeds: Sequence[int]) -> Iterator[Cell]:
    """Seed by seed, small sets first; what does not depend on the seed once.

    Args:
        names: of sets and streams; none: all.
        rows: names of rows; none: all but those from the probe.

    Raises:
        InterplayError: there is no such set or row.
    """
    for name in names:
        if name not in sets() | streams():
            raise unknown("set", name, sets() | streams())
    for row in rows:
        if row not in ROWS | STREAM_ROWS:
            raise unknown("row", row, ROWS | STREAM_ROWS)
    chosen = sorted(names or (sets() | streams()), key=_pictures)
    for seed in seeds:
        for name in chosen:
            known = ROWS if name in sets() else STREAM_ROWS
            for row, what in known.items():
                asked = row in rows if rows else not row.endswith("from the probe")
                if asked and (what.drawn or seed == seeds[0]):
                    yield Cell(name, row, seed)


class _TimeUp(Exception):
    """No further cell begins."""


def run(
    cells: Sequence[Cell], out: Path, seconds: float, threads: int, report: Callable[[Cell, Record], None]
) -> int:
    """Run the cells that are missing, one after the other, as long as there is time.

    Args:
        seconds: no cell begins after them.
        threads: of a cell.
        report: called with each cell as it is finished; one that failed holds a `problem` and is not kept.

    Returns:
        How many are still missing.

    Raises:
        InterplayError: a finished cell was another row; the folder cannot be written.
    """
    end = time.monotonic() + seconds

    def begins(_cell: Cell, finished: bool) -> None:
        if not finished and time.monotonic() > end:
            raise _TimeUp

    with contextlib.suppress(_TimeUp):
        jobs = [(cell, cell) for cell in cells]
        run_cells(jobs, out, Place(cpus=threads), announce=begins, report=report)
    return sum(load_record(out, cell) is None for cell in cells)


def _set_cell(cell: Cell, loader: Loader, backbone: Backbone) -> Record:
    data, row = loader.table(str(folder(cell.data))), cell.what
    with tempfile.TemporaryDirectory() as scratch:
        begun = time.perf_counter()
        if row.command is not None:
            _interplay("train", cell, row.command, Path(scratch) / "run")
            seconds = time.perf_counter() - begun
            classifier = Classifier.from_pretrained(Path(scratch) / "run", backbone=backbone)
        else:
            classifier = Classifier(backbone, row.method, head=row.head, seed=cell.seed)
            classifier.fit(data, settings=_training(cell, row, backbone))
            seconds = time.perf_counter() - begun
    probabilities, truth = {}, {}
    for split in ("validation", "test"):
        logits, truth[split] = classifier.logits(data, split)
        probabilities[split] = classifier.probabilities(logits)
    kind = data.kind
    assert kind != "pairs"
    metrics = {
        split: classification_metrics(probabilities[split], truth[split], kind) for split in probabilities
    }
    assert classifier.card is not None
    card = asdict(classifier.card)
    return {
        **_facts(cell, seconds, backbone),
        "kind": kind,
        "classes": len(data.classes),
        "metric": HEADLINE[kind],
        "test": metrics["test"][HEADLINE[kind]],
        "validation": metrics["validation"][HEADLINE[kind]],
        "metrics": metrics,
        "chosen": {key: card[key] for key in card if key not in ("labels", "class_texts", "metrics")},
        "predicted": class_numbers(probabilities["test"], multi=kind == "multi"),
        "truth": class_numbers(truth["test"], multi=kind == "multi"),
    }


def _stream_cell(cell: Cell, loader: Loader, backbone: Backbone) -> Record:
    data, row = loader.table(str(folder(cell.data))), cell.what
    assert row.command is not None
    with tempfile.TemporaryDirectory() as scratch:
        begun = time.perf_counter()
        _interplay("continual", cell, row.command, Path(scratch) / "run")
        seconds = time.perf_counter() - begun
        retriever = Retriever.from_pretrained(Path(scratch) / "run", backbone=backbone)
    card = asdict(retriever.card())
    return {
        **_facts(cell, seconds, backbone),
        "chosen": {key: card[key] for key in ("method", "settings", "training", "sessions")},
        **{split: measured_stream(retriever, data, split) for split in ("validation", "test")},
    }


def _facts(cell: Cell, seconds: float, backbone: Backbone) -> Record:
    return {
        **cell.plain(),
        "seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "backbone_digest": backbone.digest,
        "code": _code(),
    }


def _interplay(command: str, cell: Cell, words: Sequence[str], out: Path) -> None:
    """What a user types, in a process of its own.

    Raises:
        InterplayError: it fails.
    """
    typed = [command, "--data", str(folder(cell.data)), "--out", str(out), "--seed", str(cell.seed), *words]
    start = "import sys; from interplay.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", start, *typed],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    if done.returncode:
        raise InterplayError(f"interplay {' '.join(typed)} failed: {done.stderr.strip()[-300:]}")


def _training(cell: Cell, row: Row, backbone: Backbone) -> TrainSettings:
    """A row's training, in silence, with the prefix cache where it is of use: it changes no result."""
    method = choose(row.method).build(backbone.shape, {})
    cached = any(method.first_layer(side) > 0 for side in SIDES)
    return TrainSettings(
        **{**row.training, "seed": cell.seed, "progress": False, "loggers": (), "cache_prefix": cached}
    )


def _pictures(name: str) -> int:
    return len(list((folder(name) / "pictures").iterdir()))


@cache
def _code() -> str:
    """A fingerprint of the library's code: what a default is, is only known of one state of it."""
    root = Path(interplay.__file__).parent
    files = sorted(root.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]

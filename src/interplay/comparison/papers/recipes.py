"""A recipe: one cell of a published table as a configuration that a command reads with `--config`."""

from __future__ import annotations

import hashlib
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from interplay.comparison.selection import narrowed

DATA = "data"
"""The folder with the benchmarks that the committed files name."""


@dataclass(frozen=True)
class Paper:
    """Whose tables they are.

    Attributes:
        name: of its folder below `recipes`.
        title: in words.
        prefix: of its tables' names, as `interplay reproduce` takes them.
        command: what trains one cell: `train`, or `continual` for a stream of tasks.
        speed: GFLOP/s of the estimates of cost, an assumption.
    """

    name: str
    title: str
    prefix: str
    command: Literal["train", "continual"]
    speed: int = 20_000


@dataclass(frozen=True)
class Recipe:
    """One cell of a published table.

    Attributes:
        paper: whose.
        table: `table1`, …
        dataset: name of the benchmark's reader, which is its folder's name below the root too.
        name: of the row, unique within table and data set.
        method: as `interplay train --method` takes it.
        metrics: what the cell is measured by, as the library calls it.
        published: metric → the published value in percent; empty where none can be read.
        unread: why, where none can be read.
        config: the other options of the paper's command, without the data.
        hours: estimated GPU hours of one run.
        remarks: sentences for the header: what the paper leaves open, and what was chosen.
    """

    paper: Paper
    table: str
    dataset: str
    name: str
    method: str
    metrics: tuple[str, ...]
    published: Mapping[str, float]
    config: Mapping[str, Any]
    hours: float
    remarks: tuple[str, ...] = field(default=())
    unread: str = "a figure"

    @property
    def title(self) -> str:
        """Data set and row."""
        return f"{self.dataset}-{self.name}"

    @property
    def file(self) -> Path:
        """Its place below `recipes`."""
        return Path(self.paper.name) / self.table / f"{self.title}.yaml"

    @property
    def outcome(self) -> str:
        """The published values in words."""
        values = ", ".join(f"{name} {value}" for name, value in self.published.items())
        return values or f"not readable ({self.unread})"

    def command(self, root: str = DATA) -> str:
        """What reproduces it."""
        return f"interplay reproduce {self.paper.prefix}{self.table} --only {self.title} --root {root}"

    def options(self, root: str = DATA) -> dict[str, Any]:
        """Every option of the paper's command but the folder for the run."""
        return {
            "data": f"{self.dataset}:{Path(root) / self.dataset}",
            "method": self.method,
            **self.config,
        }

    def text(self) -> str:
        """The file: what to expect and what it costs, then the options."""
        head = [
            f"{self.title}: a cell of {self.table} of {self.paper.title}.",
            f"Published, in percent on test: {self.outcome}.",
            f"Expected cost of one run: {_hours(self.hours)} on one GPU. An estimate (arithmetic at "
            f"{self.paper.speed // 1000} TFLOP/s), not measured.",
            *self.remarks,
        ]
        lines = [line for sentence in head for line in textwrap.wrap(sentence, 117)]
        lines += [
            f"  {self.command()}",
            f"  interplay {self.paper.command} --config recipes/{self.file} --out runs/{self.title}",
        ]
        body: str = yaml.safe_dump(self.options(), sort_keys=False, allow_unicode=True, width=10**6)
        return "".join(f"# {line}\n" for line in lines) + body


def digest(options: Mapping[str, Any]) -> str:
    """A short fingerprint of options."""
    text = json.dumps(dict(options), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def chosen(recipes: Sequence[Recipe], words: Sequence[str]) -> list[Recipe]:
    """The recipes of one table that some words ask for: data sets, methods or rows, titles (see `narrowed`).

    Raises:
        InterplayError: a word that none of them has, or words that no cell has together.
    """
    return narrowed(
        recipes,
        words,
        lambda recipe: ((recipe.dataset,), (recipe.name, recipe.method), (recipe.title,)),
        "data set, method or row of this table",
    )


def _hours(hours: float) -> str:
    return f"about {hours:.1f} hours" if hours >= 0.1 else "a few minutes"

"""The one table that everything trains on: image-text pairs, with labels where the task has them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image

from interplay.data.images import decode
from interplay.data.splits import SPLITS, Split
from interplay.errors import InterplayError, unknown
from interplay.typed import fits

if TYPE_CHECKING:
    import datasets

__all__ = ["SPLITS", "BadRow", "Kind", "PairTable", "Split"]

Kind = Literal["single", "multi", "pairs"]


@dataclass(frozen=True)
class BadRow:
    """A row that was left out.

    Args:
        row: its number in `source`, where the first row of data is 1 (a header is not counted).
        source: the file, or the name of the data set on the hub.
        reason: what is wrong with it, without a full stop.
    """

    row: int
    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}, row {self.row}: {self.reason}"


@dataclass(frozen=True, eq=False)
class PairTable:
    """Image-text pairs.

    Args:
        name: how the user called it; every error message begins with it.
        kind: `single` (column `label`, a string), `multi` (column `labels`, a list of strings) or `pairs`
            (no labels: retrieval).
        classes: the K class names in the order of the targets; empty for `pairs`.
        rows: N rows with the columns `image` (undecoded: `datasets.Image(decode=False)`), `text` (a string or
            a list of captions) and, where present, `label` or `labels`, `task`, `split`, `id`; a task may have
            further ones, such as `boxes` (for each object [left, top, right, bottom] in pixels of the undecoded
            picture from its left upper corner, right and bottom just outside: `data.boxes`) and `spans` (for each
            phrase the [begin, end) of the characters that name its box).
        skipped: the rows of the source that could not be used.
        notes: what the reader decided by itself, one sentence each, to be shown to the user.

    Raises:
        InterplayError: a column that `kind` needs is missing.
    """

    name: str
    kind: Kind
    classes: tuple[str, ...]
    rows: datasets.Dataset
    skipped: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        needed = ["image", "text", *{"single": ["label"], "multi": ["labels"], "pairs": []}[self.kind]]
        for column in needed:
            if column not in self.rows.column_names:
                raise InterplayError(f"{self.name}: {unknown('column', column, self.rows.column_names)}")

    def __len__(self) -> int:
        return len(self.rows)

    def remarks(self) -> list[str]:
        """What its reader decided by itself and left out, one sentence each."""
        return [*self.notes, *(f"Left out: {row}." for row in self.skipped)]

    def splits(self) -> dict[str, int]:
        """The number of rows in each split that is not empty; empty for a table without a `split` column."""
        if "split" not in self.rows.column_names:
            return {}
        count = Counter(self._column("split"))
        return {name: count[name] for name in SPLITS if count[name]}

    def split(self, name: Split) -> PairTable:
        """The rows of one split, in their order.

        Raises:
            InterplayError: there is no such split, or it is empty.
        """
        if not fits(name, Split):
            raise unknown("split", name, SPLITS)
        sizes = self.splits()
        if name not in sizes:
            has = ", ".join(f"{split} ({size})" for split, size in sizes.items()) or "none"
            raise InterplayError(f"{self.name} has no rows in the split '{name}'; its splits are: {has}.")
        return self.select([row for row, split in enumerate(self._column("split")) if split == name])

    def fraction(self, share: float, seed: int) -> PairTable:
        """A share of the rows, drawn within each class so that every class keeps at least one row.

        A multi-label row counts for its rarest label; pairs are drawn within their tasks. With one seed a
        smaller share is contained in every larger one. Take it of one split:
        `table.split("train").fraction(0.1, seed=0)`.

        Args:
            share: in (0, 1].
            seed: decides which rows.

        Raises:
            InterplayError: `share` is not in (0, 1].
        """
        if not 0 < share <= 1:
            raise InterplayError(f"A share of {self.name} must lie in (0, 1], not {share}.")
        groups: dict[str, list[int]] = {}
        for row, group in enumerate(self._strata()):
            groups.setdefault(group, []).append(row)
        kept: list[int] = []
        for number, group in enumerate(sorted(groups)):
            order = np.random.default_rng([seed, number]).permutation(groups[group])
            kept += order[: max(1, round(share * len(order)))].tolist()
        return self.select(sorted(kept))

    def with_share(self, share: float, seed: int) -> PairTable:
        """The table with a share of its training rows (`fraction`), the other splits as they are.

        Raises:
            InterplayError: `share` is not in (0, 1], or there are no training rows.
        """
        import datasets

        if share == 1:
            return self
        parts = [self.split("train").fraction(share, seed)]
        parts += [self.split(name) for name in SPLITS[1:] if name in self.splits()]
        return replace(self, rows=datasets.concatenate_datasets([part.rows for part in parts]))

    def texts(self) -> list[str]:
        """One text per row: the first caption where a row has several."""
        return [captions[0] for captions in self.captions()]

    def captions(self) -> list[list[str]]:
        """All texts of each row, at least one."""
        return [[text] if isinstance(text, str) else list(text) for text in self._column("text")]

    def targets(self) -> torch.Tensor:
        """What is to be predicted.

        Returns:
            `single`: (N,) int64, indices into `classes`; `multi`: (N, K) float32 of zeros and ones.

        Raises:
            InterplayError: the table has no labels, or a row has one that is not among `classes`.
        """
        if self.kind == "pairs":
            raise InterplayError(f"{self.name} has no labels, only image-text pairs: use it for retrieval.")
        index = {name: number for number, name in enumerate(self.classes)}
        labels = self.labels()
        for row, names in enumerate(labels):
            for name in names:
                if name not in index:
                    raise InterplayError(f"{self.where(row)}: {unknown('class', name, self.classes)}")
        if self.kind == "single":
            return torch.tensor([index[name] for (name,) in labels], dtype=torch.int64)
        targets = torch.zeros(len(self), len(self.classes))
        for row, names in enumerate(labels):
            targets[row, [index[name] for name in names]] = 1
        return targets

    def labels(self) -> list[list[str]]:
        """The class names of each row: one for `single`, any number for `multi`, none for `pairs`."""
        if self.kind == "single":
            return [[label] for label in self._column("label")]
        return (
            [list(labels) for labels in self._column("labels")] if self.kind == "multi" else [[]] * len(self)
        )

    def class_texts(self) -> list[str]:
        """The K class names as words, for class prompts: `-` and `_` become spaces."""
        return [name.replace("-", " ").replace("_", " ") for name in self.classes]

    def ids(self) -> list[str]:
        """One identifier per row: the `id` column, or else the row number."""
        return (
            self._column("id") if "id" in self.rows.column_names else [str(row) for row in range(len(self))]
        )

    def tasks(self) -> list[str]:
        """The session of a stream that each row belongs to.

        Raises:
            InterplayError: the table has no `task` column.
        """
        if "task" not in self.rows.column_names:
            raise InterplayError(f"{self.name}: {unknown('column', 'task', self.rows.column_names)}")
        return self._column("task")

    def image(self, row: int) -> Image.Image:
        """The picture of one row, RGB.

        Raises:
            InterplayError: it cannot be read.
        """
        return decode(self.sources([row])[0], self.where(row))

    def sources(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The undecoded pictures of some rows: dictionaries with `bytes`, or else `path`."""
        picked: list[dict[str, Any]] = self._images[list(rows)]["image"]
        return picked

    def picture_keys(self) -> list[str]:
        """For each row what tells its picture from others: a digest of its bytes, or its path."""
        return [
            hashlib.sha256(source["bytes"]).hexdigest() if source.get("bytes") else str(source["path"])
            for source in self.sources(range(len(self)))
        ]

    def where(self, row: int) -> str:
        """How an error message names a row of this table."""
        return f"{self.name}, row '{self._ids[row]}'"

    @cached_property
    def _ids(self) -> list[str]:
        return self.ids()

    @cached_property
    def _images(self) -> datasets.Dataset:
        return self.rows.select_columns(["image"])

    def _column(self, name: str) -> list[Any]:
        column: list[Any] = self.rows.select_columns([name])[:][name]
        return column

    def select(self, rows: list[int]) -> PairTable:
        """Some rows, by number, in the order given."""
        return replace(self, rows=self.rows.select(rows, keep_in_memory=True))

    def _strata(self) -> list[str]:
        if self.kind == "pairs":
            return self.tasks() if "task" in self.rows.column_names else [""] * len(self)
        labels = self.labels()
        count = Counter(label for row in labels for label in row)
        return [min(row, key=lambda label: (count[label], label), default="") for row in labels]

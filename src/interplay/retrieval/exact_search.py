"""Exact search in a folder of embeddings: every vector is compared, a block at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interplay.embeddings import Array, Embeddings, Record, read_embeddings
from interplay.errors import InterplayError, unknown, wrong_type
from interplay.threads import Turns
from interplay.towers.tokens import SIDES, Side
from interplay.typed import fits

ROWS = 16_384
"""Vectors of a block."""
QUERIES = 256
"""Queries that are compared with a block at a time: their scores take 16 MB."""


@dataclass(frozen=True)
class Match:
    """An item that is similar to a query.

    Attributes:
        score: cosine of the angle between both.
        key: of the item (`interplay.embeddings.COLUMNS`).
        source: path of its picture, or its text.
        partition, row: where its vector lies.
    """

    score: float
    key: str
    source: str
    partition: int
    row: int


@dataclass(frozen=True)
class _Part:
    """The vectors of a partition that can be found."""

    record: Record
    first: int
    vectors: Array
    bad: Tensor


class ExactSearch:
    """Finds what is most similar among all vectors of one side of a folder of embeddings.

    The arrays stay on disk, memory-mapped; a call holds a block of vectors and the scores of its queries with it.
    Several threads may search at once. Queries are best asked together.

    Args:
        folder: what `embed` wrote, of one encoder with the queries.
        find: the side to be found, `image` or `text`.

    Raises:
        InterplayError: no embeddings of that side, or a damaged partition.
    """

    def __init__(self, folder: str | Path, find: Side = "image") -> None:
        if not fits(find, Side):
            raise unknown("side of a pair", find, SIDES)
        self._embeddings: Embeddings = read_embeddings(folder)
        self._find: Side = find
        manifest = self._embeddings.manifest
        if find not in manifest.sides:
            raise InterplayError(f"{folder} holds no vectors of {find}s, only of {manifest.sides[0]}s.")
        self._width = manifest.joint
        self._turns = Turns()
        self._parts: list[_Part] = []
        first = 0
        for part in self._embeddings.parts():
            bad = torch.from_numpy(np.flatnonzero(part.rows[f"{find}_error"].is_valid().to_numpy()))
            self._parts.append(_Part(part.record, first, part.vectors[find], bad))
            first += part.record.rows
        self._count = first - sum(len(part.bad) for part in self._parts)

    def __len__(self) -> int:
        """The number of vectors that can be found."""
        return self._count

    def nearest(self, queries: Tensor, k: int = 10) -> list[list[Match]]:
        """The k items most similar to each query, best first; all where there are fewer.

        Args:
            queries: (Q, joint), normalised, as `Retriever.encode_texts` and `encode_images` give them.

        Raises:
            InterplayError: queries of another width, or `k` below 1.
        """
        if isinstance(k, bool) or not isinstance(k, int):
            raise wrong_type("k", "a whole number", k)
        if k < 1:
            raise InterplayError(f"k must be at least 1, not {k}.")
        if not isinstance(queries, Tensor) or queries.dim() != 2 or queries.shape[1] != self._width:
            raise InterplayError(f"queries must be a tensor of the shape (number, {self._width}).")
        queries = queries.detach().cpu().float()
        found: list[list[Match]] = []
        for some in torch.split(queries, QUERIES):
            with self._turns:
                scores, places = self._best(some, min(k, self._count))
            found += self._matches(scores, places)
        return found

    def _best(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """(Q, k) scores, best first, and the numbers of their vectors."""
        scores = torch.zeros(len(queries), 0)
        places = torch.zeros(len(queries), 0, dtype=torch.int64)
        for part in self._parts:
            for start in range(0, len(part.vectors), ROWS):
                block = part.vectors[start : start + ROWS].astype(np.float32, copy=False)
                new = torch.from_numpy(queries.numpy() @ block.T)
                inside = part.bad[(part.bad >= start) & (part.bad < start + ROWS)] - start
                new[:, inside] = -torch.inf
                best, at = new.topk(min(k, new.shape[1]), dim=1)
                scores = torch.cat([scores, best], dim=1)
                places = torch.cat([places, at + part.first + start], dim=1)
                scores, order = scores.sort(dim=1, descending=True, stable=True)
                scores, places = scores[:, :k], places.gather(1, order[:, :k])
        return scores, places

    def _matches(self, scores: Tensor, places: Tensor) -> list[list[Match]]:
        """What lies at places."""
        items = self._items(sorted({*places.flatten().tolist()}))
        return [
            [Match(score, *items[place]) for score, place in zip(*row, strict=True)]
            for row in zip(scores.tolist(), places.tolist(), strict=True)
        ]

    def _items(self, places: Sequence[int]) -> dict[int, tuple[str, str, int, int]]:
        """Key, source, partition and row of each place."""
        column = "image_path" if self._find == "image" else "caption"
        found: dict[int, tuple[str, str, int, int]] = {}
        for part in self._parts:
            rows = [at - part.first for at in places if 0 <= at - part.first < part.record.rows]
            if rows:
                table: Any = self._embeddings.rows(part.record, ["key", column]).take(rows)
                cells = zip(rows, table["key"].to_pylist(), table[column].to_pylist(), strict=True)
                for row, key, source in cells:
                    found[part.first + row] = (key, source, part.record.number, row)
        return found

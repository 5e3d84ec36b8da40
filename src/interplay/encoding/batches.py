"""From a table of pairs to batches that the towers read: pixels and token ids, encoded once and kept.

Everything is in memory or behind a memory map, so there is no worker process: a batch is a few copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from interplay.data.image_cache import ImageCache
from interplay.data.schema import Kind, PairTable
from interplay.encoding.trainable import PairBatch
from interplay.errors import InterplayError
from interplay.towers.backbone import Backbone
from interplay.towers.walk import Keys, Start

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

IN_MEMORY = 2**29
"""Pixels up to this number of bytes are held in memory; more stay in the image cache, which is memory-mapped."""
CHUNK = 256
BUCKET = 16
"""Batches are put together from chunks of this number of batches, sorted by the length of their texts."""


class BatchSource(Protocol):
    """What training and prediction read: N pairs, any rows of which can be asked for as a batch."""

    @property
    def text_lengths(self) -> Integers: ...

    @property
    def targets(self) -> Tensor | None: ...

    def __len__(self) -> int: ...

    def collate(self, rows: Sequence[int]) -> PairBatch: ...


class Texts:
    """Token ids of N texts, one after the other.

    Args:
        ids: N rows of ids, each with its start and end token and without padding.
        padding: the id that fills a batch up to its longest text.
    """

    def __init__(self, ids: Sequence[Sequence[int]], padding: int) -> None:
        self.padding = padding
        self.lengths: Integers = np.array([len(row) for row in ids], dtype=np.int64)
        self._ends = self.lengths.cumsum()
        self._ids = np.concatenate(
            [np.asarray(row, dtype=np.int32) for row in ids] or [np.empty(0, np.int32)]
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def row(self, row: int) -> npt.NDArray[np.int32]:
        """The ids of one text."""
        end = self._ends[row]
        return self._ids[end - self.lengths[row] : end]

    def batch(self, rows: Sequence[int]) -> Tensor:
        """(len(rows), longest text among them) int64."""
        longest = int(self.lengths[list(rows)].max(initial=0))
        ids = np.full((len(rows), longest), self.padding, dtype=np.int64)
        for at, row in enumerate(rows):
            ids[at, : self.lengths[row]] = self.row(row)
        return torch.from_numpy(ids)

    @classmethod
    def tokenized(cls, backbone: Backbone, texts: Sequence[str], *, reserve: int = 0) -> Texts:
        """Texts as a backbone reads them.

        Args:
            reserve: positions to leave free, see `Backbone.tokenize`.
        """
        end = backbone.text.shape.end_token
        rows: list[list[int]] = []
        for start in range(0, len(texts), CHUNK):
            ids = backbone.tokenize(texts[start : start + CHUNK], reserve=reserve)
            lengths = (ids == end).int().argmax(dim=1) + 1
            rows += [row[:length] for row, length in zip(ids.tolist(), lengths.tolist(), strict=True)]
        return cls(rows, end)


@dataclass(frozen=True, eq=False)
class EncodedTable:
    """N pairs, ready for a backbone.

    Args:
        name: how the user called the data; error messages begin with it.
        kind: `single` label, `multi` label or `pairs`.
        pixels: from n row numbers to uint8 (n, 3, size, size).
        texts: the token ids.
        targets: (N,) int64 or (N, K) float32; None for pairs.
        class_texts: the K class names in words.
        keys: of the N pairs, for methods that choose prompts by them in training.

    Raises:
        InterplayError: texts and targets are not equally many.
    """

    name: str
    kind: Kind
    pixels: Callable[[Sequence[int]], Pixels]
    texts: Texts
    targets: Tensor | None
    class_texts: tuple[str, ...] = ()
    keys: Keys | None = None

    def __post_init__(self) -> None:
        if self.targets is not None and len(self.targets) != len(self.texts):
            raise InterplayError(f"{self.name}: {len(self.texts)} pairs, but {len(self.targets)} targets.")

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def text_lengths(self) -> Integers:
        """(N,) tokens of each text."""
        return self.texts.lengths

    def collate(self, rows: Sequence[int]) -> PairBatch:
        """Some rows as a batch; the texts are cut to the longest among them."""
        targets = None if self.targets is None else self.targets[list(rows)]
        pixels = torch.from_numpy(self.pixels(rows))
        return PairBatch(pixels, self.texts.batch(rows), targets, self.keys_of(rows))

    def keys_of(self, rows: Sequence[int]) -> Keys | None:
        """The keys of some rows."""
        return None if self.keys is None else self.keys.rows(torch.as_tensor(rows))

    @classmethod
    def from_table(
        cls, table: PairTable, backbone: Backbone, images: ImageCache, *, reserve: int = 0
    ) -> EncodedTable:
        """The pairs of a table (of one split of it).

        Args:
            images: keeps the decoded pictures, cut to the square that the backbone reads.
            reserve: token positions to leave free (context prompts, class texts that continue a text).

        Raises:
            InterplayError: the image cache has another size, or a picture cannot be read.
        """
        if images.square != backbone.square:
            raise InterplayError(
                f"The image cache holds pictures of {images.square.label} pixels, but '{backbone.name}' reads "
                f"{backbone.square.label}."
            )
        return cls(
            name=table.name,
            kind=table.kind,
            pixels=_pixels_of(table, images),
            texts=Texts.tokenized(backbone, table.texts(), reserve=reserve),
            targets=None if table.kind == "pairs" else table.targets(),
            class_texts=tuple(table.class_texts()),
        )

    @classmethod
    def from_arrays(
        cls,
        backbone: Backbone,
        pixels: Pixels,
        texts: Sequence[str],
        targets: Tensor | None = None,
        *,
        kind: Kind = "single",
        class_texts: Sequence[str] = (),
        name: str = "arrays",
        reserve: int = 0,
    ) -> EncodedTable:
        """Pairs that are in memory (or memory-mapped) already.

        Args:
            pixels: (N, 3, size, size) uint8.
            texts: N texts.

        Raises:
            InterplayError: the pixels do not fit the backbone, or the numbers differ.
        """
        size = backbone.image_size
        if pixels.dtype != np.uint8 or pixels.shape != (len(texts), 3, size, size):
            raise InterplayError(
                f"{name}: '{backbone.name}' reads uint8 pixels of shape {(len(texts), 3, size, size)} for "
                f"{len(texts)} texts, not {pixels.dtype} of shape {pixels.shape}."
            )
        encoded = Texts.tokenized(backbone, texts, reserve=reserve)
        return cls(name, kind, _InMemory(pixels), encoded, targets, tuple(class_texts))


@dataclass(frozen=True, eq=False)
class _InMemory:
    """From rows to their pixels."""

    pixels: Pixels

    def __call__(self, rows: Sequence[int]) -> Pixels:
        return self.pixels[np.asarray(rows, dtype=np.int64)]


def _pixels_of(table: PairTable, images: ImageCache) -> Callable[[Sequence[int]], Pixels]:
    """Read all pictures once; keep them in memory where they fit (`IN_MEMORY`)."""
    if len(table) * 3 * images.size**2 > IN_MEMORY:
        return partial(images.get_many, table)
    pixels = np.empty((len(table), 3, images.size, images.size), dtype=np.uint8)
    for start in range(0, len(table), CHUNK):
        rows = range(start, min(start + CHUNK, len(table)))
        pixels[start : rows.stop] = images.get_many(table, rows)
    return _InMemory(pixels)


class EpochSampler:
    """The batches of every training epoch: a function of (seed, epoch) alone.

    Rows are shuffled and taken in chunks of 16 batches; each chunk is sorted by text length and cut into
    batches, and the batches are shuffled. So every row comes once an epoch, the last batch (a short one)
    included, and the texts of a batch are about equally long.

    Args:
        lengths: (N,) text lengths.
        batch_size: pairs in a batch and process.
        seed: decides the order, with the epoch.
        rank, world_size: this process among the processes of the training. A batch has as many pairs as all of them
            take together, so w processes with batches of b see in every step what one with batches of w·b sees, and
            each takes its share (`shares`) of it.
    """

    def __init__(
        self, lengths: Integers, batch_size: int, seed: int, *, rank: int = 0, world_size: int = 1
    ) -> None:
        self._lengths = lengths
        self._batch_size = batch_size * world_size
        self._seed = seed
        self._epoch = 0
        self.rank = rank
        self.world_size = world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, whose batches are to come."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-len(self._lengths) // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        return (self.own(rows) for rows in self.batches())

    def own(self, rows: list[int]) -> list[int]:
        """The share of a batch that this process takes."""
        counts = shares(len(rows), self.world_size)
        start = sum(counts[: self.rank])
        return rows[start : start + counts[self.rank]]

    def batches(self) -> list[list[int]]:
        """The batches of the epoch, of which every process takes its share."""
        random = np.random.default_rng([self._seed, self._epoch])
        order = random.permutation(len(self._lengths))
        chunk = BUCKET * self._batch_size
        batches: list[list[int]] = []
        for start in range(0, len(order), chunk):
            rows = order[start : start + chunk]
            rows = rows[np.argsort(self._lengths[rows], kind="stable")]
            batches += [
                rows[i : i + self._batch_size].tolist() for i in range(0, len(rows), self._batch_size)
            ]
        return [batches[i] for i in random.permutation(len(batches))]


def shares(rows: int, processes: int) -> tuple[int, ...]:
    """How many rows of a batch each process takes: equally many, the first ones one more; of a few some take none."""
    return tuple(rows // processes + (rank < rows % processes) for rank in range(processes))


class OrderedSampler:
    """All rows once in batches of about equally long texts, always the same: for prediction.

    Args:
        lengths: (N,) text lengths.
        batch_size: pairs in a batch.
        rank, world_size: this process among others; each takes every `world_size`-th batch, and where there would be
            fewer batches than processes they are smaller, so that each has one as long as there are rows.
    """

    def __init__(self, lengths: Integers, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        order = np.argsort(lengths, kind="stable")
        batch_size = min(batch_size, max(1, len(order) // world_size))
        batches = [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]
        self._batches: list[list[int]] = batches[rank::world_size]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)


@dataclass(frozen=True)
class Batch:
    """A batch and where it comes from: `rows` are the row numbers of `pairs`.

    Attributes:
        counts: pairs of each process of the training in this step. Where a process has none its batch holds a single
            pair, which only stands in so that the process can take part.
    """

    rows: list[int]
    pairs: PairBatch
    counts: tuple[int, ...] = ()


class BatchLoader:
    """Batches of a source in the order of a sampler, which is asked when the first batch is taken."""

    def __init__(self, source: BatchSource, batches: OrderedSampler) -> None:
        self._source = source
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        for rows in self._batches:
            yield Batch(rows, self._source.collate(rows))


class TrainingLoader:
    """The batches of training, this process's share of each."""

    def __init__(self, source: BatchSource, sampler: EpochSampler) -> None:
        self._source = source
        self._sampler = sampler

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Batch]:
        for whole in self._sampler.batches():
            own = self._sampler.own(whole)
            counts = shares(len(whole), self._sampler.world_size)
            yield Batch(own, self._source.collate(own or whole[:1]), counts)


def moved(inputs: Tensor | Start, device: torch.device) -> Tensor | Start:
    """The same inputs of a tower on a device."""
    if isinstance(inputs, Tensor):
        return inputs.to(device)
    tokens = inputs.tokens
    lengths = None if tokens.lengths is None else tokens.lengths.to(device)
    return Start(replace(tokens, x=tokens.x.to(device), lengths=lengths), inputs.layer)


def to_device(pairs: PairBatch, device: torch.device) -> PairBatch:
    """The same batch on a device."""
    targets = None if pairs.targets is None else pairs.targets.to(device)
    keys = None if pairs.keys is None else Keys(pairs.keys.image.to(device), pairs.keys.text.to(device))
    return PairBatch(moved(pairs.images, device), moved(pairs.texts, device), targets, keys)

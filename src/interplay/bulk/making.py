"""Partitions, made one after the other: decoded in advance, encoded by batches, written when the last row is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from interplay.bulk.decoding import Decoded, Decoder, Job, decode_all
from interplay.bulk.encoder import Encoded, Encoder
from interplay.bulk.items import Item
from interplay.bulk.plan import Partition
from interplay.embeddings import KEYS, VECTORS, Array, Manifest, Record, write_partition
from interplay.encoding.embedding import BATCH
from interplay.gallery.items import identity_of
from interplay.towers.tokens import Side


@dataclass(frozen=True)
class Making:
    """How partitions are made.

    Attributes:
        folder: where they go.
        encoder: what encodes.
        manifest: of the folder.
        workers: processes that decode.
    """

    folder: Path
    encoder: Encoder
    manifest: Manifest
    workers: int

    def run(self, partitions: Iterable[Partition]) -> Iterator[Record]:
        """Make partitions; yields the record of each as soon as it is written."""
        backbone = self.encoder.retriever.backbone
        open_ones: dict[int, _Open] = {}
        decoder = Decoder(backbone.square, self.manifest.sides)
        pinned = backbone.device.type == "cuda"
        for done in decode_all(self._jobs(partitions, open_ones), decoder, self.workers, pinned=pinned):
            waiting = open_ones[done.job.number]
            waiting.take(done, self.encoder)
            if waiting.whole:
                del open_ones[done.job.number]
                yield waiting.write(self.folder, self.encoder)

    def _jobs(self, partitions: Iterable[Partition], open_ones: dict[int, _Open]) -> Iterator[Job]:
        """Jobs of all partitions; each partition is opened when its first job is asked for."""
        for partition in partitions:
            items = partition.read()
            open_ones[partition.number] = _Open(partition, items, self.manifest)
            for first in range(0, len(items), BATCH):
                yield Job(partition.number, first, items[first : first + BATCH])


@dataclass
class _Open:
    """A partition whose rows are coming in."""

    partition: Partition
    items: Sequence[Item]
    manifest: Manifest
    arrays: dict[str, Array] = field(init=False)
    columns: dict[str, list[Any]] = field(init=False)
    versions: dict[str, str] = field(default_factory=dict)
    come: int = 0

    def __post_init__(self) -> None:
        rows = len(self.items)
        self.arrays = {
            kind: np.zeros((rows, self.manifest.joint), dtype=self.manifest.dtype)
            for kind in self.manifest.kept
        }
        self.columns = {
            "key": [item.key for item in self.items],
            "image_path": [item.image_path for item in self.items],
            "stamp": [item.stamp for item in self.items],
        }
        for name in ("image_error", "text_error", "caption", "metadata"):
            self.columns[name] = [None] * rows
        for side in self.manifest.sides:
            for name in ("sha256", "route", "version"):
                self.columns[f"{side}_{name}"] = [None] * rows

    @property
    def whole(self) -> bool:
        """Whether all rows have come."""
        return self.come == len(self.items)

    def take(self, done: Decoded, encoder: Encoder) -> None:
        """Rows that were decoded: their pictures are encoded, their texts are kept for the end."""
        first, count = done.job.first, len(done.job.items)
        for at, words in enumerate(done.words, start=first):
            self.columns["caption"][at] = words.text
            self.columns["text_error"][at] = words.error
            self.columns["metadata"][at] = words.metadata
        if "image" in self.manifest.sides:
            self.columns["image_error"][first : first + count] = done.errors
            self.columns["image_sha256"][first : first + count] = done.contents
            good = [at for at, error in enumerate(done.errors) if error is None]
            if good:
                found = encoder.images(done.pixels if len(good) == count else done.pixels[good])
                self._keep("image", [first + at for at in good], found, encoder)
        self.come += count

    def write(self, folder: Path, encoder: Encoder) -> Record:
        """Encode the texts, and write the partition."""
        texts, errors = self.columns["caption"], self.columns["text_error"]
        if "text" in self.manifest.sides:
            rows = [at for at, error in enumerate(errors) if error is None]
            for at in rows:
                self.columns["text_sha256"][at] = identity_of("text", texts[at])
            if rows:
                self._keep("text", rows, encoder.texts([texts[at] for at in rows]), encoder)
        unreadable = sum(any(both) for both in zip(self.columns["image_error"], errors, strict=True))
        record = Record(self.partition.number, self.partition.input, len(self.items), unreadable)
        return write_partition(folder, record, self.columns, self.arrays)

    def _keep(self, side: Side, rows: list[int], found: Encoded, encoder: Encoder) -> None:
        """Vectors and routes of some rows."""
        self.arrays[VECTORS[side]][rows] = found.vectors
        if KEYS[side] in self.arrays and found.keys is not None:
            self.arrays[KEYS[side]][rows] = found.keys
        for route in {*found.routes} - {*self.versions}:
            self.versions[route] = encoder.retriever.version_of(route)
        for row, route in zip(rows, found.routes, strict=True):
            self.columns[f"{side}_route"][row] = route
            self.columns[f"{side}_version"][row] = self.versions[route]

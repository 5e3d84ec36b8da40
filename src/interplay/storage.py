"""Blocks of bytes by key, in files that are only appended to: what the caches of pictures and of tokens share."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

_RECORD = struct.Struct("<32sIII")  # key, first unit of the block, further units, CRC-32 of the block


class Storage:
    """Blocks that are found by the 32 bytes of a digest, in shards of which each is a file of blocks and an index.

    A block is appended and flushed to disk before the record that points to it is written, and both carry checksums,
    so a process that is killed at any moment leaves at worst some unused space: what is read is right, or counts as
    absent and can be appended again. Read through memory maps; several processes may read and write at once.

    Args:
        folder: of the shards; it is made.
        kind: what the blocks are, the suffix of their files.
        unit: bytes of which every block holds a whole number, so that a half one at the end of a file is known.
        shard_bytes: a shard is full where another block would make it larger; one block fits into any.
        max_bytes: bound on all shards, for which the oldest are given up before a new one is begun; default: none.
        lock: the file by which writers wait for one another; by default `lock` in the folder.

    Raises:
        OSError: here and in every method: the folder cannot be read or written (a full disk).
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        unit: int,
        shard_bytes: int,
        max_bytes: float = math.inf,
        lock: Path | None = None,
    ) -> None:
        self._folder, self._kind, self._unit = folder, kind, unit
        self._shard_bytes, self._max_bytes = shard_bytes, max_bytes
        self._lock = lock or folder / "lock"
        self._shards: dict[int, _Shard] = {}
        self._place: dict[bytes, tuple[int, int, int, int]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.refresh()

    def __len__(self) -> int:
        """The number of blocks that this process knows to be kept."""
        return len(self._place)

    def __contains__(self, key: bytes) -> bool:
        return key in self._place

    def get(self, key: bytes) -> memoryview | None:
        """A block, not copied; None when it is absent or damaged."""
        if key not in self._place:
            return None
        number, start, end, checksum = self._place[key]
        block = self._shards[number].read(start, end)
        if block is None or zlib.crc32(block) != checksum:
            del self._place[key]
            return None
        return block

    def refresh(self) -> None:
        """Take in what this or another process has written since the last time, and forget shards that are gone."""
        present = {int(path.stem) for path in self._folder.glob("*.index")}
        for number in self._shards.keys() - present:
            del self._shards[number]
            self._place = {key: place for key, place in self._place.items() if place[0] != number}
        for number in sorted(present):
            for key, first, further, checksum in self._shard(number).index.new():
                start, end = first * self._unit, (first + 1 + further) * self._unit
                self._place[key] = (number, start, end, checksum)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the writers' lock, knowing what all others have written."""
        with filelock.FileLock(self._lock):
            self.refresh()
            yield

    def append(self, blocks: Mapping[bytes, bytes]) -> None:
        """Keep blocks, those that are there already left out. The caller is `writing`."""
        number = max(self._shards, default=0)
        used = self._shard(number).size()
        pending: dict[bytes, bytes] = {}
        for key, block in blocks.items():
            if key in self._place:
                continue
            if used and used + len(block) > self._shard_bytes:
                self._shard(number).append(pending)
                self._make_room()
                number, pending = number + 1, {}
                used = self._shard(number).size()
            pending[key] = block
            used += len(block)
        self._shard(number).append(pending)
        self.refresh()

    def _shard(self, number: int) -> _Shard:
        if number not in self._shards:
            self._shards[number] = _Shard(self._folder / f"{number:06d}", self._kind, self._unit)
        return self._shards[number]

    def _make_room(self) -> None:
        """Give up the oldest shards until a full new one fits under the bound."""
        kept = [self._shards[number] for number in sorted(self._shards)]
        while kept and sum(shard.size() for shard in kept) + self._shard_bytes > self._max_bytes:
            kept.pop(0).remove()


class Log:
    """A file of checked records of one size, only appended to; half and damaged ones are passed over.

    Args:
        path: of the file, which need not be there yet.
        layout: of a record.
    """

    def __init__(self, path: Path, layout: struct.Struct) -> None:
        self.path = path
        self._layout = layout
        self._checked = struct.Struct(f"<{layout.size}sI")
        self._seen = 0

    def new(self) -> Iterator[tuple[Any, ...]]:
        """The records that were written since the last call."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._seen)
                data = file.read()
        except FileNotFoundError:
            return
        whole = len(data) - len(data) % self._checked.size
        self._seen += whole
        for record, checksum in self._checked.iter_unpack(data[:whole]):
            if zlib.crc32(record) == checksum:
                yield self._layout.unpack(record)

    def append(self, records: Sequence[tuple[object, ...]]) -> None:
        """Write records after the last whole one. The caller holds the writers' lock."""
        packed = [self._layout.pack(*record) for record in records]
        data = b"".join(self._checked.pack(record, zlib.crc32(record)) for record in packed)
        _write_at_whole(self.path, data, self._checked.size)


class _Shard:
    """A file of blocks, and the log that says which block lies where."""

    def __init__(self, stem: Path, kind: str, unit: int) -> None:
        self.index = Log(stem.with_suffix(".index"), _RECORD)
        self._path = stem.with_suffix(f".{kind}")
        self._unit = unit
        self._map = memoryview(b"")

    def size(self) -> int:
        """The bytes of the whole units in the file."""
        return self._path.stat().st_size // self._unit * self._unit if self._path.exists() else 0

    def read(self, start: int, end: int) -> memoryview | None:
        """The bytes from `start` to `end`, not copied; None when the file does not reach so far."""
        if len(self._map) < end:
            if self.size() < end:
                return None
            with open(self._path, "rb") as file:
                self._map = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return self._map[start:end]

    def append(self, blocks: Mapping[bytes, bytes]) -> None:
        """Write blocks, wait until the disk has them, then write their records."""
        first = _write_at_whole(self._path, b"".join(blocks.values()), self._unit) // self._unit
        records = []
        for key, block in blocks.items():
            units = len(block) // self._unit
            records.append((key, first, units - 1, zlib.crc32(block)))
            first += units
        self.index.append(records)

    def remove(self) -> None:
        """Delete the files: the blocks first, so that a kill in between leaves no uncounted space."""
        self._path.unlink(missing_ok=True)
        self.index.path.unlink(missing_ok=True)


def _write_at_whole(path: Path, data: bytes, record: int) -> int:
    """Write `data` over the half record at the end of a file, if any, and flush it to disk.

    Returns:
        The position at which it was written, a multiple of `record` bytes.
    """
    if not data:
        return 0
    with open(path, "r+b" if path.exists() else "w+b") as file:
        start = file.seek(0, os.SEEK_END) // record * record
        file.seek(start)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return start

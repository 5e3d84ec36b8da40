"""Pictures that were decoded and resized once, kept as bytes on disk and read through memory maps."""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import numpy.typing as npt

from interplay.data.images import decode, read_bytes
from interplay.data.paths import cache_folder
from interplay.data.schema import PairTable
from interplay.errors import InterplayError
from interplay.towers.preprocessing import Square, to_square

_LAYOUT = "v1"  # counts up when the files or the resizing change
_SHARDS = 8  # a full cache gives up one part in so many at a time
_LARGEST_SHARD = 256 * 2**20
_SLOT = struct.Struct("<32sQI")  # digest of the original bytes, slot, CRC-32 of the pixels
_ALIAS = struct.Struct("<32s32s")  # digest of (path, size, time of change), digest of the original bytes


class ImageCache:
    """Decoded and resized pictures as uint8, shared by runs and processes.

    Content-addressed: a picture is found by the SHA-256 of its original bytes, so a changed file is never
    taken for the old one. A file given by its path is read again only when its size or time of change differ.

    Pixels are appended to a shard and flushed to disk before the record that points to them is written, and
    both carry checksums, so a process that is killed at any moment leaves at worst some unused space: what is
    read is right, or counts as absent and is decoded again. Several processes may read and write at once.
    When `max_bytes` are reached the oldest shard is given up.

    Args:
        folder: where the cache lies; by default `images/` in the program's cache folder.
        square: how pictures are cut to the square, or only its edge in pixels; default 224.
        max_bytes: the bound on the pixels kept for this square, default 20 GB; at least two pictures.

    Raises:
        InterplayError: `max_bytes` is too small, or the folder cannot be written.
    """

    def __init__(
        self, folder: str | Path | None = None, square: Square | int = 224, max_bytes: int = 20 * 10**9
    ) -> None:
        self.square = Square(square) if isinstance(square, int) else square
        self.size = size = self.square.size
        self.max_bytes = max_bytes
        self._bytes = 3 * size * size
        if max_bytes < 2 * self._bytes:
            raise InterplayError(
                f"An image cache of {max_bytes} bytes cannot hold two pictures of {self._bytes} bytes."
            )
        self._capacity = max(1, min(_LARGEST_SHARD, max_bytes // _SHARDS) // self._bytes)
        self.folder = (
            Path(folder) if folder else cache_folder() / "images"
        ) / f"{self.square.label}-{_LAYOUT}"
        self._shards: dict[int, _Shard] = {}
        self._place: dict[bytes, tuple[int, int, int]] = {}
        self._alias: dict[bytes, bytes] = {}
        self._aliases = _Log(self.folder / "paths", _ALIAS)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._refresh()
        except OSError as problem:
            raise self._broken(problem) from None

    def __len__(self) -> int:
        """The number of pictures that this process knows to be kept."""
        return len(self._place)

    def get_many(self, table: PairTable, rows: Sequence[int]) -> npt.NDArray[np.uint8]:
        """The pictures of some rows of a table; those that are not kept yet are decoded and kept.

        Args:
            table: image-text pairs.
            rows: n row numbers, repeats allowed.

        Returns:
            uint8, (n, 3, size, size).

        Raises:
            InterplayError: a picture cannot be read, or the cache cannot be written (a full disk).
        """
        sources = table.sources(rows)
        places = [table.where(row) for row in rows]
        out = np.empty((len(rows), 3, self.size, self.size), dtype=np.uint8)
        try:
            originals: dict[int, bytes] = {}
            digests: list[bytes] = []
            aliases: list[tuple[bytes, bytes]] = []
            for position, source in enumerate(sources):
                alias = _alias_of(source)
                digest = self._alias.get(alias) if alias else None
                if digest is None:
                    originals[position] = read_bytes(source, places[position])
                    digest = hashlib.sha256(originals[position]).digest()
                    if alias:
                        aliases.append((alias, digest))
                digests.append(digest)
            if any(digest not in self._place for digest in digests):
                self._refresh()
            fresh: dict[bytes, npt.NDArray[np.uint8]] = {}
            for position, digest in enumerate(digests):
                if digest not in fresh and not self._read(digest, out[position]):
                    original = originals.get(position) or read_bytes(sources[position], places[position])
                    fresh[digest] = to_square(decode(original, places[position]), self.square)
                if digest in fresh:
                    out[position] = fresh[digest]
            if fresh or aliases:
                self._keep(fresh, aliases)
        except OSError as problem:
            raise self._broken(problem) from None
        return out

    def _read(self, digest: bytes, out: npt.NDArray[np.uint8]) -> bool:
        """Copies a kept picture into `out` (3, size, size); False when it is absent or damaged."""
        if digest not in self._place:
            return False
        shard, slot, checksum = self._place[digest]
        pixels = self._shards[shard].pixels(slot)
        if pixels is None or zlib.crc32(pixels) != checksum:
            del self._place[digest]
            return False
        out[:] = np.frombuffer(pixels, dtype=np.uint8).reshape(out.shape)
        return True

    def _refresh(self) -> None:
        """Takes in what this or another process has written since the last time, and forgets lost shards."""
        present = {int(path.stem) for path in self.folder.glob("*.index")}
        for number in self._shards.keys() - present:
            del self._shards[number]
            self._place = {digest: place for digest, place in self._place.items() if place[0] != number}
        for number in sorted(present):
            shard = self._shards.setdefault(number, _Shard(self.folder, number, self._bytes))
            for digest, slot, checksum in shard.index.new():
                self._place[digest] = (number, slot, checksum)
        self._alias.update(self._aliases.new())

    def _keep(self, pictures: dict[bytes, npt.NDArray[np.uint8]], aliases: list[tuple[bytes, bytes]]) -> None:
        """Appends pictures and path records under the writers' lock."""
        with filelock.FileLock(self.folder / "lock"):
            self._refresh()
            wanted = [(digest, pixels) for digest, pixels in pictures.items() if digest not in self._place]
            number = max(self._shards, default=0)
            while wanted:
                shard = self._shards.get(number) or _Shard(self.folder, number, self._bytes)
                free = self._capacity - shard.slots()
                if free > 0:
                    shard.append(wanted[:free])
                    wanted = wanted[free:]
                    self._refresh()
                else:
                    self._make_room()
                    number += 1
            self._aliases.append(aliases)
            self._refresh()

    def _make_room(self) -> None:
        """Gives up the oldest shards until a full new one fits under the bound."""
        kept = [self._shards[number] for number in sorted(self._shards)]
        while kept and (sum(shard.slots() for shard in kept) + self._capacity) * self._bytes > self.max_bytes:
            kept.pop(0).remove()
        self._refresh()

    def _broken(self, problem: OSError) -> InterplayError:
        return InterplayError(
            f"The image cache in {self.folder} cannot be used ({problem.strerror or problem}). Free "
            "some space, or set INTERPLAY_CACHE to a folder on another disk."
        )


def _alias_of(source: dict[str, object]) -> bytes | None:
    """A digest of a file's path, size and time of change; None for bytes, or when there is no such file."""
    path = source.get("path")
    if source.get("bytes") is not None or not isinstance(path, str):
        return None
    try:
        state = os.stat(path)
    except OSError:
        return None
    return hashlib.sha256(f"{os.path.abspath(path)}\0{state.st_size}\0{state.st_mtime_ns}".encode()).digest()


class _Log:
    """A file of checked records of one size, only appended to; half and damaged ones are passed over."""

    def __init__(self, path: Path, layout: struct.Struct) -> None:
        self.path = path
        self._layout = layout
        self._record = layout.size + 4
        self._seen = 0

    def new(self) -> Iterator[tuple[Any, ...]]:
        """The records that were written since the last call."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._seen)
                data = file.read()
        except FileNotFoundError:
            return
        whole = len(data) - len(data) % self._record
        self._seen += whole
        for start in range(0, whole, self._record):
            body, check = (
                data[start : start + self._record - 4],
                data[start + self._record - 4 : start + self._record],
            )
            if zlib.crc32(body) == int.from_bytes(check, "little"):
                yield self._layout.unpack(body)

    def append(self, records: Sequence[tuple[object, ...]]) -> None:
        """Writes records after the last whole one. The caller holds the writers' lock."""
        bodies = [self._layout.pack(*record) for record in records]
        data = b"".join(body + zlib.crc32(body).to_bytes(4, "little") for body in bodies)
        _write_at_whole(self.path, data, self._record)


class _Shard:
    """A file of pictures of one size, and the log that says which picture lies in which slot."""

    def __init__(self, folder: Path, number: int, picture: int) -> None:
        self.index = _Log(folder / f"{number:06d}.index", _SLOT)
        self._path = folder / f"{number:06d}.pixels"
        self._picture = picture
        self._map: mmap.mmap | None = None

    def slots(self) -> int:
        """How many whole pictures the file holds."""
        return self._path.stat().st_size // self._picture if self._path.exists() else 0

    def pixels(self, slot: int) -> memoryview | None:
        """The bytes of one slot, not copied; None when the file does not reach so far."""
        end = (slot + 1) * self._picture
        if self._map is None or len(self._map) < end:
            if self.slots() <= slot:
                return None
            with open(self._path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return memoryview(self._map)[end - self._picture : end]

    def append(self, pictures: Sequence[tuple[bytes, npt.NDArray[np.uint8]]]) -> None:
        """Writes pictures, waits until the disk has them, then writes their records."""
        blocks = [pixels.tobytes() for _, pixels in pictures]
        first = _write_at_whole(self._path, b"".join(blocks), self._picture) // self._picture
        slots = range(first, first + len(blocks))
        digests = [digest for digest, _ in pictures]
        self.index.append(list(zip(digests, slots, map(zlib.crc32, blocks), strict=True)))

    def remove(self) -> None:
        """Deletes the files: the pixels first, so that a kill in between leaves no uncounted space."""
        self._path.unlink(missing_ok=True)
        self.index.path.unlink(missing_ok=True)


def _write_at_whole(path: Path, data: bytes, record: int) -> int:
    """Writes `data` over the half record at the end of a file, if any, and flushes it to disk.

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

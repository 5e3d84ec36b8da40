"""Pictures that were decoded and resized once, kept as bytes on disk and read through memory maps."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from interplay.data.images import decode, read_bytes
from interplay.data.paths import cache_folder
from interplay.data.schema import PairTable
from interplay.errors import InterplayError
from interplay.storage import Log, Storage
from interplay.towers.preprocessing import Square, to_square

_LAYOUT = "v1"  # counts up when the files or the resizing change
_SHARDS = 8  # a full cache gives up one of this number of parts at a time
_LARGEST_SHARD = 256 * 2**20
_ALIAS = struct.Struct("<32s32s")  # digest of (path, size, time of change), digest of the original bytes


class ImageCache:
    """Decoded and resized pictures as uint8, shared by runs and processes.

    Content-addressed: a picture is found by the SHA-256 of its original bytes, so a changed file is never
    taken for the old one. A file given by its path is read again only when its size or time of change differ.

    They lie in a `Storage`: what is read is right, or counts as absent and is decoded again, and several processes may
    read and write at once. When `max_bytes` are reached the oldest shard is given up.

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
        self._given = folder, square, max_bytes
        self.square = Square(square) if isinstance(square, int) else square
        self.size = size = self.square.size
        picture = 3 * size * size
        if max_bytes < 2 * picture:
            raise InterplayError(
                f"An image cache of {max_bytes} bytes cannot hold two pictures of {picture} bytes."
            )
        shard = max(1, min(_LARGEST_SHARD, max_bytes // _SHARDS) // picture) * picture
        self.folder = (
            Path(folder) if folder else cache_folder() / "images"
        ) / f"{self.square.label}-{_LAYOUT}"
        self._alias: dict[bytes, bytes] = {}
        self._aliases = Log(self.folder / "paths", _ALIAS)
        try:
            self._storage = Storage(self.folder, "pixels", picture, shard_bytes=shard, max_bytes=max_bytes)
            self._refresh()
        except OSError as problem:
            raise self._broken(problem) from None

    def __reduce__(self) -> tuple[type[ImageCache], tuple[object, ...]]:
        """In another process it is opened anew."""
        return type(self), self._given

    def __len__(self) -> int:
        """The number of pictures that this process knows to be kept."""
        return len(self._storage)

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
            if any(digest not in self._storage for digest in digests):
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
        pixels = self._storage.get(digest)
        if pixels is None:
            return False
        out[:] = np.frombuffer(pixels, dtype=np.uint8).reshape(out.shape)
        return True

    def _refresh(self) -> None:
        """Takes in what this or another process has written since the last time."""
        self._storage.refresh()
        self._alias.update(self._aliases.new())

    def _keep(self, pictures: dict[bytes, npt.NDArray[np.uint8]], aliases: list[tuple[bytes, bytes]]) -> None:
        """Appends pictures and path records under the writers' lock."""
        with self._storage.writing():
            self._storage.append({digest: pixels.tobytes() for digest, pixels in pictures.items()})
            self._aliases.append(aliases)
        self._alias.update(self._aliases.new())

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

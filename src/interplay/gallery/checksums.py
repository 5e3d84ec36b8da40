"""Checksums of a Milvus Lite folder's data files: a flipped byte is told before it is searched by.

Milvus Lite writes its data files once and keeps no checksum of them. They are written down beside the files when a
gallery is closed, and compared and taken away when it is opened: what was killed leaves none, and is not compared.
Nor is what something else has changed since, which the manifest shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from interplay.files import crc32, write_text

_FILE = "checksums.json"
_MANIFEST = "manifest.json"


class Checksums:
    """The data files of one collection, each with its CRC-32.

    Args:
        folder: of the collection.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[tuple[int, int], int]] = {}

    def take(self) -> str | None:
        """Compare the files with their checksums and take these away; the name of the first that differs."""
        try:
            kept = json.loads((self._folder / _FILE).read_text(encoding="utf-8"))
            if kept[_MANIFEST] != crc32(self._folder / _MANIFEST):
                kept = {}
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            kept = {}
        for name, path in self._files():
            if name in kept:
                found = crc32(path)
                if found != kept[name]:
                    return path.name
                self._known[name] = _stamp(path), found
        (self._folder / _FILE).unlink(missing_ok=True)
        return None

    def leave(self) -> None:
        """Write the checksums down; only files that are new are read for it."""
        sums = {}
        for name, path in self._files():
            stamp, found = self._known.get(name, (None, 0))
            sums[name] = found if stamp == _stamp(path) else crc32(path)
        if sums:
            sums[_MANIFEST] = crc32(self._folder / _MANIFEST)
            write_text(self._folder / _FILE, json.dumps(sums, indent=1) + "\n")

    def _files(self) -> Iterator[tuple[str, Path]]:
        for path in sorted(self._folder.glob("partitions/*/*/*.parquet")):
            yield path.relative_to(self._folder).as_posix(), path


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when another file takes a name."""
    about = path.stat()
    return about.st_ino, about.st_mtime_ns

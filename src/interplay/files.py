"""Files that are either whole or not there: temporary file, fsync, rename."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from interplay.errors import InterplayError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place; a kill leaves the old file whole.

    Raises:
        InterplayError: the file cannot be written (a full disk, no permission); the old file is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise InterplayError(
            f"Could not write {path}: {error.strerror or error}. What was there before is intact; make room or "
            "choose another folder."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write)

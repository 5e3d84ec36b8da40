"""Files that are either whole or not there: temporary file, fsync, rename."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from interplay.errors import InterplayError

_TEMPORARY = re.compile(r"\.(.+)\.\d+\.tmp")


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


def leftovers(folder: Path, names: Collection[str] | None = None) -> list[Path]:
    """What writers that were killed left half written in a folder; nobody may write there now.

    Args:
        names: of the files that they wrote; None: of any.
    """
    if not folder.is_dir():
        return []
    found = ((path, _TEMPORARY.fullmatch(path.name)) for path in folder.iterdir())
    return [path for path, match in found if match and (names is None or match[1] in names)]


def delete(path: Path) -> None:
    """Delete a file, or a folder with all that is in it; nothing happens where there is none.

    Raises:
        InterplayError: it cannot be deleted.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InterplayError(f"Could not delete {path}: {error.strerror or error}.") from error

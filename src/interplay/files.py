"""Files that are either whole or not there: temporary file, fsync, rename."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import yaml

from interplay.errors import InterplayError

_CHUNK = 2**20
_TEMPORARY = re.compile(r"\.(.+)\.\d+\.tmp")


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place; a kill leaves the old file whole.

    Raises:
        InterplayError: the file cannot be written (a full disk, no permission); the old file is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode  # the user's own; safetensors would make it 0600
        write(temporary)
        temporary.chmod(stat.S_IMODE(mode))
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
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def parsed_json(text: str, what: str) -> Any:
    """A JSON document.

    Args:
        what: what it is, for messages.

    Raises:
        InterplayError: it is none, or nested deeper than any that is meant.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:  # numbers of thousands of digits are a ValueError too
        reason = "it is nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise InterplayError(f"{what} is damaged or no JSON ({reason}).") from None


def read_json(path: Path) -> Any:
    """The JSON document in a file.

    Raises:
        InterplayError: it cannot be read, or is none.
    """
    return parsed_json(read_text(path), str(path))


def parsed_yaml(text: str, what: str, loader: Any = yaml.SafeLoader) -> Any:
    """A YAML document; arguments and errors as `parsed_json`."""
    try:
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError) as problem:  # a thirteenth month is a ValueError
        reason = problem.problem if isinstance(problem, yaml.MarkedYAMLError) else type(problem).__name__
        raise InterplayError(f"{what} cannot be read as YAML ({reason}).") from None


def read_yaml(path: Path, loader: Any = yaml.SafeLoader) -> Any:
    """The YAML document in a file; errors as `read_json`."""
    return parsed_yaml(read_text(path), str(path), loader)


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        InterplayError: it cannot be read, is no regular file, or is no UTF-8.
    """
    if path.exists() and not path.is_file():
        raise InterplayError(f"{path} is no file that could be read.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as problem:
        raise InterplayError(f"{path} cannot be read ({problem.strerror or problem}).") from None
    except UnicodeDecodeError:
        raise InterplayError(f"{path} cannot be read: it is no UTF-8 text; save it as UTF-8.") from None


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically.

    Raises:
        InterplayError: as `write_atomically`; a character that UTF-8 cannot hold.
    """

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    try:
        write_atomically(path, write)
    except UnicodeEncodeError as error:
        wrong = text[error.start : error.end]
        raise InterplayError(f"Could not write {path}: it would hold {wrong!a}, which is no UTF-8.") from None


def crc32(path: Path) -> int:
    """The CRC-32 of what a file holds; raises `OSError` where it cannot be read."""
    found = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found = zlib.crc32(chunk, found)
    return found


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

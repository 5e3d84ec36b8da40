"""Where a command writes: checked before anything is loaded, and nothing of the user's is replaced unasked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from interplay.errors import InterplayError


def new_file(
    option: str, place: str, suffixes: Sequence[str], *, overwrite: bool = False, read: str | None = None
) -> Path:
    """A file that a command is to write.

    Args:
        option: what names it, as `--out`.
        place: what was given.
        suffixes: how its name may end.
        overwrite: whether a file that is there may be replaced.
        read: a file that the command reads; it is never replaced.

    Raises:
        InterplayError: another ending; a folder; a file that is there, or that is read.
    """
    path = Path(place)
    if path.suffix not in suffixes:
        raise InterplayError(f"{option} writes {' or '.join(suffixes)}, not '{place}'.")
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise InterplayError(f"{option}: '{place}' is no file that could be written.")
    if read is not None and path.exists() and Path(read).exists() and path.samefile(read):
        raise InterplayError(f"{option}: '{place}' is what is read: choose another name.")
    if path.exists() and not overwrite:
        raise InterplayError(
            f"{option}: '{place}' is there already: choose another name, or replace it with --overwrite."
        )
    return path


def out_folder(place: str, option: str = "--out") -> Path:
    """A folder that a command is to write into; it need not be there.

    Raises:
        InterplayError: no name, or something else than a folder.
    """
    if not place.strip():
        raise InterplayError(f"{option} is empty: name the folder that is to be written.")
    path = Path(place)
    if path.is_symlink() and not path.exists():
        raise InterplayError(f"{option}: '{place}' is a link that leads nowhere.")
    if path.exists() and not path.is_dir():
        raise InterplayError(f"{option}: '{place}' is no folder.")
    return path

"""One writer at a time in the folder of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from interplay.errors import InterplayError
from interplay.ranks import rank

LOCK = ".lock"
"""The lock's file, there while somebody writes; a kill leaves an empty one behind, which is free again."""


@contextlib.contextmanager
def writing(folder: Path, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a folder for writing; it is made where it is not there.

    Readers need no lock, since every file is replaced in one step. Within a thread the lock may be taken again. The
    further processes of a distributed training write nothing, so they hold nothing.

    Args:
        folder: of a run.
        waiting: as in `holding`.

    Raises:
        InterplayError: another writer holds the folder; it cannot be written into.
    """
    if rank():
        yield
        return
    with holding(folder, waiting):
        yield


@contextlib.contextmanager
def holding(folder: Path, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """What `writing` does where no training can be distributed, so that nothing of Lightning is imported.

    Args:
        folder: to hold; it is made where it is not there.
        waiting: where another process or thread holds the folder, it is told so in a sentence, and then this waits;
            None: refuse.

    Raises:
        InterplayError: another writer holds the folder; it cannot be written into.
    """
    place = folder.resolve()
    made = [one for one in (place, *place.parents) if not one.exists()]
    lock = _taken(place, waiting)
    try:
        yield
    finally:
        if lock.lock_counter == 1:
            with contextlib.suppress(OSError):  # Windows deletes no open file
                (place / LOCK).unlink()
        lock.release()
        with contextlib.suppress(OSError):  # a folder that was made here and is in use now stays
            for one in made:
                one.rmdir()


def _taken(place: Path, waiting: Callable[[str], None] | None) -> filelock.BaseFileLock:
    """The lock of a folder, held."""
    lock = filelock.FileLock(place / LOCK, is_singleton=True)
    try:
        place.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            held = f"Another process writes into {place.name} now"
            if waiting is None:
                raise InterplayError(
                    f"{held} ({place}): wait until it has ended, or choose another folder."
                ) from None
            waiting(f"{held}: waiting until it has ended.")
            lock.acquire()
    except OSError as error:
        raise InterplayError(f"Could not write into {place}: {error.strerror or error}.") from error
    return lock

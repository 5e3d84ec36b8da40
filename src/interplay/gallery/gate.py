"""Reads and the dropping of a collection, kept apart within one process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Gate:
    """Many may read at a time; what is done alone waits until all have read, and lets nobody in meanwhile.

    A thread that reads may read further inside; one that works alone may read.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers: dict[int, int] = {}
        self._alone: int | None = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Read, beside others who do."""
        me = threading.get_ident()
        with self._changed:
            while self._alone not in (None, me) and me not in self._readers:
                self._changed.wait()
            self._readers[me] = self._readers.get(me, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._readers[me] -= 1
                if not self._readers[me]:
                    del self._readers[me]
                self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Work with nobody reading."""
        me = threading.get_ident()
        with self._changed:
            while self._alone is not None:
                self._changed.wait()
            self._alone = me
            while self._readers:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._alone = None
                self._changed.notify_all()

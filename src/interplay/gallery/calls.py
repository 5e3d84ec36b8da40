"""Calls to Milvus: what goes wrong becomes one sentence, and what Milvus would log by itself stays away."""

from __future__ import annotations

import contextlib
import logging
import os
import textwrap
import threading
from collections.abc import Iterator

from interplay.errors import InterplayError

# gRPC writes to stderr, past Python, when a server closes a connection; what matters of it arrives as an exception.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

_REASON = 200  # characters of what Milvus says that are shown


class _Quiet:
    """Milvus's loggers say nothing while at least one thread is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._levels: list[tuple[logging.Logger, int]] = []

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                loggers = [logging.getLogger(name) for name in ("pymilvus", "milvus_lite", "grpc")]
                self._levels = [(logger, logger.level) for logger in loggers]
                for logger in loggers:
                    logger.setLevel(logging.CRITICAL)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for logger, level in self._levels:
                    logger.setLevel(level)


_QUIET = _Quiet()


@contextlib.contextmanager
def calling(place: str, action: str, hint: str = "") -> Iterator[None]:
    """One call to Milvus.

    Args:
        place: where it is, as it may be shown.
        action: what was tried, as in 'Milvus at … cannot ACTION'.
        hint: a further sentence.

    Raises:
        InterplayError: Milvus refused, failed, or does not answer.
    """
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        with _QUIET:
            yield
    except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError, OSError, ValueError) as problem:
        raise InterplayError(f"Milvus at {place} cannot {action}: {_reason(problem)}.{hint}") from None


def _reason(problem: Exception) -> str:
    """What Milvus or gRPC says, in one short line."""
    import grpc

    if isinstance(problem, grpc.Call):
        said = f"{problem.code().name.lower().replace('_', ' ')} ({problem.details()})"
    else:
        said = str(getattr(problem, "message", "") or problem or type(problem).__name__)
    line = " ".join(said.split()).rstrip(".")
    return textwrap.shorten(line, _REASON, placeholder="…") if len(line) > _REASON else line

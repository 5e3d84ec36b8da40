"""A Ray cluster, connected to while something runs on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from interplay.errors import InterplayError


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module `ray`, connected to a cluster; disconnected at the end.

    Args:
        address: `auto`, `local`, `HOST:PORT` or `ray://HOST:PORT`.

    Raises:
        InterplayError: the package ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ImportError:
        raise InterplayError("A Ray cluster needs the package ray: pip install ray.") from None
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", ignore_reinit_error=True)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as problem:
        raise InterplayError(
            f"No Ray cluster answers at '{address}' ({str(problem).strip().splitlines()[0][:200]}): start one by "
            "'ray start --head', or leave --ray away."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()

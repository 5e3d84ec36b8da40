"""Whether a service can answer: it is tried."""

from __future__ import annotations

import asyncio
import time

from interplay.errors import InterplayError
from interplay.service.core import Service
from interplay.service.faults import Stopping

_FRESH = 1.0
"""Seconds for which one trial answers, so that asking often costs nothing."""
_PATIENCE = 10.0
"""Seconds after which a trial that has not come back has failed."""


class Readiness:
    """Tries a service, at most once a second.

    Args:
        service: to be tried.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._tried = -_FRESH
        self._problem = ""
        self._trying = asyncio.Lock()

    async def check(self) -> None:
        """Refuse while the service cannot answer.

        Raises:
            Stopping: it cannot.
        """
        async with self._trying:
            if time.monotonic() - self._tried >= _FRESH:
                self._problem = await self._try()
                self._tried = time.monotonic()
        if self._problem:
            raise Stopping(f"The service cannot answer: {self._problem}")

    async def _try(self) -> str:
        try:
            await asyncio.wait_for(self._service.probe(), _PATIENCE)
        except TimeoutError:
            return f"a probe was not encoded within {_PATIENCE:g} s."
        except (InterplayError, RuntimeError, OSError) as problem:  # what a broken device raises
            return str(problem)
        return ""

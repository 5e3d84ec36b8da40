"""Jobs of many requests, computed together: what waits while one batch runs is the next one."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from interplay.service.faults import Busy, Stopping

Job = TypeVar("Job")
Answer = TypeVar("Answer")
Work = Callable[[Sequence[Job]], Sequence[Answer]]


@dataclass(frozen=True)
class _Waiting(Generic[Job, Answer]):
    job: Job
    answer: asyncio.Future[Answer]


class Batcher(Generic[Job, Answer]):
    """Collects jobs and hands them to one thread, a batch at a time.

    A job that finds the thread free starts at once; all that arrive while a batch runs make up the next one. So one
    request alone waits for nobody, and the batches grow with the load. Where a batch fails, its jobs are computed one
    by one, and only those fail that do so alone.

    Args:
        work: from jobs to their answers, in order; runs in the thread.
        thread: that computes.
        most: jobs in a batch.
        room: jobs that may wait.

    Attributes:
        observe: told the size of every batch and its seconds.
    """

    def __init__(
        self,
        work: Work[Job, Answer],
        thread: ThreadPoolExecutor,
        *,
        most: int,
        room: int,
    ) -> None:
        self._work, self._thread = work, thread
        self._most, self._room = most, room
        self.observe: Callable[[int, float], None] = lambda size, seconds: None
        self._waiting: deque[_Waiting[Job, Answer]] = deque()
        self._pace = 0.01  # seconds a job, as of late
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    def check_room(self, count: int) -> None:
        """Refuse what would find no room now, before anything is done for it.

        Raises:
            Busy: there is less room than that.
            Stopping: the service ends.
        """
        if self._closed:
            raise Stopping("The service is stopping: ask again later.")
        if len(self._waiting) + count > self._room:
            seconds = math.ceil(self._pace * len(self._waiting)) or 1
            raise Busy(f"{len(self._waiting)} items wait already: ask again in {seconds} s.", seconds)

    async def submit(self, jobs: Sequence[Job]) -> list[Answer]:
        """The answers to some jobs, in order; all are taken or none.

        Raises:
            Busy: there is no room for them.
            Stopping: the service ends.
            Exception: what `work` raised on the first of them that failed.
        """
        self.check_room(len(jobs))
        loop = asyncio.get_running_loop()
        asked = [_Waiting[Job, Answer](job, loop.create_future()) for job in jobs]
        self._waiting.extend(asked)
        if self._running is None:
            self._running = loop.create_task(self._run())
        try:
            done = await asyncio.gather(*(one.answer for one in asked), return_exceptions=True)
        except asyncio.CancelledError:  # who asked has gone: what has not begun is not computed
            for one in asked:
                one.answer.cancel()
            raise
        for answer in done:
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in done if not isinstance(answer, BaseException)]

    async def close(self) -> None:
        """Take no more jobs, and end those that were taken."""
        self._closed = True
        while self._running is not None:
            await asyncio.shield(self._running)

    async def _run(self) -> None:
        try:
            while batch := self._next():
                await self._compute(batch)
        finally:
            self._running = None

    def _next(self) -> list[_Waiting[Job, Answer]]:
        batch: list[_Waiting[Job, Answer]] = []
        while self._waiting and len(batch) < self._most:
            one = self._waiting.popleft()
            if not one.answer.done():
                batch.append(one)
        return batch

    async def _compute(self, batch: Sequence[_Waiting[Job, Answer]]) -> None:
        loop, begun = asyncio.get_running_loop(), time.monotonic()
        try:
            answers = await loop.run_in_executor(self._thread, self._work, [one.job for one in batch])
        except Exception as problem:  # whatever it is belongs to one of the jobs, and must not end the others
            if len(batch) == 1:
                self._fail(batch[0], problem)
                return
            for one in batch:
                await self._compute([one])
            return
        seconds = time.monotonic() - begun
        self._pace = 0.9 * self._pace + 0.1 * seconds / len(batch)
        self.observe(len(batch), seconds)
        for one, answer in zip(batch, answers, strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)

    @staticmethod
    def _fail(one: _Waiting[Job, Answer], problem: Exception) -> None:
        if not one.answer.done():
            one.answer.set_exception(problem)

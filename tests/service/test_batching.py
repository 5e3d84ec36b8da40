"""The batcher alone: order, room, failures, the end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from interplay.service.batching import Batcher
from interplay.service.faults import Busy, Stopping

from .conftest import PAIR, Serve


def doubled(jobs: Sequence[int]) -> list[int]:
    if 13 in jobs:
        raise ValueError("13")
    return [2 * job for job in jobs]


def played(play: Callable[[ThreadPoolExecutor], Coroutine[Any, Any, None]]) -> None:
    with ThreadPoolExecutor(1) as thread:
        asyncio.run(play(thread))


def test_many_requests_get_their_own_answers_in_batches() -> None:
    async def play(thread: ThreadPoolExecutor) -> None:
        batcher = Batcher(doubled, thread, most=8, room=1000)
        sizes: list[int] = []
        batcher.observe = lambda size, seconds: sizes.append(size)
        asked = [[i, i + 1, i + 2] for i in range(14, 114)]
        found = await asyncio.gather(*(batcher.submit(jobs) for jobs in asked))
        assert found == [[2 * job for job in jobs] for jobs in asked]
        assert (sum(sizes), max(sizes)) == (300, 8)
        assert len(sizes) < 60

    played(play)


def test_a_job_that_fails_takes_no_other_with_it() -> None:
    async def play(thread: ThreadPoolExecutor) -> None:
        batcher = Batcher(doubled, thread, most=8, room=100)
        found = await asyncio.gather(*(batcher.submit([i]) for i in range(10, 16)), return_exceptions=True)
        assert [str(one) for one in found] == ["[20]", "[22]", "[24]", "13", "[28]", "[30]"]
        assert await batcher.submit([1]) == [2]

    played(play)


def test_what_finds_no_room_is_told_when_to_come_again_and_nothing_of_it_is_computed() -> None:
    async def play(thread: ThreadPoolExecutor) -> None:
        go, seen = threading.Event(), []

        def slow(jobs: Sequence[int]) -> list[int]:
            seen.extend(jobs)
            go.wait(10)
            return list(jobs)

        batcher = Batcher(slow, thread, most=1, room=4)
        first = asyncio.create_task(batcher.submit([0]))
        await asyncio.sleep(0.05)
        rest = asyncio.create_task(batcher.submit([1, 2, 3]))
        await asyncio.sleep(0)
        with pytest.raises(Busy) as refused:
            await batcher.submit([4, 5])
        assert refused.value.seconds >= 1
        assert refused.value.status == 429
        gone = asyncio.create_task(batcher.submit([6]))
        await asyncio.sleep(0)
        gone.cancel()
        go.set()
        assert await first == [0]
        assert await rest == [1, 2, 3]
        await batcher.close()
        assert seen == [0, 1, 2, 3]  # neither what was refused nor what nobody waits for any more
        with pytest.raises(Stopping):
            await batcher.submit([7])

    played(play)


def test_a_full_service_answers_429_with_retry_after(serve: Serve) -> None:
    with serve(most_items=2, most_waiting=4) as client:
        held = threading.Event()
        client.service._computing.submit(held.wait, 20)  # the one thread that computes is held
        body = {"model": "first", "pairs": [PAIR, PAIR]}
        with ThreadPoolExecutor(4) as clients:
            taken = [clients.submit(client.post, "/v1/classify", json=body) for _ in range(3)]
            deadline = time.monotonic() + 10
            while client.service.batcher.waiting < 4 and time.monotonic() < deadline:
                time.sleep(0.01)
            refused = client.post("/v1/classify", json=body)
            assert client.get("/healthz").text == "ok"  # the event loop is free
            held.set()
            statuses = sorted(one.result().status_code for one in taken)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert statuses == [200, 200, 200]


def test_who_asks_too_often_is_told_so(serve: Serve) -> None:
    with serve(rate="3/minute") as client:
        statuses = [client.get("/v1/models").status_code for _ in range(5)]
        assert client.get("/healthz").status_code == 200
        again = client.get("/v1/models").headers["retry-after"]
    assert statuses == [200, 200, 200, 429, 429]
    assert 1 <= int(again) <= 60

"""Killed at any moment and called again, a job ends with the bytes of one that was not."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from interplay import read_embeddings
from tests.forking import Runs

from .child import SIZE, work, work_with_a_worker
from .toy import contents, make_folder

COUNT = 62


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    server = Runs("tests.embed.child")
    yield server
    server.server.communicate()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("photos"), COUNT)


def kills(runs: Runs, photos: Path, count: int, folder: Path) -> None:
    """Kill several jobs at random moments from beginning to end, each once, and let each end then."""
    seconds = runs.finish(photos, folder / "whole")
    expected = contents(folder / "whole")
    assert len(read_embeddings(folder / "whole").records) == -(-COUNT // SIZE)
    moments, killed, halfway = random.Random(count), 0, 0
    for i in range(count):
        out = folder / str(i)
        killed += runs.kill_after((i + moments.random()) / count * seconds, photos, out)
        halfway += (
            0 < len(list(out.glob("partitions/*.json"))) < len(read_embeddings(folder / "whole").records)
        )
        runs.finish(photos, out)
        assert contents(out) == expected
    assert killed > count // 2
    assert halfway


def test_three_kills(runs: Runs, photos: Path, tmp_path: Path) -> None:
    kills(runs, photos, 3, tmp_path)


@pytest.mark.slow
def test_ten_kills(runs: Runs, photos: Path, tmp_path: Path) -> None:
    kills(runs, photos, 10, tmp_path)


def children(process: int) -> set[int]:
    """The processes that one has started."""
    return {*map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())}


def alive(processes: set[int]) -> set[int]:
    """Those that have not ended."""
    return {process for process in processes if Path(f"/proc/{process}").exists()}


@pytest.mark.slow
def test_a_job_with_a_worker_is_killed_and_its_worker_ends(photos: Path, tmp_path: Path) -> None:
    work(photos, tmp_path / "whole")
    process = multiprocessing.get_context("spawn").Process(
        target=work_with_a_worker, args=(photos, tmp_path / "out")
    )
    process.start()
    while not list((tmp_path / "out").glob("partitions/*.json")):
        time.sleep(0.01)
    assert process.pid is not None
    workers = children(process.pid)
    assert workers
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    work_with_a_worker(photos, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    deadline = time.monotonic() + 30
    while alive(workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(workers)

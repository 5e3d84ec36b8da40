"""What is killed is made again and comes to the same; of two who write one run at once, neither undoes the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.harness import Bench, kills, pairs
from tests.forking import Runs


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Runs, Runs]]:
    both = Runs("tests.cli.child"), Runs("tests.cli.child")
    yield both
    for one in both:
        one.server.communicate()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_kills(bench: Bench, servers: tuple[Runs, Runs], tmp_path: Path) -> None:
    died = kills(bench, 18, servers[0])
    assert sum(died.values()) > 9


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_pairs_of_writers(bench: Bench, servers: tuple[Runs, Runs]) -> None:
    pairs(bench, 8, servers)

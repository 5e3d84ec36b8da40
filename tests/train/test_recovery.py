"""A run that is killed at any moment goes on as if nothing had happened."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from interplay.training.checkpoints import read_checkpoint
from interplay.training.report import BEST, LAST
from tests.forking import Runs


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    server = Runs("tests.train.child")
    yield server
    server.server.communicate()


def check(run: Path, expected: dict[str, torch.Tensor]) -> None:
    """The weights and the record of epochs are those of an undisturbed run."""
    found = torch.load(run / "weights.pt", weights_only=True)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    epochs = [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3, 4, 5, 6]


def kills(runs: Runs, count: int, folder: Path) -> None:
    """Kill several runs at random moments from beginning to end, each once, and let each end then."""
    seconds = runs.finish(folder / "whole", folder / "another cache")
    expected = torch.load(folder / "whole" / "weights.pt", weights_only=True)
    cache, killed = folder / "cache", 0
    moments = random.Random(count)
    for i in range(count):
        run = folder / str(i)
        killed += runs.kill_after((i + moments.random()) / count * seconds, run, cache)
        for name in (LAST, BEST):
            if (run / name).exists():
                read_checkpoint(run / name)
        if (run / "metrics.jsonl").exists():
            [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        runs.finish(run, cache)
        check(run, expected)
    assert killed > count // 2


def test_three_kills(runs: Runs, tmp_path: Path) -> None:
    kills(runs, 3, tmp_path)


@pytest.mark.slow
def test_ten_kills(runs: Runs, tmp_path: Path) -> None:
    kills(runs, 10, tmp_path)

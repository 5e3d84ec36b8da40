"""Every option of every command, given every value that nobody means."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from interplay.cli.command import commands
from interplay.cli.commands import demo, demo_retrieval

from .commands import broken, options, right, values_for
from .conftest import World
from .judge import Tally
from .values import places

FEW, MANY = 127, 3
"""Every so manyth value is tried in `make test` and in `make test-all`; both are prime."""


@pytest.mark.parametrize("every", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("command", commands())
def test_every_option(
    command: str, every: int, world: World, tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "DATA", "gone.csv")  # demos of some other folder than a file stop there
    monkeypatch.setattr(demo_retrieval, "DATA", "gone.csv")
    files = places(tmp_path / "places")
    at = 0
    for option in options(command):
        if option.hint is bool:
            continue
        for value in values_for(option, files):
            at += 1
            if at % every:
                continue
            out = tmp_path / "out"
            words = broken(right(world, out, command), option, value)
            tally.command([*command.split(), *words], new=out)
            shutil.rmtree(out, ignore_errors=True)
    tally.check()

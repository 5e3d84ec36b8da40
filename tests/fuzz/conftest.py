"""A small world to break: data, two trained runs and a gallery; and the count of what was tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from interplay.cli import main
from tests.cli.conftest import SMALL, write_stream, write_toy

from .judge import Tally


@dataclass(frozen=True)
class World:
    """Where everything is; none of it is to be changed.

    Attributes:
        folder: of all.
        toy: labelled pairs, a CSV file beside its pictures.
        run: a classifier trained on them.
        stream: pairs of three tasks.
        retriever: a run of a stream, with a gallery.
        picture: a PNG file.
    """

    folder: Path
    toy: Path
    run: Path
    stream: Path
    retriever: Path
    picture: Path


@pytest.fixture(scope="session", autouse=True)
def _quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One thread, caches of its own, and the bundled backbone read once."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTERPLAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    toy, stream = write_toy(folder / "toy"), write_stream(folder / "stream")
    train = ["train", "--data", toy, "--out", folder / "run", "--epochs", 1, "--no-progress"]
    _done([*train, "--method", "mitp", "--head", "kind=pair", "--set", "hidden=8"])
    _done(["continual", "--method", "lpi-p", "--data", stream, "--out", folder / "retriever", *SMALL])
    _done(["index", folder / "retriever", "--images", folder / "stream", "--no-progress"])
    return World(folder, toy, folder / "run", stream, folder / "retriever", folder / "toy" / "0.png")


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    """A folder with the picture `0.png`."""
    (tmp_path / "0.png").write_bytes(world.picture.read_bytes())
    return tmp_path


def _done(words: list[Any]) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """What one test tried; its counts go into the report at the end."""
    found = Tally()
    yield found
    request.node.user_properties.append(("fuzz", dict(found.counts)))

"""Toy data of coloured squares, and the command line called in-process."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from interplay.cli import main

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 180, 30)}
Run = Callable[..., "Outcome"]


class Outcome:
    """What a call of the command line left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        """All of stdout, which must be one JSON document."""
        return json.loads(self.out)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small work is quickest on one
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTERPLAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line."""

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return call


def write_toy(folder: Path, rows: int = 24, labels: bool = True) -> Path:
    """`pairs.csv` beside its pictures: is the square of the colour that the text says?"""
    names = list(COLOURS)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "text", *(["label", "split"] if labels else [])])
        for i in range(rows):
            colour, word = names[i % 3], names[(i // 3) % 3]
            Image.new("RGB", (12, 12), COLOURS[colour]).save(folder / f"{i}.png")
            split = ("train", "train", "validation", "test")[(i * 7 // 3) % 4]
            label = "same" if word == colour else "other"
            writer.writerow([f"{i}.png", f"a {word} square", *([label, split] if labels else [])])
    return folder / "pairs.csv"


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled pairs."""
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs without labels."""
    return write_toy(tmp_path_factory.mktemp("unlabelled"), rows=5, labels=False)


@pytest.fixture(scope="session")
def trained(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of MITP, trained for one epoch."""
    folder = tmp_path_factory.mktemp("runs") / "mitp"
    words = [
        "train",
        "--data",
        toy,
        "--out",
        folder,
        "--epochs",
        1,
        "--head",
        "kind=pair",
        "--set",
        "hidden=8",
    ]
    assert main([str(word) for word in [*words, "--no-progress"]]) == 0
    return folder

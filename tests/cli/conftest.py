"""Toy data of coloured squares, and the command line called in-process."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

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


SMALL = ("--set", "depth=2", "length=2", "rank=2", "centres=2", "--epochs", 1, "--no-progress")
"""Options of a stream that is learned in no time."""
TASKS = ("squares", "circles", "stripes")


def drawn(task: str, colour: tuple[int, int, int], seed: int) -> Image.Image:
    """A coloured shape of one task; the seed moves it by a few pixels."""
    picture = Image.new("RGB", (24, 24), "white")
    pen = ImageDraw.Draw(picture)
    x = 2 + seed % 5
    if task == "squares":
        pen.rectangle((x, x, x + 12, x + 12), fill=colour)
    elif task == "circles":
        pen.ellipse((x, x, x + 14, x + 14), fill=colour)
    else:
        for y in range(x, 24, 5):
            pen.line((0, y, 24, y), fill=colour, width=2)
    return picture


def write_stream(folder: Path, tasks: Sequence[str] = TASKS) -> Path:
    """`stream.csv` beside its pictures: for each task six pairs to train, three to validate, three to test."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "stream.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "text", "task", "split"])
        for task in tasks:
            for i in range(12):
                colour = list(COLOURS)[i % 3]
                drawn(task, COLOURS[colour], i).save(folder / f"{task}-{i}.png")
                split = ("train", "train", "validation", "test")[i // 3]
                writer.writerow([f"{task}-{i}.png", f"{colour} {task} {i}", task, split])
    return folder / "stream.csv"


@pytest.fixture(scope="session")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tasks."""
    return write_stream(tmp_path_factory.mktemp("stream"))


@pytest.fixture(scope="session")
def learned(stream: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of LPI-P after the three tasks; not to be changed."""
    folder = tmp_path_factory.mktemp("streams") / "lpi"
    words = ["continual", "--method", "lpi-p", "--data", stream, "--out", folder, *SMALL]
    assert main([str(word) for word in words]) == 0
    return folder


@pytest.fixture
def copied(learned: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(learned, tmp_path / "lpi"))


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
        "--method",
        "mitp",
        "--epochs",
        1,
        "--head",
        "kind=pair",
        "--set",
        "hidden=8",
    ]
    assert main([str(word) for word in [*words, "--no-progress"]]) == 0
    return folder

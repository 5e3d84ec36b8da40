"""What was trained, searched or measured goes when nobody holds it: a process can learn for ever."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from interplay.classification.classifier import Classifier
from interplay.errors import InterplayError
from interplay.retrieval.continual import run_stream
from interplay.retrieval.retriever import Retriever
from interplay.towers.backbone import Backbone
from tests.lpi.toy import QUICK, SMALL, pairs, stream
from tests.train.toy import toy_backbone

LEARNS = """
import contextlib, io, sys
from pathlib import Path
from interplay.cli import main
from interplay.profiling.memory import resident
from tests.cli.conftest import SMALL, write_stream

def call(*words):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert main([str(word) for word in words]) == 0

folder = Path(sys.argv[1])
data = write_stream(folder / "data")
call("continual", "--method", "lpi-p", "--data", data, "--out", folder / "run", *SMALL)
for number in range(int(sys.argv[2])):
    call("forget", folder / "run", "--task", "stripes")
    call("learn", folder / "run", "--task", "stripes", "--data", data)
    print(resident("VmRSS"))
"""


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    """Nothing is freed but what nobody holds; what imports leave behind (pyparsing, its frames) is not ours."""
    importlib.import_module("interplay.training.train")
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def learn(backbone: Backbone, _: Path) -> None:
    settings = replace(QUICK, progress=True, loggers=("csv", "tensorboard"))
    Retriever(backbone, "lpi-p", settings=SMALL).learn("task 0", pairs(0), settings=settings)


def fail(backbone: Backbone, _: Path) -> None:
    settings = replace(QUICK, epochs=2, learning_rate=1e30)
    with pytest.raises(InterplayError):
        Retriever(backbone, "lpi-p", settings=SMALL).learn("task 0", pairs(0), settings=settings)


def measure(backbone: Backbone, folder: Path) -> None:
    run_stream(Retriever(backbone, "lpi-m", settings=SMALL), stream(2), folder / "run", settings=QUICK)


def search(backbone: Backbone, folder: Path) -> None:
    retriever = Retriever(backbone, "lpi-m", settings=SMALL)
    with retriever.index(texts=["cat", "dog"], uri=folder / "gallery.db", progress=False) as gallery:
        gallery.search("cat", 1, find="text")


def classify(backbone: Backbone, folder: Path) -> None:
    from tests.cli.conftest import write_toy

    settings = replace(QUICK, loggers=("csv",))
    Classifier(backbone, "p_clip").fit(str(write_toy(folder / "toy")), settings=settings, run=folder / "run")


@pytest.mark.parametrize("work", [learn, fail, measure, search, classify])
def test_nothing_is_held_afterwards(work: Callable[[Backbone, Path], None], tmp_path: Path) -> None:
    def once() -> weakref.ref[Backbone]:
        backbone = toy_backbone()
        work(backbone, tmp_path)
        return weakref.ref(backbone)

    assert once()() is None


@pytest.mark.slow
def test_fifty_learns_take_no_more_than_ten(tmp_path: Path) -> None:
    words = [sys.executable, "-W", "ignore", "-c", LEARNS, str(tmp_path), "50"]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    sizes = [float(line) for line in done.stdout.splitlines()]
    assert len(sizes) == 50
    assert sizes[-1] < 1.05 * sizes[9], sizes

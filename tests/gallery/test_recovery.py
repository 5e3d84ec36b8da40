"""Filling and refreshing a gallery can be killed at any moment."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from interplay.gallery_items import identity_of
from tests.gallery.child import TEXTS
from tests.gallery.fake import Fake, content_of, make_pictures, snapshot, vector

ROOT = Path(__file__).parents[2]


class Runs:
    """Starts runs in processes of their own (`child.py`)."""

    def __init__(self, pictures: Path) -> None:
        self.pictures = pictures
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.gallery.child"],
            cwd=ROOT,
            # Milvus Lite writes data files and merges them all the time
            env=os.environ
            | {
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": str(ROOT / "src"),
                "MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES": "4000",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.line() == "ready"

    def line(self) -> str:
        """The next line that the server prints."""
        assert self.server.stdout is not None
        return self.server.stdout.readline().strip()

    def start(self, folder: Path) -> int:
        """The id of the process that fills the gallery in `folder`."""
        assert self.server.stdin is not None
        places = [str(folder / "gallery.db"), str(self.pictures), str(folder / "reports")]
        self.server.stdin.write(json.dumps(places) + "\n")
        self.server.stdin.flush()
        return int(self.line())

    def finish(self, folder: Path) -> float:
        """Fill to the end; how many seconds that took."""
        began = time.monotonic()
        self.start(folder)
        assert self.line() == "0"
        return time.monotonic() - began


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    pictures = tmp_path_factory.mktemp("pictures")
    make_pictures(pictures, 40)
    server = Runs(pictures)
    yield server
    server.server.communicate()


def check_killed(folder: Path, pictures: Path) -> None:
    """What a kill left: everything that was reported, nothing twice, and every entry in itself right."""
    reports = folder / "reports"
    reported = int(reports.read_text().split()[-1]) if reports.exists() and reports.read_text() else 0
    entries = snapshot(Fake(), folder / "gallery.db")
    paths = [pictures / f"p{number}.png" for number in range(reported)]
    wanted = [identity_of("image", path.read_bytes()) for path in paths]
    wanted += [identity_of("text", text) for text in TEXTS[:reported]]
    assert not set(wanted) - entries.keys()
    for side, source, route, version, _key, embedding, _metadata in entries.values():
        expected = vector(content_of(side, source), route, version)
        np.testing.assert_array_equal(np.frombuffer(embedding, np.float32), expected)


def kills(runs: Runs, count: int, folder: Path) -> None:
    """Kill so many runs at random moments from beginning to end, each once, and let each end then."""
    (folder / "whole").mkdir()
    seconds = runs.finish(folder / "whole")
    expected = snapshot(Fake(), folder / "whole" / "gallery.db")
    assert len(expected) == 80
    assert {(route, version) for _, _, route, version, *_ in expected.values()} == {
        ("even", "1"),
        ("odd", "2"),
    }
    moments, killed = random.Random(count), 0
    for i in range(count):
        run = folder / str(i)
        run.mkdir()
        process = runs.start(run)
        time.sleep((i + moments.random()) / count * seconds)
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.kill(process, signal.SIGKILL)
        killed += runs.line() == str(-signal.SIGKILL)
        check_killed(run, runs.pictures)
        runs.finish(run)
        assert snapshot(Fake(), run / "gallery.db") == expected
    assert killed > count // 2


def test_three_kills(runs: Runs, tmp_path: Path) -> None:
    kills(runs, 3, tmp_path)


@pytest.mark.slow
def test_twenty_kills(runs: Runs, tmp_path: Path) -> None:
    kills(runs, 20, tmp_path)

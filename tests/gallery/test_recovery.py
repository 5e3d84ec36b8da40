"""Filling and refreshing a gallery can be killed at any moment."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from interplay.gallery.items import identity_of
from tests.forking import Runs
from tests.gallery.child import TEXTS
from tests.gallery.fake import Fake, content_of, make_pictures, snapshot, vector


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    # Milvus Lite writes data files and merges them all the time
    server = Runs("tests.gallery.child", MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES="4000")
    yield server
    server.server.communicate()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    make_pictures(folder, 40)
    return folder


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


def kills(runs: Runs, pictures: Path, count: int, folder: Path) -> None:
    """Kill several runs at random moments from beginning to end, each once, and let each end then."""

    def places(run: Path) -> tuple[Path, Path, Path]:
        return run / "gallery.db", pictures, run / "reports"

    (folder / "whole").mkdir()
    seconds = runs.finish(*places(folder / "whole"))
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
        killed += runs.kill_after((i + moments.random()) / count * seconds, *places(run))
        check_killed(run, pictures)
        runs.finish(*places(run))
        assert snapshot(Fake(), run / "gallery.db") == expected
    assert killed > count // 2


def test_three_kills(runs: Runs, pictures: Path, tmp_path: Path) -> None:
    kills(runs, pictures, 3, tmp_path)


@pytest.mark.slow
def test_twenty_kills(runs: Runs, pictures: Path, tmp_path: Path) -> None:
    kills(runs, pictures, 20, tmp_path)

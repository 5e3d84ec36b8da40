"""Two who write one run: the second waits for the first and builds on what it did, or is refused in a sentence."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from interplay.artifacts import read_header
from interplay.locks import writing
from interplay.retrieval.retriever import Retriever
from tests.cli.conftest import SMALL, Run, write_stream
from tests.cli.test_bad_input import said


@contextmanager
def held(folder: Path, until: threading.Event, then: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Another thread holds a folder until something happens, does something, and lets go."""
    holds = threading.Event()

    def hold() -> None:
        with writing(folder):
            holds.set()
            until.wait(60)
            then()

    thread = threading.Thread(target=hold)
    thread.start()
    assert holds.wait(60)
    try:
        yield
    finally:
        until.set()
        thread.join()


def test_a_second_training_in_one_folder_is_refused(
    run: Run, toy: Path, stream: Path, learned: Path, copied: Path, tmp_path: Path
) -> None:
    out, busy = tmp_path / "run", "Another process writes into"
    train = ["train", "--data", toy, "--out", out, "--epochs", 1, "--no-progress"]
    continual = ["continual", "--method", "lpi-p", "--data", stream, "--out"]
    with held(out, threading.Event()):
        assert busy in said(run, *train)
        assert busy in said(run, *train, "--resume")
        assert busy in said(run, *continual, out, *SMALL)
        assert {path.name for path in out.iterdir()} == {".lock"}
    assert not out.exists()
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    with held(copied, threading.Event()):
        assert busy in said(run, *continual, copied, *SMALL, "--resume")
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("command", ["learn", "forget"])
def test_a_second_change_waits_and_builds_on_the_first(
    command: str, run: Run, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    waits = threading.Event()

    def note(text: str) -> None:
        told.append(text)
        waits.set()

    def forget() -> None:
        retriever = Retriever.from_pretrained(copied)
        retriever.forget("stripes")
        retriever.save_pretrained(copied)

    monkeypatch.setattr("interplay.cli.runs.note", note)
    words = ["forget", copied, "--task", "circles"]
    if command == "learn":
        data = write_stream(tmp_path / "more", ["dots"])
        words = ["learn", copied, "--task", "dots", "--data", data, "--no-progress"]
    with held(copied, waits, forget):
        done = run(*words)
    assert done.code == 0, done.err
    assert "waiting until it has ended" in told[0]
    known = ["squares", "circles", "dots"] if command == "learn" else ["squares"]
    assert read_header(copied)["sessions"] == known


def test_calibrate_waits(run: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = shutil.copytree(trained, tmp_path / "run")
    waits = threading.Event()
    monkeypatch.setattr("interplay.cli.runs.note", lambda _: waits.set())
    with held(copied, waits):
        run("calibrate", copied)
        assert waits.is_set()

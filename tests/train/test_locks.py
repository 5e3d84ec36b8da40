"""One writer at a time in a folder: across threads and processes, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only

from interplay.errors import InterplayError
from interplay.locks import LOCK, writing

HOLDS = """
import sys, time
from pathlib import Path
from interplay.locks import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds a folder until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_refused_or_waits_and_a_kill_frees(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = holder(run)
    with pytest.raises(InterplayError, match="Another process writes into run now"), writing(run):
        pass
    told: list[str] = []

    def waiting(sentence: str) -> None:
        told.append(sentence)
        os.kill(process.pid, signal.SIGKILL)

    with writing(run, waiting):
        assert process.wait() == -signal.SIGKILL
    assert told == ["Another process writes into run now: waiting until it has ended."]
    process.communicate()


def test_a_thread_is_held_off_and_within_one_the_lock_is_taken_again(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with writing(tmp_path, lambda _: order.append("waits")):
            order.append("second")

    (tmp_path / "link").symlink_to(tmp_path)
    with writing(tmp_path), writing(tmp_path / "."), writing(tmp_path / "link"):
        thread = threading.Thread(target=second)
        thread.start()
        while "waits" not in order:
            time.sleep(0.001)
        order.append("first")
    thread.join()
    assert order == ["waits", "first", "second"]


def test_nothing_is_left_where_nothing_was_written(tmp_path: Path) -> None:
    with writing(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / LOCK).exists()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InterplayError, match="nothing"), writing(tmp_path / "a"):
        raise InterplayError("nothing")
    assert list(tmp_path.iterdir()) == []
    with writing(tmp_path / "a"):
        (tmp_path / "a" / "file").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_a_folder_that_cannot_be_made_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InterplayError, match="Could not write into"), writing(tmp_path / "file" / "run"):
        pass


def test_many_writers_count_without_loss(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")

    def add() -> None:
        for _ in range(20):
            with writing(tmp_path, lambda _: None):
                value = int(count.read_text())
                time.sleep(0.0005)
                count.write_text(str(value + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count.read_text() == "80"


def test_the_further_processes_of_a_distributed_training_hold_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    with writing(tmp_path / "run"):
        assert not (tmp_path / "run").exists()

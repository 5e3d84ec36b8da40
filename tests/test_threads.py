"""Threads: how they wait and how many there are, as far as nobody said so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from interplay.threads import quota, settle


@pytest.mark.parametrize(
    ("content", "cores"),
    [("max 100000", None), ("150000 100000", 1), ("50000 100000", 1), ("400000 100000", 4)],
)
def test_a_quota_is_read_in_whole_cores(tmp_path: Path, content: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(f"{content}\n")
    assert quota(tmp_path) == cores
    old = tmp_path / "old"
    (old / "cpu").mkdir(parents=True)
    allowed, period = content.replace("max", "-1").split()
    (old / "cpu" / "cpu.cfs_quota_us").write_text(f"{allowed}\n")
    (old / "cpu" / "cpu.cfs_period_us").write_text(f"{period}\n")
    assert quota(old) == cores
    assert quota(tmp_path / "elsewhere") is None


def test_a_quota_bounds_the_threads_and_what_a_user_says_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    (tmp_path / "cpu.max").write_text("200000 100000")
    given: dict[str, str] = {}
    settle(given, tmp_path)
    assert given == {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "2"}
    for own in (
        {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "ACTIVE"},
        {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "9"},
    ):
        given = dict(own)
        settle(given, tmp_path)
        assert given == own
    given = {}
    settle(given, tmp_path / "without a quota")
    assert given == {"OMP_WAIT_POLICY": "PASSIVE"}


def test_the_command_line_settles_them_before_torch_is_there() -> None:
    code = (
        "import os, sys; sys.argv = ['interplay', '--version']; from interplay.cli import main; main();"
        "assert 'torch' not in sys.modules; print(os.environ['OMP_WAIT_POLICY'])"
    )
    free = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    shown = subprocess.run([sys.executable, "-c", code], env=free, check=True, capture_output=True, text=True)
    assert shown.stdout.split()[-1] == "PASSIVE"

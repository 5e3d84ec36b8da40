"""Training on several devices: each process runs the whole command, and one of them tells and writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only

from interplay.locks import LOCK
from tests.cli.conftest import Run, write_toy

SCRIPT = """
import sys
from interplay.cli import main
if __name__ == "__main__":
    sys.exit(main())
"""


def on_two(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """`interplay train` on the pairs of `folder/pairs.csv` in two processes on the processor."""
    script = folder / "script.py"  # Lightning starts the same file again
    script.write_text(SCRIPT)
    arguments = ["train", "--data", folder / "pairs.csv", "--accelerator", "cpu", "--devices", 2, *words]
    return subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")
def test_two_processes_write_one_run_and_one_document(tmp_path: Path, run: Run) -> None:
    write_toy(tmp_path)  # a quarter of a batch to validate on
    out = tmp_path / "run"
    done = on_two(tmp_path, "--out", out, "--epochs", 2, "--seeds", 2, "--json")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    told = json.loads(done.stdout)["runs"]
    assert [one["seed"] for one in told] == [0, 1]
    for one in told:
        folder = Path(one["run"])
        assert {"config.yaml", "env.json", "method.safetensors", "metrics.jsonl"} <= set(os.listdir(folder))
        assert not [path for path in folder.rglob("*") if path.name == LOCK or path.suffix == ".tmp"]
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
        found = run("evaluate", folder, "--split", "validation", "--json").json["metrics"]
        assert found == pytest.approx(one["validation"], abs=1e-6)


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")
def test_a_loss_that_is_no_number_is_told_once(tmp_path: Path) -> None:
    write_toy(tmp_path)
    done = on_two(tmp_path, "--out", tmp_path / "run", "--learning-rate", 1e30, "--epochs", 3)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if "interplay: " in line] == done.stderr.splitlines()[
        -1:
    ]
    assert "Traceback" not in done.stderr


def test_a_further_process_tells_and_writes_nothing(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    words = ("--method", "text_probe", "--data", write_toy(tmp_path), "--out", out, "--devices", 2)
    with monkeypatch.context() as further:
        further.setattr(rank_zero_only, "rank", 1)
        found = run("train", *words, "--json")
        assert (found.code, found.out, found.err) == (0, "", "")
        assert not out.exists()
        mistaken = run("train", *words, "--split", "50/50/0", "--test", tmp_path / "none.csv")
        assert (mistaken.code, mistaken.out, mistaken.err) == (2, "", "")
    assert run("train", *words, "--json").json["run"] == str(out)
    assert (out / "config.yaml").exists()


def test_other_commands_have_one_device(tmp_path: Path, run: Run) -> None:
    found = run("compare", "--data", write_toy(tmp_path), "--out", tmp_path / "out", "--devices", 2)
    assert found.code == 2
    assert "interplay compare trains on one device, not on 2" in found.err

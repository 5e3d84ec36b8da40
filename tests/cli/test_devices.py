"""Training on several devices: one process tells and writes, whether the command or a launcher starts the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.fabric.utilities.rank_zero import rank_zero_only

from interplay.locks import LOCK
from tests.cli.conftest import SMALL, TASKS, Run, write_stream, write_toy

SCRIPT = """
import sys
from interplay.cli import main
if __name__ == "__main__":
    sys.exit(main())
"""


PAIR = ("--method", "mitp", "--head", "kind=pair")
two_processors = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")


def command(folder: Path, *words: object, launcher: Sequence[str] = ()) -> list[str]:
    """A call of the command line as a script of its own, which new processes import."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    return [sys.executable, *launcher, str(script), *map(str, words)]


def on_two(folder: Path, name: str, *words: object) -> subprocess.CompletedProcess[str]:
    """A command whose training runs in two processes on the processor."""
    return subprocess.run(
        command(folder, name, "--accelerator", "cpu", "--devices", 2, *words),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@two_processors
@pytest.mark.slow
def test_two_processes_write_one_run_and_one_document(tmp_path: Path, run: Run) -> None:
    write_toy(tmp_path)  # a quarter of a batch to validate on
    out = tmp_path / "run"
    words = (*PAIR, "--data", tmp_path / "pairs.csv", "--epochs", 2)
    done = on_two(tmp_path, "train", *words, "--out", out, "--seeds", 2, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told = json.loads(done.stdout)["runs"]
    assert [one["seed"] for one in told] == [0, 1]
    for one in told:
        folder = Path(one["run"])
        assert {"config.yaml", "env.json", "method.safetensors", "metrics.jsonl"} <= set(os.listdir(folder))
        assert not [path for path in folder.rglob("*") if path.name == LOCK or path.suffix == ".tmp"]
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
        found = run("evaluate", folder, "--split", "validation", "--json").json["metrics"]
        assert found == pytest.approx(one["validation"], abs=1e-6)


@two_processors
@pytest.mark.slow
def test_a_loss_that_is_no_number_is_told_once(tmp_path: Path) -> None:
    write_toy(tmp_path)
    words = (*PAIR, "--data", tmp_path / "pairs.csv", "--learning-rate", 1e30, "--epochs", 3)
    done = on_two(tmp_path, "train", *words, "--out", tmp_path / "run")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if "interplay: " in line] == done.stderr.splitlines()[
        -1:
    ]
    assert "Traceback" not in done.stderr


@two_processors
@pytest.mark.slow
def test_a_stream_on_two_is_one_on_one_and_goes_on_with_it(tmp_path: Path, run: Run) -> None:
    data = write_stream(tmp_path, TASKS[:2])
    words = ("--method", "lpi-p", "--data", data, *SMALL, "--seed", 3)
    done = on_two(tmp_path, "continual", *words, "--batch-size", 2, "--out", tmp_path / "two", "--json")
    assert done.returncode == 0, done.stderr
    alone = run("continual", *words, "--batch-size", 4, "--out", tmp_path / "one", "--json").json
    found = json.loads(done.stdout)
    timed = {"seconds", "run"}
    assert {key: found[key] for key in found.keys() - timed} == {
        key: alone[key] for key in alone.keys() - timed
    }
    for name in os.listdir(tmp_path / "one"):
        assert (tmp_path / "two" / name).exists(), name
    again = run("continual", *words, "--batch-size", 4, "--out", tmp_path / "two", "--resume", "--json")
    assert again.json["order"] == found["order"]
    other = run("continual", *words, "--batch-size", 8, "--out", tmp_path / "two", "--resume")
    assert other.code == 2
    assert "batch_size × devices × num_nodes = 4, now it is 8" in other.err


@two_processors
@pytest.mark.slow
def test_a_launcher_may_start_the_command_on_every_machine(tmp_path: Path) -> None:
    write_toy(tmp_path)
    words = (*PAIR, "--data", tmp_path / "pairs.csv", "--epochs", 2, "--accelerator", "cpu")
    out, port = tmp_path / "run", find_free_network_port()
    nodes = []
    for node in range(2):
        launcher = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        launcher += ["--node-rank", str(node), "--master-addr", "127.0.0.1", "--master-port", str(port)]
        both = command(tmp_path, "train", *words, "--num-nodes", 2, "--out", out, "--json", launcher=launcher)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        nodes.append(
            subprocess.Popen(both, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    told = [node.communicate(timeout=300) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], told
    assert json.loads(told[0][0])["run"] == str(out)
    assert told[1][0] == ""
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2


def test_several_machines_need_a_launcher(tmp_path: Path, run: Run) -> None:
    data = write_toy(tmp_path)
    found = run("train", *PAIR, "--data", data, "--out", tmp_path / "run", "--num-nodes", 2)
    assert found.code == 2
    assert "num_nodes = 2 needs a launcher" in found.err
    assert not (tmp_path / "run").exists()
    found = run("continual", "--data", data, "--out", tmp_path / "run", "--num-nodes", 2)
    assert found.code == 2
    assert "leave --num-nodes and the launcher out" in found.err


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

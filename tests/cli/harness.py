"""Calls of the command line that are killed at any moment, and pairs of calls that write one run at once.

    python -m tests.cli.harness --kills 100 --pairs 20

kills that number of calls spread over the six commands that write, repeats each, and compares the result with that of
an undisturbed one; and starts that number of pairs. It prints what was lost: nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

from interplay.artifacts import read_header
from interplay.cli import main
from tests.cli.conftest import SMALL, write_stream, write_toy
from tests.forking import Runs

QUIET = ("--no-progress",)
TASKS = ("squares", "circles", "stripes")
LATER = ("dots", "lines")
State = dict[str, object]


def said(*words: object) -> str:
    """A call in this process that must succeed; what it prints."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    assert code == 0, (words, err.getvalue())
    return out.getvalue()


def weights(run: Path) -> dict[str, list[float]]:
    """All tensors of a run, as plain values that compare."""
    return {name: value.flatten().tolist() for name, value in load_file(run / "method.safetensors").items()}


def sessions(run: Path) -> list[str]:
    """The tasks that a run knows."""
    return list(read_header(run)["sessions"])


def retriever(run: Path) -> State:
    """What there is to lose in a retriever's run."""
    matrix = run / "matrix.json"
    return {
        "weights": weights(run),
        "sessions": sessions(run),
        "matrix": json.loads(matrix.read_text()) if matrix.exists() else None,
        "checkpoints": [str(path) for path in run.rglob("*.ckpt")],
        "halves": [str(path) for path in run.rglob(".*.tmp")],
    }


def searched(run: Path) -> State:
    """What a gallery answers, to several questions."""
    found = {
        question: json.loads(said("search", run, question, "-k", 50, "--json"))
        for question in ("red squares", "blue circles", "stripes")
    }
    hits = {
        question: sorted(
            (hit["source"].rpartition("/")[2], hit["route"], round(hit["score"], 5)) for hit in one["hits"]
        )
        for question, one in found.items()
    }
    return {"hits": hits, "entries": found["stripes"]["entries"], "sessions": sessions(run)}


@dataclass(frozen=True)
class Writer:
    """A command that writes.

    Attributes:
        start: the folder that it begins with, copied anew each time; None: none.
        words: the call, given the folder.
        again: the same call after a kill; None where there is nothing left to do.
        state: what there is to lose, in an undisturbed folder and in one that was killed and went on.
        between: checks the folder right after a kill.
    """

    start: Path | None
    words: Callable[[Path], list[object]]
    again: Callable[[Path], list[object] | None]
    state: Callable[[Path], State]
    between: Callable[[Path], None] = lambda _: None


@dataclass
class Bench:
    """Runs and data to begin with, below one folder."""

    folder: Path
    writers: dict[str, Writer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.data = write_stream(self.folder / "data", [*TASKS, *LATER])
        whole = self.data.read_text().splitlines()
        self.stream = self.data.with_name("first.csv")
        self.stream.write_text("\n".join(line for line in whole if not any(t in line for t in LATER)) + "\n")
        self.toy = write_toy(self.folder / "toy")
        self.run = self.folder / "run"
        said(*self.continual(self.run))
        self.indexed = self.folder / "indexed"
        shutil.copytree(self.run, self.indexed)
        said("index", self.indexed, "--images", self.data.parent, *QUIET)
        said("forget", self.indexed, "--task", "circles")
        said(*self.learn(self.indexed, "dots"))
        self.writers = self._writers()

    def continual(self, run: Path) -> list[object]:
        return ["continual", "--method", "lpi-p", "--data", self.stream, "--out", run, *SMALL]

    def learn(self, run: Path, task: str) -> list[object]:
        """A call that learns one of the later tasks."""
        return ["learn", run, "--task", task, "--data", self.data, *QUIET]

    def _writers(self) -> dict[str, Writer]:
        train: list[object] = ["train", "--data", self.toy, "--epochs", 4, "--head", "kind=pair", *QUIET]
        train += ["--method", "mitp", "--set", "hidden=8", "--out"]

        def knows(*expected: set[str]) -> Callable[[Path], None]:
            def check(run: Path) -> None:
                assert set(sessions(run)) in expected, sessions(run)

            return check

        old, new = set(TASKS), {*TASKS, "dots"}
        less = old - {"circles"}
        return {
            "train": Writer(
                None,
                lambda run: [*train, run],
                lambda run: [*train, run, "--resume"],
                lambda run: {"weights": weights(run)},
            ),
            "continual": Writer(
                None, self.continual, lambda run: [*self.continual(run), "--resume"], retriever
            ),
            "learn": Writer(
                self.run,
                lambda run: self.learn(run, "dots"),
                lambda run: None if "dots" in sessions(run) else self.learn(run, "dots"),
                lambda run: {key: value for key, value in retriever(run).items() if key != "checkpoints"},
                knows(old, new),
            ),
            "forget": Writer(
                self.run,
                lambda run: ["forget", run, "--task", "circles"],
                lambda run: ["forget", run, "--task", "circles"] if "circles" in sessions(run) else None,
                retriever,
                knows(old, less),
            ),
            "index": Writer(
                self.run,
                lambda run: ["index", run, "--images", self.data.parent, "--batch-size", 8, *QUIET],
                lambda run: ["index", run, "--images", self.data.parent, "--batch-size", 8, *QUIET],
                searched,
            ),
            "refresh": Writer(
                self.indexed,
                lambda run: ["refresh", run, "--batch-size", 8, *QUIET],
                lambda run: ["refresh", run, "--batch-size", 8, *QUIET],
                searched,
            ),
        }

    @contextlib.contextmanager
    def place(self, start: Path | None) -> Iterator[Path]:
        """A fresh copy of a folder."""
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            run = Path(scratch) / "run"
            if start is not None:
                shutil.copytree(start, run)
            yield run


def kills(
    bench: Bench, count: int, server: Runs, tell: Callable[[str], None] = lambda _: None
) -> Counter[str]:
    """Kill `count` calls of every command in turn; returns how many of each died on the way.

    Raises:
        AssertionError: something was lost.
    """
    moments, died = random.Random(count), Counter[str]()
    expected: dict[str, tuple[float, State]] = {}
    for name, writer in bench.writers.items():
        with bench.place(writer.start) as run:
            seconds = server.finish(run.parent / "report", *map(Path, map(str, writer.words(run))))
            assert json.loads((run.parent / "report").read_text())["code"] == 0
            expected[name] = seconds, writer.state(run)
    for at in range(count):
        name = list(bench.writers)[at % len(bench.writers)]
        writer, (seconds, state) = bench.writers[name], expected[name]
        with bench.place(writer.start) as run:
            words = map(Path, map(str, writer.words(run)))
            died[name] += server.kill_after(moments.random() * seconds, run.parent / "report", *words)
            writer.between(run)
            again = writer.again(run)
            if again is not None:
                server.finish(run.parent / "report", *map(Path, map(str, again)))
                told = (run.parent / "report.err").read_text()
                assert json.loads((run.parent / "report").read_text())["code"] == 0, (name, told)
            assert writer.state(run) == state, name
        tell(f"{at + 1} of {count}: {name}, {sum(died.values())} died on the way")
    return died


def pairs(
    bench: Bench, count: int, servers: tuple[Runs, Runs], tell: Callable[[str], None] = lambda _: None
) -> None:
    """Two calls that write one run at once, `count` times; both take effect, or the second is refused.

    Raises:
        AssertionError: something was lost.
    """
    moments = random.Random(count)
    for at in range(count):
        kind = ("learn and learn", "learn and forget", "continual and continual", "train and train")[at % 4]
        train = bench.writers["train"]
        with bench.place(bench.run if "learn" in kind else None) as run:
            calls = {
                "learn and learn": [bench.learn(run, task) for task in LATER],
                "learn and forget": [bench.learn(run, "dots"), ["forget", run, "--task", "squares"]],
                "continual and continual": [[*bench.continual(run), "--resume"]] * 2,
                "train and train": [[*train.words(run), "--seed", seed] for seed in (1, 2)],
            }[kind]
            for number, (server, words) in enumerate(zip(servers, calls, strict=True)):
                server.start(run.parent / f"report{number}", *map(Path, map(str, words)))
                time.sleep(moments.random() * 0.2)
            for server in servers:
                assert server.line() == "0"
            codes = [json.loads((run.parent / f"report{number}").read_text())["code"] for number in (0, 1)]
            told = [(run.parent / f"report{number}.err").read_text() for number in (0, 1)]
            if kind == "learn and learn":
                assert codes == [0, 0], told
                assert set(sessions(run)) == {*TASKS, *LATER}
            elif kind == "learn and forget":
                assert codes == [0, 0], told
                assert set(sessions(run)) == {"circles", "stripes", "dots"}
            else:
                refused = [at for at in (0, 1) if codes[at]]
                if kind == "train and train":
                    assert len(refused) == 1, (codes, told)
                for number in refused:
                    assert codes[number] == 2
                    assert (
                        "nother process writes" in told[number] or "holds a training run" in told[number]
                    ), told
                assert (run / "method.safetensors").exists()
        tell(f"{at + 1} of {count}: {kind}, exit codes {codes}")


def _run() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        servers = (Runs("tests.cli.child"), Runs("tests.cli.child"))
        told = partial(print, flush=True)
        died = kills(bench, options.kills, servers[0], told)
        pairs(bench, options.pairs, servers, told)
        print(f"{options.kills} kills, {sum(died.values())} of them on the way ({dict(died)}): nothing lost.")
        print(f"{options.pairs} pairs of writers: nothing lost.")


if __name__ == "__main__":
    _run()

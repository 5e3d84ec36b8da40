"""What commands cost before they do anything: CPU time (user + system) of the whole process, on one thread.

    python -m benchmarks.footprint

Nothing here is asserted, since times are a machine's own; `tests/test_footprint.py` asserts what is not imported.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from interplay.cli.command import commands

WITHOUT_A_MODEL = 0.5
SEARCH = 3.0
REPEATS = 2


def seconds(code: str, *arguments: str, folder: str = ".", expected: int = 0) -> float:
    """The least CPU seconds of some fresh interpreters that run a line.

    Raises:
        RuntimeError: one ended with another code than was expected.
    """
    taken = []
    for _ in range(REPEATS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != expected:
            raise RuntimeError(f"{code} {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        taken.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(taken)


MAIN = "import sys; from interplay.cli import main; sys.exit(main())"


def row(name: str, spent: float, target: float | None) -> str:
    """One line of the table."""
    verdict = "" if target is None else f"{target:5.1f}   {'met' if spent <= target else 'MISSED'}"
    return f"{name:<56}{spent:6.2f}   {verdict}".rstrip()


def make_run(folder: Path) -> None:
    """A run on `tiny` of a method that trains nothing, and its gallery of eight pictures."""
    random = np.random.default_rng(0)
    lines = ["image,text,task,split"]
    (folder / "photos").mkdir()
    for number in range(8):
        name = f"photos/{number}.png"
        Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / name)
        lines.append(
            f"{name},picture {number},noise,{'train' if number < 4 else 'validation' if number < 6 else 'test'}"
        )
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n", "utf-8")
    for line in (
        "continual --data pairs.csv --method zero_shot --out run",
        "index run --images photos/",
    ):
        subprocess.run(
            [sys.executable, "-c", MAIN, *line.split()], cwd=folder, check=True, capture_output=True
        )


def main() -> None:
    print(f"{'CPU seconds on one thread':<56}{'spent':>6}   target")
    for name in commands():
        print(row(f"interplay {name} --help", seconds(MAIN, *name.split(), "--help"), WITHOUT_A_MODEL))
    for line in ("--help", "--version", "methods", "data list"):
        print(row(f"interplay {line}", seconds(MAIN, *line.split()), WITHOUT_A_MODEL))
    for line in (
        "tarin",
        "train --sead 1",
        "train --epochs many",
        "info --method mipt",
        "search nowhere words",
    ):
        spent = seconds(MAIN, *line.split(), expected=2)
        print(row(f"interplay {line} (refused)", spent, WITHOUT_A_MODEL))
    with tempfile.TemporaryDirectory() as scratch:
        make_run(Path(scratch))
        spent = seconds(MAIN, "search", "run", "a red square", folder=scratch)
        print(row("interplay search run 'a red square' (tiny)", spent, SEARCH))
    for code in (
        "import torch",
        "import interplay; interplay.Classifier",
        "import interplay; interplay.Retriever",
        "import interplay; interplay.load_backbone('tiny')",
    ):
        print(row(code, seconds(code), None))


if __name__ == "__main__":
    main()

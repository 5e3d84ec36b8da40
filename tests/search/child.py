"""A search for the tests that kill it: its trials take a moment each, and end in a value that is known."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interplay.errors import InterplayError
from interplay.ranges import Choice, Range, Real, Whole
from interplay.tuning.search import Contradiction, run_trials
from interplay.tuning.study import Study
from tests.forking import serve

RANGES: dict[str, Range] = {
    "method.layers": Choice(((1, 2), (3,), (4, 5))),
    "method.length": Whole(1, 9),
    "training.learning_rate": Real(1e-4, 1.0, log=True),
}
TRIALS = 8


def toy_value(values: Mapping[str, Any]) -> float:
    """Best at layers (3,), length 5 and a large learning rate; some settings contradict, some diverge."""
    if values["method.layers"] == (4, 5) and values["method.length"] < 3:
        raise Contradiction("The layers (4, 5) need a length of 3.")
    if values["training.learning_rate"] > 0.5:
        raise InterplayError("The loss became nan in epoch 1, step 1.")
    distance = abs(values["method.length"] - 5)
    return float((values["method.layers"] == (3,)) + values["training.learning_rate"] - distance)


def study(folder: Path, seed: int = 0, **course: Any) -> Study:
    return Study(folder, RANGES, course, seed, larger_is_better=True)


def work(folder: Path) -> None:
    """All trials, slow enough to be killed."""

    def slow(values: Mapping[str, Any]) -> float:
        time.sleep(0.03)
        return toy_value(values)

    one = study(folder)
    run_trials(one, slow, 1e9, TRIALS)
    one.close()


if __name__ == "__main__":
    serve(work)

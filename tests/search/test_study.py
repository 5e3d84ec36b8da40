"""The trials of a search: their budget, what is recorded, the same for a seed, and going on after a kill."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from interplay.errors import InterplayError
from interplay.tuning.search import run_trials
from interplay.tuning.study import TRIALS as TRIALS_FILE
from interplay.tuning.study import Study, Trial
from tests.forking import Runs

from .child import RANGES, TRIALS, study, toy_value


class Clock:
    """Seconds that pass when a trial says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def opened() -> Iterator[list[Study]]:
    """Studies to be closed after the test."""
    found: list[Study] = []
    yield found
    for one in found:
        one.close()


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / TRIALS_FILE).read_text("utf-8").splitlines()]


def tried(trials: list[Trial]) -> list[tuple[Any, ...]]:
    """Everything but the seconds."""
    return [(t.number, t.state, t.value, t.reason, json.dumps(t.values)) for t in trials]


def searched(folder: Path, trials: int, seed: int = 0) -> list[Trial]:
    one = study(folder, seed)
    run_trials(one, toy_value, 1e9, trials)
    one.close()
    return one_of(folder)


def one_of(folder: Path) -> list[Trial]:
    return [Trial(**line) for line in lines(folder)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    """A search in one go."""
    return searched(tmp_path_factory.mktemp("whole"), 24)


def test_no_trial_begins_behind_the_budget_and_a_resume_has_what_is_left(
    tmp_path: Path, opened: list[Study]
) -> None:
    clock = Clock()

    def value_of(values: Mapping[str, Any]) -> float:
        clock.now += 40
        return 1.0

    one = study(tmp_path)
    run_trials(one, value_of, 100, clock=clock)
    assert [trial.seconds for trial in one.trials] == [40, 40, 40]  # the third began at 80
    run_trials(one, value_of, 100, clock=clock)
    assert len(one.trials) == 3
    one.close()
    clock.now += 10_000  # what passes between two processes does not count
    again = study(tmp_path)
    opened.append(again)
    run_trials(again, value_of, 130, clock=clock)
    assert len(again.trials) == 4
    run_trials(again, value_of, 1000, trials=6, clock=clock)
    assert len(again.trials) == 6


def test_every_trial_is_a_line_with_its_settings_and_its_end(whole: list[Trial]) -> None:
    assert [trial.number for trial in whole] == list(range(1, 25))
    states = {trial.state for trial in whole}
    assert states == {"complete", "pruned", "failed"}
    for trial in whole:
        assert trial.values.keys() == RANGES.keys()
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in trial.values.items()}
        if trial.state == "complete":
            assert trial.value == toy_value(values)
            continue
        with pytest.raises(InterplayError) as error:
            toy_value(values)
        assert (trial.value, trial.reason) == (None, str(error.value))
        assert trial.state == ("pruned" if "need a length" in trial.reason else "failed")


def test_the_best_is_the_first_of_equals_whichever_way_the_value_goes(
    tmp_path: Path, opened: list[Study]
) -> None:
    for larger, best in ((True, 2), (False, 1)):
        one = Study(tmp_path / str(larger), RANGES, {}, 0, larger_is_better=larger)
        opened.append(one)
        values = iter((0.1, 0.9, float("nan"), 0.9, 0.1))
        run_trials(one, lambda _, values=values: next(values), 1e9, 5)  # type: ignore[misc]
        assert one.best is not None
        assert one.best.number == best
        assert one.trials[2].state == "failed"


def test_the_sampler_learns(whole: list[Trial]) -> None:
    means = [[t.value for t in part if t.value is not None] for part in (whole[:10], whole[10:])]
    first, then = (sum(values) / len(values) for values in means)
    assert then > first + 0.5


def test_a_seed_gives_the_same_trials_in_one_go_and_in_parts(whole: list[Trial], tmp_path: Path) -> None:
    for upto in (4, 13):
        parts = searched(tmp_path / "parts", upto)
    assert tried(parts) == tried(whole[:13])
    assert tried(searched(tmp_path / "other", 2, seed=1)) != tried(whole[:2])


def test_another_search_or_another_process_in_the_folder_is_refused(
    tmp_path: Path, opened: list[Study]
) -> None:
    one = study(tmp_path, data="pairs.csv")
    with pytest.raises(InterplayError, match="Another process searches"):
        study(tmp_path, data="pairs.csv")
    one.close()
    with pytest.raises(InterplayError, match=r"its data was pairs.csv, now it is other.csv"):
        study(tmp_path, data="other.csv")
    opened.append(study(tmp_path, data="pairs.csv"))


def test_trials_without_any_value_end_the_search(
    tmp_path: Path, opened: list[Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interplay.tuning.search._IN_A_ROW", 5)

    def broken(values: Mapping[str, Any]) -> float:
        raise InterplayError("The disk is full.")

    opened.append(study(tmp_path))
    with pytest.raises(InterplayError, match=r"5 trials in a row came to no value.*The disk is full"):
        run_trials(opened[0], broken, 1e9)
    assert len(lines(tmp_path)) == 5


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    server = Runs("tests.search.child")
    yield server
    server.server.communicate()


def kills(runs: Runs, count: int, folder: Path) -> None:
    """Kill a search several times at random moments; it ends as an undisturbed one."""
    seconds = runs.finish(folder / "whole")
    expected = tried(one_of(folder / "whole"))
    assert len(expected) == TRIALS
    killed, moments = 0, random.Random(count)
    for i in range(count):
        run = folder / str(i)
        killed += runs.kill_after((i + moments.random()) / count * seconds, run)
        if (run / TRIALS_FILE).exists():
            assert tried(one_of(run)) == expected[: len(one_of(run))]
        runs.finish(run)
        assert tried(one_of(run)) == expected
    assert killed > count // 2


def test_a_kill(runs: Runs, tmp_path: Path) -> None:
    kills(runs, 1, tmp_path)


@pytest.mark.slow
def test_twelve_kills(runs: Runs, tmp_path: Path) -> None:
    kills(runs, 12, tmp_path)

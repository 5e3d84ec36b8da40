"""Search over the settings of a method and of its training: what is best on validation within some minutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from interplay.classification.classifier import Classifier
from interplay.classification.model import MONITORS, MultiLoss
from interplay.data.readers import Source, as_table
from interplay.data.schema import PairTable
from interplay.errors import InterplayError
from interplay.methods.registry import MethodChoice, choose
from interplay.parts.heads import Head, HeadSettings
from interplay.ranges import Ranges
from interplay.settings import make_settings
from interplay.towers.backbone import Backbone, as_backbone
from interplay.towers.hidden import hidden_widths
from interplay.training.settings import (
    SMALLER_IS_BETTER,
    TRAINING_RANGES,
    TrainSettings,
    monitored,
    split_execution,
)
from interplay.tuning.study import Study, Trial, database_errors

_METHOD, _TRAINING = "method.", "training."
_IN_A_ROW = 20
"""This number of trials in a row without a value ends the search."""


class Contradiction(InterplayError):
    """Settings that cannot stand together: the trial is pruned."""


@dataclass(frozen=True)
class SearchReport:
    """What a search has come to.

    Attributes:
        monitor: the validation metric that was searched by.
        trials: all that ended, those before a resume included.
        best: the one with the best value; None while none has one.
        settings: the best changes to the method's settings, those that were given included.
        training: the best settings of training; both are as given while there is no best.
        seconds: of all trials.
    """

    monitor: str
    trials: list[Trial]
    best: Trial | None
    settings: dict[str, Any]
    training: TrainSettings
    seconds: float


def ranges_of(
    choice: MethodChoice,
    settings: Mapping[str, Any],
    training: Mapping[str, Any],
    *,
    head_is_trained: bool = True,
) -> Ranges:
    """What is searched: all that the method and training declare, but for what is given or what a variant stands for.

    Args:
        settings, training: what is given.
        head_is_trained: whether the head's learning rate makes a difference.

    Raises:
        InterplayError: the method is not trained by gradient, or nothing is left.
    """
    if not choice.method.traits.solver.by_gradient:
        raise InterplayError(
            f"The method '{choice.name}' is not trained by gradient, so it has no settings to search."
        )
    fixed = {*choice.preset, *settings}
    found = {_METHOD + name: one for name, one in choice.method.Settings.ranges.items() if name not in fixed}
    for name, one in TRAINING_RANGES.items():
        if name not in training and (head_is_trained or name != "head_learning_rate_factor"):
            found[_TRAINING + name] = one
    if not found:
        raise InterplayError("All settings are given, so nothing is left to search: leave some out.")
    return found


def _part(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The values of one prefix as settings hold them; JSON knows no tuples."""
    return {
        name.removeprefix(prefix): tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name.startswith(prefix)
    }


def search(
    backbone: str | Backbone,
    method: str,
    data: Source,
    folder: str | Path,
    *,
    minutes: float,
    trials: int | None = None,
    settings: Mapping[str, Any] | None = None,
    head: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    multi_loss: MultiLoss = "bce",
    after: Callable[[SearchReport], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> SearchReport:
    """Train a method with ever other settings, drawn by Optuna's TPE, and find those that are best on validation.

    Trains on `train` and measures on `validation`; rows of `test` are put aside before anything is read of them. Every
    trial that ends is kept in the folder (`search.db`, `trials.jsonl`), and the same call goes on from there.

    Args:
        backbone, method, multi_loss: as `Classifier`.
        data: a table, or what `interplay.data.load` takes.
        folder: of this search alone.
        minutes: for all trials together, those before a resume included. No trial starts after that; one that has begun
            is brought to its end.
        trials: bound on their number, those before a resume included.
        settings, head: fixed settings of the method and of the head.
        training: fixed settings of training; `seed` is also that of the sampler, and `monitor` says by what
            to search.
        after: called after every trial.
        clock: seconds.

    Raises:
        InterplayError: as `Classifier.fit`; nothing to search; no time; the folder holds another search, or a database
            that cannot be read or written; Optuna is not installed; 20 trials in a row without a value.
    """
    if not minutes > 0 or (trials is not None and trials < 1):
        raise InterplayError(
            f"A search needs minutes above 0 and at least one trial: got {minutes}, {trials}."
        )
    plan = _plan(backbone, method, as_table(data), settings or {}, head or {}, training or {}, multi_loss)
    with database_errors(Path(folder)):
        return _searched(plan, Path(folder), minutes, trials, after, clock)


def _searched(
    plan: _Plan,
    folder: Path,
    minutes: float,
    trials: int | None,
    after: Callable[[SearchReport], None] | None,
    clock: Callable[[], float],
) -> SearchReport:
    """The trials themselves; arguments are those of `search`."""
    study = Study(
        folder,
        plan.ranges,
        plan.decisive(),
        plan.training.seed,
        larger_is_better=plan.monitor not in SMALLER_IS_BETTER,
    )

    def report() -> SearchReport:
        return plan.report(study)

    try:
        run_trials(
            study, plan.value_of, minutes * 60, trials, lambda: after(report()) if after else None, clock
        )
        return report()
    finally:
        study.close()


@dataclass(frozen=True)
class _Plan:
    """What a search holds fast, and what it draws.

    Attributes:
        fixed, given: fixed settings of the method and of training.
        training: the settings of training without anything drawn.
        ranges: what is drawn.
        monitor: the validation metric to search by.
    """

    backbone: Backbone
    choice: MethodChoice
    table: PairTable
    fixed: Mapping[str, Any]
    head: Mapping[str, Any]
    given: Mapping[str, Any]
    multi_loss: MultiLoss
    training: TrainSettings
    ranges: Ranges
    monitor: str

    def decisive(self) -> dict[str, Any]:
        """What makes it this search and no other."""
        decisive, _ = split_execution(asdict(self.training))
        del decisive["num_nodes"]  # older studies do not know it
        return {
            "method": self.choice.name,
            "data": f"{self.table.name}, {self.table.splits()}",
            "backbone": f"{self.backbone.name} {self.backbone.digest}",
            "settings": repr(self.choice.settings(self.fixed)),
            "head": repr(make_settings(HeadSettings, self.head, "the head")),
            "multi_loss": self.multi_loss,
            "training": {key: repr(value) for key, value in decisive.items()},
        }

    def value_of(self, values: Mapping[str, Any]) -> float:
        """Train with drawn values: the best value on validation."""
        changes = {**self.fixed, **_part(values, _METHOD)}
        drawn = {**self.given, **_part(values, _TRAINING), "progress": False, "loggers": ()}
        try:
            training = make_settings(TrainSettings, drawn, "training")
            with torch.random.fork_rng(devices=()):
                self.choice.build(self.backbone.shape, changes)
        except InterplayError as problem:
            raise Contradiction(str(problem)) from problem
        classifier = Classifier(
            self.backbone,
            self.choice.name,
            settings=changes,
            head=self.head,
            multi_loss=self.multi_loss,
            seed=self.training.seed,
        )
        return classifier.fit(self.table, settings=training).best_value

    def report(self, study: Study) -> SearchReport:
        """What its trials have come to."""
        best, ended = study.best, study.trials
        values = best.values if best else {}
        return SearchReport(
            self.monitor,
            ended,
            best,
            {**self.fixed, **_part(values, _METHOD)},
            replace(self.training, **_part(values, _TRAINING)),
            sum(trial.seconds for trial in ended),
        )


def _plan(
    backbone: str | Backbone,
    method: str,
    table: PairTable,
    fixed: Mapping[str, Any],
    head: Mapping[str, Any],
    given: Mapping[str, Any],
    multi_loss: MultiLoss,
) -> _Plan:
    """Everything checked before the first trial."""
    choice = choose(method)
    choice.settings(fixed)
    training = make_settings(TrainSettings, given, "training")
    loaded, table = as_backbone(backbone), _without_test(table)
    head_parameters = Head.parameter_count(
        make_settings(HeadSettings, head, "the head"),
        loaded.shape.joint,
        len(table.classes),
        bias=table.kind == "multi",
        hidden=hidden_widths(loaded.shape),
    )
    ranges = ranges_of(choice, fixed, given, head_is_trained=head_parameters > 0)
    monitor = monitored(training, MONITORS["multi" if table.kind == "multi" else "single"])
    return _Plan(loaded, choice, table, fixed, head, given, multi_loss, training, ranges, monitor)


def run_trials(
    study: Study,
    value_of: Callable[[Mapping[str, Any]], float],
    seconds: float,
    trials: int | None = None,
    after: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Trial after trial until the time is over.

    Args:
        study: where they are kept.
        value_of: values of the study's ranges → the value to search by. A `Contradiction` prunes the trial, any other
            `InterplayError` and a lack of memory on a GPU fail it.
        seconds, trials: for all trials together, those of earlier processes included.
        after: called after every trial.
        clock: seconds.

    Raises:
        InterplayError: 20 trials in a row had no value.
    """
    ended = study.trials
    began = clock() - sum(trial.seconds for trial in ended)
    while clock() - began < seconds and (trials is None or len(ended) < trials):
        trial, values = study.ask()
        start = clock()
        study.tell(trial, values, *_timed(value_of, values, start, clock))
        ended = study.trials
        after()
        last = ended[-_IN_A_ROW:]
        if len(last) == _IN_A_ROW and all(one.value is None for one in last):
            raise InterplayError(
                f"{_IN_A_ROW} trials in a row came to no value; the last one: {last[-1].reason} See "
                f"{study.folder / 'trials.jsonl'}; other fixed settings may help."
            )


def _timed(
    value_of: Callable[[Mapping[str, Any]], float],
    values: Mapping[str, Any],
    start: float,
    clock: Callable[[], float],
) -> tuple[float, float | None, Any, str]:
    """Seconds, value, state and reason of one trial."""
    value: float | None = None
    try:
        value, state, reason = value_of(values), "complete", ""
    except Contradiction as problem:
        state, reason = "pruned", str(problem)
    except InterplayError as problem:
        state, reason = "failed", str(problem)
    except torch.OutOfMemoryError:
        state, reason = "failed", "The memory of the GPU was not enough."
    return clock() - start, value, state, reason


def _without_test(table: PairTable) -> PairTable:
    """The rows to train and to choose on, alone."""
    import datasets

    if table.kind == "pairs":
        raise InterplayError(f"{table.name} has no labels: the search is for classifiers.")
    parts = [table.split("train").rows, table.split("validation").rows]
    return replace(table, rows=datasets.concatenate_datasets(parts))

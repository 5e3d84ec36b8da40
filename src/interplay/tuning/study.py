"""The trials of a search on disk: asked of Optuna's TPE, kept in SQLite, and going on after a kill as if none had been.

The database in the folder is the truth, `trials.jsonl` is written from it. What the sampler draws for a trial is a
function of the seed and of the trials that ended before it, so a search that was killed draws what an undisturbed one
draws.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import filelock
import numpy as np

from interplay.errors import InterplayError
from interplay.files import write_text
from interplay.ranges import Choice, Ranges, Whole

DATABASE, TRIALS = "search.db", "trials.jsonl"
_STUDY, _DECISIVE, _RECORD, _KILLED = "search", "course", "record", "killed"
State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """One trial that ended.

    Attributes:
        number: from 1, in the order of their end.
        state: `complete`; `pruned`: its settings contradict each other, so nothing was trained; `failed`: training
            stopped, as at a loss that is no number.
        value: the best validation value; None without one.
        reason: why there is none, in a sentence.
        seconds: it took.
        values: what was tried.
    """

    number: int
    state: State
    value: float | None
    reason: str
    seconds: float
    values: dict[str, Any]


def need_optuna() -> None:
    """Make sure that Optuna is installed.

    Raises:
        InterplayError: it is not; says how to install it.
    """
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise InterplayError("The search needs Optuna, which is not installed: pip install optuna.")


@contextlib.contextmanager
def database_errors(folder: Path) -> Iterator[None]:
    """Tell in a sentence what goes wrong with the database of a search, as on a full disk.

    Raises:
        InterplayError: it cannot be read or written.
    """
    need_optuna()
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as problem:
        inner = problem.__cause__ if isinstance(problem, StorageInternalError) else problem
        reason = getattr(inner, "orig", None) or inner
        raise InterplayError(
            f"{folder / DATABASE} cannot be read or written ({reason}): make room, or choose another folder."
        ) from problem


class Study:
    """The trials in a folder; close it after the last one.

    Args:
        folder: for the database and `trials.jsonl`; made where there is none.
        ranges: what is searched.
        decisive: what else decides about the search, as plain JSON values: a search goes on only with all of it as it
            was.
        seed: of the sampler.
        larger_is_better: which way the value goes.

    Raises:
        InterplayError: Optuna is not installed; another process searches in the folder; it holds another search.
    """

    def __init__(
        self, folder: Path, ranges: Ranges, decisive: Mapping[str, Any], seed: int, *, larger_is_better: bool
    ) -> None:
        need_optuna()
        self.folder = folder
        self.ranges = ranges
        self.seed = seed
        self.larger_is_better = larger_is_better
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(folder / "search.lock")
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise InterplayError(
                f"Another process searches in {folder} now: wait for it, or choose another folder."
            ) from None
        except OSError as error:
            raise InterplayError(f"Could not write into {folder}: {error.strerror or error}.") from error
        try:
            self._open(
                json.loads(json.dumps({**decisive, "ranges": {k: repr(v) for k, v in ranges.items()}}))
            )
        except BaseException:
            self._lock.release()
            raise

    def _open(self, decisive: dict[str, Any]) -> None:
        """Open or make the database, and set aside what a kill has left unfinished."""
        import optuna
        from sqlalchemy.engine import URL

        place = URL.create("sqlite", database=str((self.folder / DATABASE).absolute()))
        with _quiet():
            self._storage = optuna.storages.RDBStorage(place.render_as_string())
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=_STUDY,
                direction="maximize" if self.larger_is_better else "minimize",
                load_if_exists=True,
            )
        before = self._study.user_attrs.get(_DECISIVE)
        if before is None:
            self._study.set_user_attr(_DECISIVE, decisive)
        elif before != decisive:
            self.close()
            key = next(k for k in [*before, *decisive] if before.get(k) != decisive.get(k))
            raise InterplayError(
                f"{self.folder} holds another search: its {key} was {before.get(key)}, now it is {decisive.get(key)}. "
                "A search goes on only as it began; choose another folder."
            )
        for trial in self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            self._storage.set_trial_user_attr(trial._trial_id, _KILLED, True)
            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        self._write()

    def close(self) -> None:
        """Let the database and the folder go."""
        self._storage.remove_session()
        self._storage.engine.dispose()
        self._lock.release()

    @property
    def trials(self) -> list[Trial]:
        """All that ended, oldest first; those that were killed are not among them."""
        return [
            Trial(**json.loads(one.user_attrs[_RECORD]))
            for one in self._study.get_trials(deepcopy=False)
            if one.state.is_finished() and _KILLED not in one.user_attrs
        ]

    @property
    def best(self) -> Trial | None:
        """The one with the best value, the first of equals; None while none has one."""
        sign = 1 if self.larger_is_better else -1
        found = [trial for trial in self.trials if trial.value is not None]
        return max(found, key=lambda t: (sign * (t.value or 0.0), -t.number), default=None)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """Optuna's next trial, and the values to try."""
        import optuna

        draw = np.random.SeedSequence([self.seed, len(self.trials)]).generate_state(1)
        self._study.sampler = optuna.samplers.TPESampler(seed=int(draw[0]))
        trial = self._study.ask({name: _distribution(one) for name, one in self.ranges.items()})
        return trial, {name: self._value(name, trial.params[name]) for name in self.ranges}

    def _value(self, name: str, drawn: Any) -> Any:
        found = self.ranges[name]
        return found.options[_spellings(found).index(drawn)] if isinstance(found, Choice) else drawn

    def tell(
        self,
        trial: Any,
        values: dict[str, Any],
        seconds: float,
        value: float | None,
        state: State,
        reason: str,
    ) -> Trial:
        """Record what a trial came to; a value that is no number counts as failed."""
        from optuna.trial import TrialState

        if state == "complete" and (value is None or not math.isfinite(value)):
            state, reason, value = "failed", f"The validation value was {value}.", None
        record = Trial(len(self.trials) + 1, state, value, reason, seconds, values)
        trial.set_user_attr(_RECORD, json.dumps(asdict(record)))
        if state == "complete":
            self._study.tell(trial, value)
        else:
            self._study.tell(trial, state=TrialState.PRUNED if state == "pruned" else TrialState.FAIL)
        self._write()
        return record

    def _write(self) -> None:
        lines = (json.dumps(asdict(trial), ensure_ascii=False) + "\n" for trial in self.trials)
        write_text(self.folder / TRIALS, "".join(lines))


def _spellings(choice: Choice) -> list[str]:
    """Options as Optuna can keep them."""
    return [json.dumps(option) for option in choice.options]


def _distribution(one: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(one, Choice):
        return CategoricalDistribution(_spellings(one))
    return (IntDistribution if isinstance(one, Whole) else FloatDistribution)(one.low, one.high, log=one.log)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's notes about studies that it makes and finds."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)

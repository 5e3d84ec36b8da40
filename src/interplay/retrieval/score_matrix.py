"""R[t, i]: the recall of task i after stage t of a stream, and what is reported from it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from interplay.errors import InterplayError
from interplay.files import parsed_json, read_text, write_text
from interplay.metrics.recall import DIRECTIONS, KS, Direction, Recall
from interplay.towers.tokens import SIDES, Side

_FORMAT = 1


@dataclass(frozen=True)
class Stage:
    """What was measured after the session of one task.

    Args:
        recall: of tasks 0, 1, …: of all tasks up to this one, and optionally of some that follow.
        routing: share of the samples of all tasks so far that were routed to their own task, by side, among those that
            were routed to any.
        oracle: of tasks 0, 1, … up to this one, with every sample's true task given.
    """

    recall: tuple[Recall, ...]
    routing: dict[Side, float] | None = None
    oracle: tuple[Recall, ...] | None = None


@dataclass(eq=True)
class ScoreMatrix:
    """Recall of every task after every stage, in both directions and for every k.

    R[t, i] is the recall of task i after stage t (both from 0), task identity not given. For i <= t the gallery
    holds all tasks up to t. It grows with t, so R falls even for a frozen model: compare forgetting with the frozen
    model's. For i > t, a task not learned yet, the gallery holds all tasks up to i, the one of R[i, i].

    With fewer stages than tasks the last stage so far is taken for the last. T is its number.

    Args:
        tasks: names in the order in which they are learned.
        ks: of recall@k.
        stages: what was measured so far; grows by `append`.
        baseline: b[i]: recall of each task in the gallery of all tasks up to i, before anything is learned (of the
            bare frozen towers). Only forward transfer needs it.

    Raises:
        InterplayError: a name occurs twice, there is none, or a figure is missing or no share.
    """

    tasks: tuple[str, ...]
    ks: tuple[int, ...] = KS
    stages: list[Stage] = field(default_factory=list)
    baseline: tuple[Recall, ...] | None = None

    def __post_init__(self) -> None:
        self.tasks, self.ks = tuple(self.tasks), tuple(self.ks)
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise InterplayError(
                f"A score matrix needs tasks of different names, not {', '.join(self.tasks) or 'none'}."
            )
        if not self.ks:
            raise InterplayError("A score matrix needs at least one k.")
        if self.baseline is not None:
            self.baseline = self._recalls(self.baseline, "the baseline", len(self.tasks), len(self.tasks))
        stages, self.stages = self.stages, []
        for t, stage in enumerate(stages):
            self.append(t, stage.recall, routing=stage.routing, oracle=stage.oracle)

    def append(
        self,
        stage: int,
        recall: Sequence[Recall],
        *,
        routing: Mapping[Side, float] | None = None,
        oracle: Sequence[Recall] | None = None,
    ) -> None:
        """Adds the row of one stage.

        Args:
            stage: its number, from 0; must be the next one.
            recall: of tasks 0 … stage, and optionally of the next ones (see `forward_transfer`).
            routing: routing accuracy by side; None for a method that does not route.
            oracle: of tasks 0 … stage with true task identity; for every stage or for none.

        Raises:
            InterplayError: it is not the next stage, a figure is missing or is no share in [0, 1].
        """
        if stage != len(self.stages) or stage >= len(self.tasks):
            raise InterplayError(
                f"The score matrix of {len(self.tasks)} tasks holds {len(self.stages)} stages: stage {stage} (from 0) "
                "is not the next one. Continue the run where it stopped."
            )
        if self.stages and (oracle is None) != (self.stages[0].oracle is None):
            raise InterplayError(
                f"Stage {stage}: recall with true task identity must be measured after every stage or after none."
            )
        where, seen = f"stage {stage}", stage + 1
        for side, share in (routing or {}).items():
            _check_share(share, f"{where}, routing of the {side} side")
        row = Stage(
            recall=self._recalls(recall, where, seen, len(self.tasks)),
            routing=None
            if routing is None
            else {side: float(routing[side]) for side in SIDES if side in routing},
            oracle=None if oracle is None else self._recalls(oracle, f"{where}, true task", seen, seen),
        )
        self.stages.append(row)

    def of_oracle(self) -> ScoreMatrix | None:
        """The matrix of the same stages with true task identity; None where it was not measured."""
        rows = [stage.oracle for stage in self.stages if stage.oracle is not None]
        return ScoreMatrix(self.tasks, self.ks, [Stage(row) for row in rows]) if rows else None

    def matrix(self, direction: Direction, k: int) -> list[list[float | None]]:
        """R as T rows of len(tasks) values, None where nothing was measured."""
        rows: list[list[float | None]] = [
            [recall[direction][k] for recall in stage.recall] for stage in self.stages
        ]
        return [row + [None] * (len(self.tasks) - len(row)) for row in rows]

    def final_average(self, direction: Direction, k: int) -> float | None:
        """Mean over i of R[T, i]; None without a stage."""
        r = self._seen(direction, k)
        return fmean(r[-1]) if r else None

    def stage_average(self, direction: Direction, k: int) -> float | None:
        """Mean over all t >= i of R[t, i]; None without a stage."""
        r = self._seen(direction, k)
        return fmean(value for row in r for value in row) if r else None

    def task_average(self, direction: Direction, k: int) -> float | None:
        """Mean over i of the mean over t >= i of R[t, i]: what LPI's released script prints. None without a stage.

        Each task counts once, where `stage_average` counts a task as often as it was measured.
        """
        r = self._seen(direction, k)
        return fmean(fmean(row[i] for row in r[i:]) for i in range(len(r))) if r else None

    def forgetting(self, direction: Direction, k: int) -> float | None:
        """Mean over i < T of (max over i <= t < T of R[t, i]) − R[T, i]; positive: forgotten. None for T < 1."""
        r = self._seen(direction, k)
        if len(r) < 2:
            return None
        return fmean(max(row[i] for row in r[i:-1]) - r[-1][i] for i in range(len(r) - 1))

    def backward_transfer(self, direction: Direction, k: int) -> float | None:
        """Mean over i < T of R[T, i] − R[i, i] (Lopez-Paz & Ranzato, 2017, eq. 3). None for T < 1."""
        r = self._seen(direction, k)
        return fmean(r[-1][i] - r[i][i] for i in range(len(r) - 1)) if len(r) > 1 else None

    def forward_transfer(self, direction: Direction, k: int) -> float | None:
        """Mean over 0 < i <= T of R[i − 1, i] − b[i] (Lopez-Paz & Ranzato, 2017, eq. 4).

        What the tasks learned so far do for the next one before it is learned. R[i − 1, i] and b[i] are recall in
        the same gallery, that of all tasks up to i. Deviation: b is the bare frozen model, which is where prompt
        learning starts from, instead of one of random weights.

        Returns:
            None for T < 1, without a baseline, or where a row has no recall of the task that comes next.
        """
        before = self.stages[:-1]
        if (
            not before
            or self.baseline is None
            or any(len(row.recall) < t + 2 for t, row in enumerate(before))
        ):
            return None
        return fmean(
            row.recall[i][direction][k] - self.baseline[i][direction][k]
            for i, row in enumerate(before, start=1)
        )

    def per_task(self, direction: Direction, k: int) -> list[dict[str, Any]]:
        """One line for each task learned so far.

        Returns:
            `task`, `learned` R[i, i], `best` max over t >= i of R[t, i], `last` R[T, i], and `forgetting`, the max
            over i <= t < T of R[t, i] minus R[T, i], None for the last task.
        """
        r = self._seen(direction, k)
        lines = []
        for i, task in enumerate(self.tasks[: len(r)]):
            column = [row[i] for row in r[i:]]
            lines.append(
                {
                    "task": task,
                    "learned": column[0],
                    "best": max(column),
                    "last": column[-1],
                    "forgetting": max(column[:-1]) - column[-1] if len(column) > 1 else None,
                }
            )
        return lines

    def summary(self) -> dict[str, Any]:
        """All figures as plain JSON values.

        Returns:
            `tasks`, `stages` (how many), and for each of `final_average`, `stage_average`, `task_average`,
            `forgetting`, `backward_transfer`, `forward_transfer`:
            `{"image_to_text": {"1": …}, "text_to_image": {"1": …}, "mean": …}`, the mean over
            all k and both directions; None throughout where it does not exist.
            `routing`: accuracy after the last stage by side, or None. `oracle`: the same with true task
            identity, or None.
        """
        oracle = self.of_oracle()
        return {
            "tasks": list(self.tasks),
            "stages": len(self.stages),
            **self._figures(),
            "routing": self.stages[-1].routing if self.stages else None,
            "oracle": None if oracle is None else oracle._figures(),
        }

    def save(self, path: str | Path) -> None:
        """Writes the matrix as JSON, whole or not at all.

        Raises:
            InterplayError: the file cannot be written.
        """
        stored = {
            "format": _FORMAT,
            "tasks": self.tasks,
            "ks": self.ks,
            "baseline": self.baseline,
            "stages": [
                {"recall": row.recall, "routing": row.routing, "oracle": row.oracle} for row in self.stages
            ],
        }
        write_text(Path(path), json.dumps(stored, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> ScoreMatrix:
        """Reads what `save` wrote.

        Raises:
            InterplayError: the file cannot be read, or is no score matrix.
        """
        text = read_text(Path(path))
        try:
            stored = parsed_json(text, "the file")
            if stored["format"] != _FORMAT:
                raise ValueError(f"format {stored['format']}, not {_FORMAT}")
            return cls(
                tasks=tuple(stored["tasks"]),
                ks=tuple(stored["ks"]),
                stages=[
                    Stage(_read(row["recall"]) or (), row["routing"], _read(row["oracle"]))
                    for row in stored["stages"]
                ],
                baseline=_read(stored["baseline"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError, InterplayError) as problem:
            reason = str(problem).rstrip(".")
            raise InterplayError(
                f"{path} is no score matrix of this version ({reason}). Measure the run again."
            ) from None

    def _figures(self) -> dict[str, Any]:
        """All figures, each by direction and k and averaged."""
        measures: dict[str, Callable[[Direction, int], float | None]] = {
            "final_average": self.final_average,
            "stage_average": self.stage_average,
            "task_average": self.task_average,
            "forgetting": self.forgetting,
            "backward_transfer": self.backward_transfer,
            "forward_transfer": self.forward_transfer,
        }
        figures: dict[str, Any] = {}
        for name, measure in measures.items():
            by_direction = {d: {str(k): measure(d, k) for k in self.ks} for d in DIRECTIONS}
            values = [value for by_k in by_direction.values() for value in by_k.values() if value is not None]
            figures[name] = {**by_direction, "mean": fmean(values) if values else None}
        return figures

    def _seen(self, direction: Direction, k: int) -> list[list[float]]:
        """The lower triangle: row t holds R[t, 0] … R[t, t]."""
        return [
            [recall[direction][k] for recall in stage.recall[: t + 1]] for t, stage in enumerate(self.stages)
        ]

    def _recalls(self, given: Sequence[Recall], where: str, least: int, most: int) -> tuple[Recall, ...]:
        """Recall of the first tasks, checked and reduced to our ks."""
        if not least <= len(given) <= most:
            raise InterplayError(
                f"The score matrix, {where}: recall of {len(given)} tasks, not of {least}"
                + (f" to {most}." if most > least else ".")
            )
        for task, recall in zip(self.tasks, given, strict=False):
            for direction in DIRECTIONS:
                for k in self.ks:
                    share = recall.get(direction, {}).get(k)
                    _check_share(share, f"{where}, task '{task}', {direction} recall@{k}")
        return tuple({d: {k: float(recall[d][k]) for k in self.ks} for d in DIRECTIONS} for recall in given)


def _check_share(share: object, what: str) -> None:
    if not isinstance(share, (int, float)) or not math.isfinite(share) or not 0 <= share <= 1:
        raise InterplayError(f"The score matrix, {what}: {share!r} is no share in [0, 1].")


def _read(stored: Any) -> tuple[Recall, ...] | None:
    """Recalls of a JSON file, whose keys are strings."""
    if stored is None:
        return None
    return tuple(
        {direction: {int(k): share for k, share in by_k.items()} for direction, by_k in recall.items()}
        for recall in stored
    )

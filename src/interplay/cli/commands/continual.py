"""`interplay continual`: retrieval, learned task after task."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from interplay.cli.chosen_method import ChosenMethod
from interplay.cli.data_options import Reading
from interplay.cli.options import Further
from interplay.cli.output_paths import out_folder
from interplay.cli.recall_tables import all_at_once_report, stream_report
from interplay.cli.result import Result, note, task_count
from interplay.cli.retriever_evaluation import OnBadRow, SplitName
from interplay.cli.runs import (
    note_depth,
    open_backbone,
    open_table,
)
from interplay.errors import InterplayError
from interplay.files import write_text
from interplay.key_value import given
from interplay.retrieval.averages import average
from interplay.settings import make_settings
from interplay.training.settings import EXECUTION, RETRIEVAL_TRAINING, TrainSettings

if TYPE_CHECKING:
    from interplay.data.schema import PairTable
    from interplay.data.sessions import Session
    from interplay.retrieval.continual import StreamEvaluation
    from interplay.retrieval.keeping import Keep
    from interplay.retrieval.retriever import Retriever
    from interplay.retrieval.score_matrix import ScoreMatrix

GROUP = "Retrieve"


def continual(
    *,
    data: str,
    out: str,
    method: str = "layer_map",
    backbone: str = "tiny",
    set: tuple[str, ...] = (),
    columns: tuple[str, ...] = (),
    order: str = "",
    order_seed: int = 0,
    split: SplitName = "test",
    min_rows: int = 2,
    small: Literal["error", "skip", "merge"] = "error",
    joint: bool = False,
    keep: Literal["trained", "helpful"] = "trained",
    resume: bool = False,
    random_weights: bool = False,
    on_bad_row: OnBadRow = "error",
    settings: Annotated[Mapping[str, Any] | None, Further(RETRIEVAL_TRAINING, "Training")] = None,
) -> Result:
    """Learn retrieval task after task, and measure all tasks after each one, no task identity given.

    Examples:

      interplay continual --data mine.csv --out runs/mine --order-seed 1
      interplay continual --method lpi-p --data openmoji/continual --out runs/lpi --set length=4 rank=2 --epochs 3
      interplay continual --method lpi-p --data openmoji/continual --out runs/joint --joint

    The data need a column `task`. Each session learns from the `train` rows of its task and looks on its `validation`
    rows whether that helps; no sample of an older task is kept. By default it takes no training steps: linear maps
    after the towers are solved in closed form (docs/guides/retrieval.md). The folder gets the retriever
    (method.safetensors, config.json, README.md), config.yaml (what ran; --config reads it again), matrix.json (recall
    of every task after every session; bare.json: of the bare backbone), summary.json, env.json, and a folder a
    session with checkpoints and logs. With --joint there is one session of all data, so there are no matrices.

    Args:
        data: an embedded data set ('interplay data list'), a file, a folder, or a hub id.
        columns: what the columns are called in your data, key=value each, as `image=path text=title task=session`;
            `captions=title` says that a cell holds several texts, separated by `|`.
        out: the run folder.
        method: a method or variant that encodes each side alone, see 'interplay methods'. Training settings, as
            --epochs, are for methods that are trained by gradient.
        backbone: `tiny`, a preset such as clip-vit-base-patch16, a folder with a CLIP checkpoint, or a hub id.
        set: changes to the method's settings, key=value each, as `depth=3 rank=2`.
        order: names of all tasks, separated by commas, in the order in which they arrive; by default that of the
            data.
        order_seed: shuffles the order of the tasks; 0 leaves it as it is in the data.
        split: which rows are measured.
        min_rows: pictures that a task needs in each split that is used, at least 2.
        small: what becomes of a task with fewer: `error` names it before anything is trained, `skip` leaves it out,
            `merge` makes it one task with the next (the last one with the one before).
        joint: learn all tasks at once instead, and measure each: the upper bound of a stream.
        keep: of a method that is trained by gradient: `trained` keeps what every task has learned; `helpful` keeps it
            where it ranks the task's `validation` rows better, by more than one standard error, and the backbone's
            vectors for the other tasks.
        resume: go on in OUT where a run with the same options was interrupted.
        random_weights: random weights for the backbone, to measure speed and memory; results mean nothing.
        on_bad_row: what to do with a row that cannot be used: `error` stops and names it, `skip` leaves it out and
            lists it.
    """
    folder, reading = out_folder(out), Reading.of(columns)
    chosen = ChosenMethod.of(method, set)
    from interplay.retrieval.continual import StreamEvaluation
    from interplay.retrieval.learning import trained_parameters
    from interplay.retrieval.retriever import Retriever
    from interplay.retrieval.run_folder import SUMMARY
    from interplay.training.run_record import recorded_run

    training: TrainSettings = make_settings(
        TrainSettings, {**asdict(RETRIEVAL_TRAINING), **(settings or {})}, "training"
    )
    config = {
        "data": data,
        **chosen.config(backbone),
        "order": order,
        "order_seed": order_seed,
        "split": split,
        "joint": joint,
        "random_weights": random_weights,
        "on_bad_row": on_bad_row,
        **_unusual(min_rows, small, keep),
        **reading.given,
    }
    loaded = open_backbone(backbone, random_weights=random_weights)
    note_depth(chosen.changes, loaded)
    retriever = Retriever(loaded, chosen.name, settings=chosen.changes, seed=training.seed)
    _tell_unread(retriever, settings or {})
    table = open_table(data, on_bad_row, reading)
    splits = tuple(dict.fromkeys([*retriever.needs, split]))
    sessions = _sessions(table, _ordered(table, order, order_seed), min_rows, small, splits)
    begun = time.monotonic()
    evaluation = StreamEvaluation(loaded, sessions, split, reserve=retriever.method.traits.reserve)
    facts = {
        "run": out,
        "data": data,
        "method": chosen.name,
        "split": split,
        "seed": training.seed,
        "order": [session.name for session in sessions],
        "trained_parameters": trained_parameters(retriever.method),
        "counts": evaluation.counts(),
    }
    course = _Course(retriever, sessions, folder, training, evaluation, resume, keep)
    run = _joint if joint else _stream
    with recorded_run(folder, config | given(training), resume=resume):
        found, text = run(course, facts)
        found["seconds"] = time.monotonic() - begun
        write_text(folder / SUMMARY, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    return Result(found, f"{text}\n\n{_ending(found, retriever)}")


def _unusual(min_rows: int, small: str, keep: Keep) -> dict[str, Any]:
    """Options that are not at their defaults and that older runs have no record of; such runs can be continued."""
    tasks = {} if (min_rows, small) == (2, "error") else {"min_rows": min_rows, "small": small}
    return tasks | ({} if keep == "trained" else {"keep": keep})


def _sessions(
    table: PairTable,
    order: list[str] | None,
    fewest: int,
    small: Literal["error", "skip", "merge"],
    splits: tuple[SplitName, ...],
) -> list[Session]:
    """The sessions of a table's tasks; says which tasks were left out or made one, having too few pictures."""
    from interplay.data.sessions import sessions_of

    sessions = sessions_of(table, order, fewest=fewest, small=small, splits=splits)
    names = [session.name for session in sessions]
    tasks = dict.fromkeys(table.tasks())
    if made := [f"'{name}'" for name in names if name not in tasks]:
        note(f"Made one task, having fewer than {fewest} pictures in a split: {', '.join(made)}.")
    elif out := [f"'{task}'" for task in tasks if task not in names]:
        note(f"Left out, having fewer than {fewest} pictures in a split: {', '.join(out)}.")
    return sessions


def _ending(found: Mapping[str, Any], retriever: Retriever) -> str:
    """What it took, and what comes next."""
    text = f"{found['trained_parameters']:,} trained parameters a session, {found['seconds']:.0f} seconds."
    text += f"\nThe retriever is in {found['run']}."
    if not retriever.method.traits.coupled:
        text += f" Search with it: interplay index {found['run']} --images FOLDER"
    return text


def _tell_unread(retriever: Retriever, typed: Mapping[str, Any]) -> None:
    """Say which training settings change nothing, as nothing is trained by gradient."""
    unread = [name for name in typed if name not in (*EXECUTION, "seed", "devices", "num_nodes", "precision")]
    if unread and not retriever.method.traits.solver.by_gradient:
        note(f"{retriever.method_name} takes no training steps: {', '.join(unread)} change nothing.")


def _ordered(table: PairTable, order: str, order_seed: int) -> list[str] | None:
    """The names of a table's tasks in the order that is wanted; None: that of the table."""
    if order and order_seed:
        raise InterplayError("--order names an order and --order-seed draws one: give one of them.")
    if order_seed < 0:
        raise InterplayError(f"--order-seed must be at least 0, not {order_seed}.")
    if order:
        return [name.strip() for name in order.split(",") if name.strip()]
    if not order_seed:
        return None
    names = list(dict.fromkeys(table.tasks()))
    random.Random(order_seed).shuffle(names)
    return names


@dataclass(frozen=True)
class _Course:
    """What is learned, and how.

    Attributes:
        retriever: before its first session.
        sessions: of the stream.
        folder: of the run.
        training: how each session is trained.
        evaluation: of these sessions.
        resume, keep: as the options.
    """

    retriever: Retriever
    sessions: Sequence[Session]
    folder: Path
    training: TrainSettings
    evaluation: StreamEvaluation
    resume: bool
    keep: Keep


def _stream(course: _Course, facts: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Session after session."""
    from interplay.retrieval.continual import run_stream
    from interplay.retrieval.run_folder import BARE

    learned, matrix = run_stream(
        course.retriever,
        course.sessions,
        course.folder,
        settings=course.training,
        resume=course.resume,
        keep=course.keep,
        report=_Progress(course.folder, [session.name for session in course.sessions], course.resume),
        evaluation=course.evaluation,
    )
    bare = course.evaluation.bare_matrix()
    bare.save(course.folder / BARE)
    found, text = stream_report(facts | {"kept_bare": list(learned.bare)}, matrix, bare)
    return found, text + _unhelpful(learned)


def _joint(course: _Course, facts: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """All at once."""
    from interplay.retrieval.continual import run_all_at_once

    note(f"[1/1] all {len(course.sessions)} tasks at once")
    learned = run_all_at_once(
        course.retriever,
        course.sessions,
        course.folder,
        settings=course.training,
        resume=course.resume,
        keep=course.keep,
    )
    stage = course.evaluation.stage(learned, len(course.sessions))
    found, text = all_at_once_report(facts, stage.recall, course.evaluation.bare())
    return found, text + _unhelpful(learned)


def _unhelpful(learned: Retriever) -> str:
    """Which tasks have not helped, in a sentence; nothing where all have."""
    if not learned.bare:
        return ""
    names = ", ".join(f"'{name}'" for name in learned.bare)
    return f"\n\nNot better on their validation rows, so that nothing is kept of their training: {names}."


class _Progress:
    """Tells which session runs and how long the others will take; called after every session.

    Args:
        folder: of the run; what is finished there already takes no more time.
        names: of the tasks.
    """

    def __init__(self, folder: Path, names: Sequence[str], resume: bool) -> None:
        from interplay.retrieval.run_folder import MATRIX
        from interplay.retrieval.score_matrix import ScoreMatrix

        self._names = names
        there = resume and (folder / MATRIX).exists()
        self._before = self._told = len(ScoreMatrix.load(folder / MATRIX).stages) if there else 0
        self._begun = time.monotonic()
        if self._before:
            note(f"{self._before} of {len(names)} sessions are there already.")
        self._announce()

    def __call__(self, matrix: ScoreMatrix) -> None:
        done = len(matrix.stages)
        if done == self._told:
            return
        self._told = done
        spent = time.monotonic() - self._begun
        left = spent / (done - self._before) * (len(self._names) - done)
        value = average(matrix.stages[-1].recall[:done])
        behind = f", about {_time(left)} left" if done < len(self._names) else ""
        note(f"      mean recall of {task_count(done)} so far {value:.3f}; {_time(spent)} spent{behind}")
        self._announce()

    def _announce(self) -> None:
        if self._told < len(self._names):
            note(f"[{self._told + 1}/{len(self._names)}] {self._names[self._told]}")


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"

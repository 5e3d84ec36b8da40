"""Commands of continual retrieval: continual, learn, forget."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from interplay.commands.measure import OnBadRow, SplitName, rows_of
from interplay.commands.output import Result, note
from interplay.commands.output import columns as aligned
from interplay.commands.places import out_folder
from interplay.commands.reading import Reading
from interplay.commands.recalls import average, joint_report, stream_report
from interplay.commands.runs import (
    changing,
    note_depth,
    open_backbone,
    open_retriever,
    open_table,
    recorded_run,
)
from interplay.commands.values import assignments, given, spelled
from interplay.errors import InterplayError
from interplay.files import delete, write_text
from interplay.training.settings import EXECUTION, RETRIEVAL_TRAINING

if TYPE_CHECKING:
    from interplay.data.schema import PairTable
    from interplay.data.sessions import Session
    from interplay.retrieval.continual import StreamEvaluation
    from interplay.retrieval.retriever import Retriever
    from interplay.retrieval.score_matrix import ScoreMatrix

_MACHINE = (*EXECUTION, "devices", "precision")
"""Training settings that belong to a machine or a call, not to a run."""


def continual(
    *,
    data: str,
    out: str,
    method: str = "lpi-p",
    backbone: str = "tiny",
    set: tuple[str, ...] = (),
    columns: tuple[str, ...] = (),
    order: str = "",
    order_seed: int = 0,
    split: SplitName = "test",
    min_rows: int = 2,
    small: Literal["error", "skip", "merge"] = "error",
    joint: bool = False,
    resume: bool = False,
    random_weights: bool = False,
    on_bad_row: OnBadRow = "error",
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Learn retrieval task after task, and measure all tasks after each one, no task identity given.

    Examples:

      interplay continual --method lpi-p --data openmoji/continual --out runs/lpi
      interplay continual --data mine.csv --out runs/mine --set length=4 rank=2 --epochs 3 --order-seed 1
      interplay continual --method lpi-p --data openmoji/continual --out runs/joint --joint

    The data need a column `task`. Each session trains on the `train` rows of its task and chooses the best epoch on
    its `validation` rows; no sample of an older task is kept. The folder gets the retriever (method.safetensors,
    config.json, README.md), config.yaml (what ran; --config reads it again), matrix.json (recall of every task after
    every session; bare.json: of the bare backbone), summary.json, env.json, and a folder a session with checkpoints
    and logs. With --joint there is one session of all data, so there are no matrices.

    Args:
        data: an embedded data set ('interplay data list'), a file, a folder, or a hub id.
        columns: what the columns are called in your data, key=value each, as `image=path text=title task=session`;
            `captions=title` says that a cell holds several texts, separated by `|`.
        out: the run folder.
        method: a method or variant that encodes each side alone, see 'interplay methods'.
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
        resume: go on in OUT where a run with the same options was interrupted.
        random_weights: random weights for the backbone, to measure speed and memory; results mean nothing.
        on_bad_row: what to do with a row that cannot be used: `error` stops and names it, `skip` leaves it out and
            lists it.
    """
    from interplay.methods.catalogue import known_name

    known_name(method)  # refused before torch is imported
    from interplay.data.sessions import sessions_of
    from interplay.methods.registry import choose
    from interplay.methods.settings import make_settings
    from interplay.retrieval.continual import StreamEvaluation
    from interplay.retrieval.retriever import Retriever
    from interplay.retrieval.run_folder import SUMMARY
    from interplay.training.settings import TrainSettings

    folder, reading = out_folder(out), Reading.of(columns)
    choice = choose(method)
    changes = assignments(set, choice.method.Settings, "--set")
    training: TrainSettings = make_settings(
        TrainSettings, {**asdict(RETRIEVAL_TRAINING), **(settings or {})}, "training"
    )
    config = {
        "data": data,
        "method": choice.name,
        "backbone": backbone,
        "set": spelled(asdict(choice.settings(changes))),
        "order": order,
        "order_seed": order_seed,
        "split": split,
        "joint": joint,
        "random_weights": random_weights,
        "on_bad_row": on_bad_row,
    }
    if (min_rows, small) != (2, "error"):  # runs from before there was a choice go on
        config |= {"min_rows": min_rows, "small": small}
    config |= reading.given
    loaded = open_backbone(backbone, random_weights=random_weights)
    note_depth(changes, loaded)
    retriever = Retriever(loaded, choice.name, settings=changes, seed=training.seed)
    table = open_table(data, on_bad_row, reading)
    sessions = sessions_of(
        table,
        _ordered(table, order, order_seed),
        fewest=min_rows,
        small=small,
        splits=tuple(dict.fromkeys([*retriever.needs, split])),
    )
    _tell_small(table, sessions, min_rows)
    begun = time.monotonic()
    facts = {
        "run": out,
        "data": data,
        "method": choice.name,
        "split": split,
        "seed": training.seed,
        "order": [session.name for session in sessions],
        "trained_parameters": trained_parameters(retriever),
    }
    evaluation = StreamEvaluation(loaded, sessions, split, reserve=retriever.method.traits.reserve)
    facts["counts"] = evaluation.counts()
    run = _joint if joint else _stream
    with recorded_run(folder, config | given(training), resume=resume):
        found, text = run(retriever, sessions, folder, training, evaluation, resume, facts)
        found["seconds"] = time.monotonic() - begun
        write_text(folder / SUMMARY, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    text += (
        f"\n\n{facts['trained_parameters']:,} trained parameters a session, {found['seconds']:.0f} seconds."
    )
    text += f"\nThe retriever is in {out}."
    if not retriever.method.traits.coupled:
        text += f" Search with it: interplay index {out} --images FOLDER"
    return Result(found, text)


def trained_parameters(retriever: Retriever) -> int:
    """How many parameters one session trains."""
    if not retriever.method.traits.solver.by_gradient:
        return 0
    return sum(parameter.numel() for parameter in retriever.method.parameters() if parameter.requires_grad)


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


def _tell_small(table: PairTable, sessions: Sequence[Session], fewest: int) -> None:
    """Say which tasks were left out or made one, having too few pictures."""
    names = [session.name for session in sessions]
    tasks = dict.fromkeys(table.tasks())
    if made := [f"'{name}'" for name in names if name not in tasks]:
        note(f"Made one task, having fewer than {fewest} pictures in a split: {', '.join(made)}.")
    elif out := [f"'{task}'" for task in tasks if task not in names]:
        note(f"Left out, having fewer than {fewest} pictures in a split: {', '.join(out)}.")


def _stream(
    retriever: Retriever,
    sessions: Sequence[Session],
    folder: Path,
    training: Any,
    evaluation: StreamEvaluation,
    resume: bool,
    facts: dict[str, Any],
) -> tuple[dict[str, Any], str]:
    """Session after session."""
    from interplay.retrieval.continual import run_stream
    from interplay.retrieval.run_folder import BARE

    _, matrix = run_stream(
        retriever,
        sessions,
        folder,
        settings=training,
        resume=resume,
        report=_Progress(folder, [session.name for session in sessions], resume),
        evaluation=evaluation,
    )
    bare = evaluation.bare_matrix()
    bare.save(folder / BARE)
    return stream_report(facts, matrix, bare)


def _joint(
    retriever: Retriever,
    sessions: Sequence[Session],
    folder: Path,
    training: Any,
    evaluation: StreamEvaluation,
    resume: bool,
    facts: dict[str, Any],
) -> tuple[dict[str, Any], str]:
    """All at once."""
    from interplay.retrieval.continual import run_joint

    note(f"[1/1] all {len(sessions)} tasks at once")
    learned = run_joint(retriever, sessions, folder, settings=training, resume=resume)
    stage = evaluation.stage(learned, len(sessions))
    return joint_report(facts, stage.recall, evaluation.bare())


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
        note(f"      mean recall of {_count(done)} so far {value:.3f}; {_time(spent)} spent{behind}")
        self._announce()

    def _announce(self) -> None:
        if self._told < len(self._names):
            note(f"[{self._told + 1}/{len(self._names)}] {self._names[self._told]}")


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def learn(
    run: str,
    *,
    task: str,
    data: str,
    columns: tuple[str, ...] = (),
    backbone: str | None = None,
    on_bad_row: OnBadRow = "error",
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Let the retriever of a run learn one more task.

    Examples:

      interplay learn runs/lpi --task "traffic signs" --data signs.csv
      interplay learn runs/lpi --task Flags --data openmoji/continual --epochs 3

    The run is replaced in one step when the session has ended: where anything goes wrong, it is what it was before.
    Where another process changes the run, this one waits for it, and learns on top of what that one has done.
    matrix.json and summary.json stay those of the stream. Galleries of the run: 'interplay refresh' afterwards.

    Args:
        run: the folder that 'interplay continual --out' wrote.
        task: its name in words; it takes part in the training of some methods.
        data: pairs with the splits `train` and `validation`. Where they have a column `task`, only the rows of TASK
            are used.
        columns: what the columns are called in your data, key=value each, as `image=path text=title`;
            `captions=title` says that a cell holds several texts, separated by `|`.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
        on_bad_row: what to do with a row that cannot be used: `error` stops and names it, `skip` leaves it out and
            lists it.
    """
    from interplay.methods.settings import make_settings
    from interplay.retrieval.run_folder import free_folder, tidy
    from interplay.training.settings import TrainSettings

    reading = Reading.of(columns)
    with changing(run):
        retriever = open_retriever(run, backbone)
        kept = retriever.card().training or asdict(RETRIEVAL_TRAINING)
        kept = {key: value for key, value in kept.items() if key not in _MACHINE}
        training: TrainSettings = make_settings(TrainSettings, {**kept, **(settings or {})}, "training")
        _refuse_known(retriever, task)
        pairs = rows_of(open_table(data, on_bad_row, reading), task)
        begun = time.monotonic()
        tidy(Path(run), retriever.sessions)  # what a session that was killed has left
        place = free_folder(Path(run))
        try:
            report = retriever.learn(task, pairs, settings=training, run=place)
            retriever.save_pretrained(run)
        except BaseException:
            delete(place)
            raise
    values = {} if report is None else report.validation
    found = {
        "run": run,
        "task": task,
        "tasks": list(retriever.sessions),
        "training_rows": len(pairs.split("train")),
        "validation": values,
        "trained_parameters": 0 if report is None else report.parameters,
        "seconds": time.monotonic() - begun,
    }
    known = _count(len(retriever.sessions))
    text = f"{run} has learned '{task}' from {found['training_rows']:,} rows and knows {known} now."
    if values:
        text += "\n\n" + aligned(("validation", "value"), list(values.items()))
    return Result(found, text)


def _refuse_known(retriever: Retriever, task: str) -> None:
    """Before anything is loaded: a task is learned once.

    Raises:
        InterplayError: it was learned.
    """
    if task in retriever.sessions:
        raise InterplayError(
            f"The task '{task}' was learned already: choose another --task, or 'interplay forget' it first."
        )


def forget(run: str, *, task: str, backbone: str | None = None) -> Result:
    """Remove one task from the retriever of a run: its prompts, its keys, and every route to it.

    Example: interplay forget runs/lpi --task Flags

    All other tasks stay as they are, bit for bit. Nothing of the task stays in the run's folder: its logs and all
    checkpoints go, and in the records of the stream '(forgotten N)' takes the place of its name. Where another process
    changes the run, this one waits for it. Galleries of the run: 'interplay refresh' afterwards.

    Args:
        run: the folder that 'interplay continual --out' wrote.
        task: its name.
        backbone: where to load the backbone from, if not from where the run says; its weights must be the same.
    """
    with changing(run):
        retriever = open_retriever(run, backbone)
        retriever.forget(task)
        retriever.save_pretrained(run)
    found = {"run": run, "forgotten": task, "tasks": list(retriever.sessions)}
    return Result(found, f"{run} has forgotten '{task}' and knows {_count(len(retriever.sessions))} now.")


def _count(tasks: int) -> str:
    return "1 task" if tasks == 1 else f"{tasks or 'no'} tasks"

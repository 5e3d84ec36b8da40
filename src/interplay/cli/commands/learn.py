"""`interplay learn`: one more task for the retriever of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from interplay.cli.data_options import Reading
from interplay.cli.options import Further
from interplay.cli.result import Result, task_count
from interplay.cli.result import columns as aligned
from interplay.cli.retriever_evaluation import OnBadRow, rows_of
from interplay.cli.runs import (
    changing,
    open_retriever,
    open_table,
)
from interplay.cli.worth import worth
from interplay.errors import InterplayError
from interplay.files import delete
from interplay.training.settings import EXECUTION, RETRIEVAL_TRAINING, TrainSettings, pairs_a_step

if TYPE_CHECKING:
    from interplay.data.schema import PairTable
    from interplay.retrieval.retriever import Retriever

GROUP = "Retrieve"


_MACHINE = (*EXECUTION, "devices", "num_nodes", "precision")
"""Training settings that belong to a machine or a call, not to a run."""


def learn(
    run: str,
    *,
    task: str,
    data: str,
    columns: tuple[str, ...] = (),
    backbone: str | None = None,
    on_bad_row: OnBadRow = "error",
    keep: Literal["trained", "helpful"] = "trained",
    settings: Annotated[Mapping[str, Any] | None, Further(TrainSettings, "Training", shown=False)] = None,
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
        keep: of a method that is trained by gradient: `helpful` keeps the backbone's vectors for the task unless what
            was trained ranks its `validation` rows better, by more than one standard error.
    """
    from interplay.retrieval.run_folder import free_folder, tidy
    from interplay.settings import make_settings

    reading = Reading.of(columns)
    with changing(run):
        retriever = open_retriever(run, backbone)
        before = retriever.card().training or asdict(RETRIEVAL_TRAINING)
        kept = {key: value for key, value in before.items() if key not in _MACHINE}
        kept["batch_size"] = -(-pairs_a_step(before) // max(1, (settings or {}).get("devices", 1)))
        training: TrainSettings = make_settings(TrainSettings, {**kept, **(settings or {})}, "training")
        _refuse_known(retriever, task)
        pairs = rows_of(open_table(data, on_bad_row, reading), task)
        begun = time.monotonic()
        tidy(Path(run), retriever.sessions)  # what a session that was killed has left
        place = free_folder(Path(run))
        try:
            report = retriever.learn(task, pairs, settings=training, run=place, keep=keep)
            retriever.save_pretrained(run)
        except BaseException:
            delete(place)
            raise
    told = _worth(retriever, task, pairs)
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
    known = task_count(len(retriever.sessions))
    text = f"{run} has learned '{task}' from {found['training_rows']:,} rows and knows {known} now."
    if task in retriever.bare:
        text += " Its validation rows are not better for it, so nothing is kept of its training."
    if values:
        text += "\n\n" + aligned(("validation", "value"), list(values.items()))
    return Result(found, text + told)


def _worth(retriever: Retriever, task: str, pairs: PairTable) -> str:
    """What the task is worth on its own validation rows; nothing where there are none."""
    from interplay.data.sessions import Session
    from interplay.retrieval.continual import StreamEvaluation

    if "validation" not in pairs.splits():
        return ""
    evaluation = StreamEvaluation(
        retriever.backbone, [Session(task, pairs)], "validation", reserve=retriever.method.traits.reserve
    )
    stage = evaluation.stage(retriever, 1)
    found = worth([task], evaluation.counts(), evaluation.bare(), stage.recall, stage.oracle)
    return f"\n\nOn its validation rows alone. {found}"


def _refuse_known(retriever: Retriever, task: str) -> None:
    """Before anything is loaded: a task is learned once.

    Raises:
        InterplayError: it was learned.
    """
    if task in retriever.sessions:
        raise InterplayError(
            f"The task '{task}' was learned already: choose another --task, or 'interplay forget' it first."
        )

"""Which tasks a table holds, and how a trained retriever is measured on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from interplay.cli.data_options import Reading
from interplay.cli.recall_tables import measured_report
from interplay.cli.result import Result
from interplay.cli.runs import open_retriever, open_table
from interplay.errors import InterplayError, unknown

if TYPE_CHECKING:
    from interplay.data.schema import PairTable
    from interplay.data.sessions import Session
    from interplay.retrieval.retriever import Retriever

SplitName = Literal["train", "validation", "test"]
OnBadRow = Literal["error", "skip"]


def rows_of(table: PairTable, task: str) -> PairTable:
    """The rows of one task or of tasks that were made one, or the whole table where it has no tasks.

    Raises:
        InterplayError: the table has tasks, but not this one.
    """
    if "task" not in table.rows.column_names:
        return table
    tasks = table.tasks()
    wanted = _parts(tasks, task)
    if not wanted:
        raise InterplayError(
            f"{table.name} has a column 'task': {unknown('task', task, dict.fromkeys(tasks))} Without that column, all "
            "of its rows are used."
        )
    return table.select([row for row, name in enumerate(tasks) if name in wanted])


def _parts(tasks: Sequence[str], task: str) -> list[str]:
    """The names in a table that a task goes by there: its own, or those of which it was made; none where it is not."""
    from interplay.data.sessions import MERGED

    parts = [task] if task in tasks else task.split(MERGED)
    return parts if set(parts) <= set(tasks) else []


def evaluated_retriever(
    run: str,
    data: str | None,
    split: SplitName,
    columns: Sequence[str],
    backbone: str | None,
    on_bad_row: OnBadRow,
) -> Result:
    """What `interplay evaluate` does with a retriever: recall of each task in the gallery of them all."""
    from interplay.retrieval.continual import StreamEvaluation

    reading = Reading.of(columns)
    retriever = open_retriever(run, backbone)
    if data is None:
        sessions = _learned(run, retriever, reading, on_bad_row)
    else:
        sessions = _tasks_of(open_table(data, on_bad_row, reading))
    evaluation = StreamEvaluation(
        retriever.backbone, sessions, split, reserve=retriever.method.traits.reserve
    )
    stage = evaluation.stage(retriever, len(sessions))
    facts = {
        "run": run,
        "data": data or ", ".join(dict.fromkeys(retriever.card().data)),
        "split": split,
        "method": retriever.method_name,
        "order": [session.name for session in sessions],
        "counts": evaluation.counts(),
    }
    return Result(*measured_report(facts, stage, evaluation.bare()))


def _learned(run: str, retriever: Retriever, reading: Reading, on_bad_row: OnBadRow) -> list[Session]:
    """The tasks that a retriever has learned, from the data that it learned them from.

    Data of the stream are read as the run was told, unless `reading` says how to read all of them.
    """
    from interplay.data.sessions import Session, alike

    card = retriever.card()
    if not card.sessions:
        raise InterplayError(
            "This retriever has learned no task (any more): name what to measure it on by --data."
        )
    tables = {
        source: open_table(source, on_bad_row, reading if reading.given else Reading.of_run(run, source))
        for source in dict.fromkeys(card.data)
    }
    found: list[Session] = []
    for name, source in zip(card.sessions, card.data, strict=True):
        table = tables[source]
        if "task" in table.rows.column_names and not _parts(table.tasks(), name):  # learned as `joint`
            found += _tasks_of(table)
        else:
            found.append(Session(name, rows_of(table, name)))
    return found if len(tables) == 1 else alike(found)


def _tasks_of(table: PairTable) -> list[Session]:
    """Every task of a table, or the table as one."""
    from interplay.data.sessions import Session

    if "task" not in table.rows.column_names:
        return [Session(table.name, table)]
    return [Session(name, rows_of(table, name)) for name in dict.fromkeys(table.tasks())]

"""Sessions: a table with a `task` column as tasks that arrive one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import datasets

from interplay.data.schema import PairTable, Split
from interplay.errors import InterplayError, unknown

FEWEST_PAIRS = 2
"""A contrastive loss needs another pair to tell a pair from."""

_CAPTIONS = datasets.Features({"text": datasets.List(datasets.Value("string"))})
_PART = 5000  # rows that are copied at a time


@dataclass(frozen=True, eq=False)
class Session:
    """One task of a stream.

    Args:
        name: of the task.
        table: its rows, of all splits.
    """

    name: str
    table: PairTable

    def __len__(self) -> int:
        return len(self.table)

    def split(self, name: Split) -> PairTable:
        """The rows of one split.

        Raises:
            InterplayError: there is no such split, or it is empty.
        """
        named = replace(self.table, name=f"{self.table.name}, task '{self.name}',")  # for the error
        return replace(named.split(name), name=self.table.name)


def sessions_of(table: PairTable, order: Sequence[str] | None = None) -> list[Session]:
    """The tasks of a table as sessions.

    Args:
        table: with the columns `task` and `split`.
        order: the names of all tasks, each once; by default in the order in which they first appear in the table.

    Raises:
        InterplayError: the table has no tasks, a row has none, `order` is not a permutation of them, or a task has
            fewer than 2 training pairs.
    """
    rows_of: dict[str, list[int]] = {}
    for row, task in enumerate(table.tasks()):
        rows_of.setdefault(task, []).append(row)
    if not rows_of:
        raise InterplayError(f"{table.name} has no rows, so no sessions.")
    if "" in rows_of:
        raise InterplayError(
            f"{table.where(rows_of[''][0])} belongs to no task ({len(rows_of[''])} rows do not): name one in the "
            "column 'task', or leave the rows out."
        )
    names = list(rows_of) if order is None else _permutation(table.name, list(order), list(rows_of))
    sessions = [Session(name, table.select(rows_of[name])) for name in names]
    for session in sessions:
        count = session.table.splits().get("train", 0)
        if count < FEWEST_PAIRS:
            raise InterplayError(
                f"{table.name}, task '{session.name}', has {count} training pairs; a session needs at least "
                f"{FEWEST_PAIRS}. Add some, merge the task with another, or leave its rows out."
            )
    return sessions


def joint(sessions: Sequence[Session]) -> Session:
    """All sessions as one named `joint`, for joint training: the upper bound of a stream.

    Raises:
        InterplayError: there is no session, or their tables have unlike columns.
    """
    return Session("joint", _together([session.table for session in sessions]))


def alike(sessions: Sequence[Session]) -> list[Session]:
    """Sessions from different tables with the columns that all retrieval needs, so that they go together.

    Every row has a list of captions; ids, labels and other columns are left behind.
    """
    found = []
    for session in sessions:
        table = session.table
        kept = [name for name in ("image", "split") if name in table.rows.column_names]
        captions = datasets.Dataset.from_dict({"text": table.captions()}, features=_CAPTIONS)
        rows = datasets.concatenate_datasets([table.rows.select_columns(kept), captions], axis=1)
        found.append(Session(session.name, replace(table, kind="pairs", classes=(), rows=rows)))
    return found


def seen(sessions: Sequence[Session], t: int, split: Split) -> tuple[PairTable, list[int]]:
    """The rows of one split of all tasks up to task t.

    Args:
        sessions: in the order of the stream.
        t: index of the last task, from 0.
        split: which rows.

    Returns:
        The table, task after task, and for each row the index of its task.

    Raises:
        InterplayError: a task has no rows in the split.
        IndexError: there is no task t.
    """
    if not 0 <= t < len(sessions):
        raise IndexError(f"task {t} of a stream of {len(sessions)}")
    tables = [session.split(split) for session in sessions[: t + 1]]
    return _together(tables), [task for task, table in enumerate(tables) for _ in range(len(table))]


def explode(table: PairTable) -> tuple[PairTable, list[int]]:
    """One row for each (image, caption), for a table with several captions a row.

    Of a row with the id `a` the captions have the ids `a`, `a (caption 2)`, …; the other columns are repeated, also
    pictures that the table holds as bytes (not as paths).

    Returns:
        The table, whose texts are strings, and for each of its rows the number of the row of `table` it is from.
    """
    if not len(table):
        return table, []
    captions = table.captions()
    owner = [row for row, texts in enumerate(captions) for _ in texts]
    number = [place for texts in captions for place in range(1, len(texts) + 1)]
    columns: dict[str, list[str]] = {"text": [text for texts in captions for text in texts]}
    if "id" in table.rows.column_names:
        ids = table.ids()
        columns["id"] = [
            ids[row] if place == 1 else f"{ids[row]} (caption {place})"
            for row, place in zip(owner, number, strict=True)
        ]
    others = table.rows.remove_columns(list(columns))
    stored = others.with_format("arrow")
    parts = [stored[owner[begin : begin + _PART]].combine_chunks() for begin in range(0, len(owner), _PART)]
    repeated = datasets.concatenate_datasets(
        [datasets.Dataset(part, info=datasets.DatasetInfo(features=others.features)) for part in parts]
    )
    text_features = datasets.Features(dict.fromkeys(columns, datasets.Value("string")))
    replaced = datasets.Dataset.from_dict(columns, features=text_features)
    whole = datasets.concatenate_datasets([repeated, replaced], axis=1)
    return replace(table, rows=whole.select_columns(table.rows.column_names)), owner


def _permutation(name: str, order: list[str], tasks: list[str]) -> list[str]:
    """`order`, if it holds every task once."""
    for task in order:
        if task not in tasks:
            raise InterplayError(f"The order of the tasks of {name}: {unknown('task', task, tasks)}")
    twice = [task for task, count in Counter(order).items() if count > 1]
    missing = [task for task in tasks if task not in order]
    if twice or missing:
        wrong = [f"{what} {', '.join(of)}" for what, of in (("repeats", twice), ("misses", missing)) if of]
        raise InterplayError(f"The order of the tasks of {name} {' and '.join(wrong)}: name every task once.")
    return order


def _together(tables: Sequence[PairTable]) -> PairTable:
    """The rows of the tables of one stream, one after the other."""
    if not tables:
        raise InterplayError("A stream without sessions has no rows.")
    first = tables[0]
    if len(tables) == 1:
        return first
    if any(set(table.rows.column_names) != set(first.rows.column_names) for table in tables):
        raise InterplayError(
            "The sessions' tables have unlike columns; make them with `sessions_of` of one table."
        )
    try:
        rows = datasets.concatenate_datasets([table.rows for table in tables])
    except (ValueError, TypeError) as problem:
        raise InterplayError(f"The sessions' tables do not fit together ({problem}).") from None
    return replace(first, name=" + ".join(dict.fromkeys(table.name for table in tables)), rows=rows)

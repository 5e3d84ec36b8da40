"""Sessions: a table with a `task` column as tasks that arrive one after the other."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from interplay.data.schema import PairTable, Split
from interplay.errors import InterplayError, unknown

if TYPE_CHECKING:
    import datasets

FEWEST_PICTURES = 2
"""A contrastive loss needs another picture to tell a picture from; captions of one picture are no negatives."""

Small = Literal["error", "skip", "merge"]
"""What becomes of a task with too few pictures."""
MERGED = " + "
"""Stands between the names of tasks that were made one."""
_SHOWN = 5  # tasks that a message names

_Key = TypeVar("_Key", bound=Hashable)
_PART = 5000  # rows that are copied at a time
_PICTURES = 256  # pictures that are held at a time


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


def sessions_of(
    table: PairTable,
    order: Sequence[str] | None = None,
    *,
    fewest: int = FEWEST_PICTURES,
    small: Small = "error",
    splits: Sequence[Split] = ("train",),
) -> list[Session]:
    """The tasks of a table as sessions, with one row for each picture (`by_picture`).

    Args:
        table: with the columns `task` and `split`.
        order: the names of all tasks, each once; by default in the order in which they first appear in the table.
        fewest: pictures that a session needs in each of `splits`.
        small: what becomes of a task with fewer: `error`; `skip` leaves it out; `merge` makes it one with the task that
            comes next, and that with the next if they are still too few, and the last ones with the one before.
        splits: those that are going to be used.

    Raises:
        InterplayError: the table has no tasks, a row has none, `order` is not a permutation of them, or a task has
            too few pictures; where they are skipped or merged, all together have.
    """
    rows_of = _grouped(table.tasks())
    if not rows_of:
        raise InterplayError(f"{table.name} has no rows, so no sessions.")
    if "" in rows_of:
        raise InterplayError(
            f"{table.where(rows_of[''][0])} belongs to no task ({len(rows_of[''])} rows do not): name one in the "
            "column 'task', or leave the rows out."
        )
    if fewest < FEWEST_PICTURES:
        raise InterplayError(f"A session needs at least {FEWEST_PICTURES} pictures, not {fewest}.")
    names = list(rows_of) if order is None else _permutation(table.name, list(order), list(rows_of))
    pictures, _ = by_picture(table)
    pictures_of = _grouped(pictures.tasks())
    sessions = [Session(name, pictures.select(pictures_of[name])) for name in names]
    needs = dict.fromkeys(splits, fewest)
    if small == "skip":
        sessions = [session for session in sessions if not _lacks(session, needs)] or sessions
    elif small == "merge":
        sessions = _merged(sessions, needs)
    check_sessions(
        sessions, needs, "Add some, or choose what becomes of small tasks: small (--small) is skip or merge."
    )
    return sessions


def check_sessions(sessions: Sequence[Session], needs: Mapping[Split, int], advice: str) -> None:
    """Whether all sessions of a stream can be used, before the first one is.

    Args:
        needs: pictures that each needs, by split.
        advice: what to do where they do not have them, a sentence.

    Raises:
        InterplayError: some have fewer; names them, their splits and how many they have.
    """
    lacking = [
        f"task '{session.name}' has {'1 picture' if count == 1 else f'{count} pictures'} in '{split}'"
        for session in sessions
        for split, count in _lacks(session, needs).items()
    ]
    if not lacking:
        return
    more = f", and {len(lacking) - _SHOWN} more are too small" if len(lacking) > _SHOWN else ""
    wanted = ", ".join(f"{count} in '{split}'" for split, count in needs.items())
    raise InterplayError(
        f"{sessions[0].table.name}: {', '.join(lacking[:_SHOWN])}{more}; a session needs at least {wanted}. {advice}"
    )


def _lacks(session: Session, needs: Mapping[Split, int]) -> dict[Split, int]:
    """The splits in which a session has fewer pictures than it needs, and how many it has."""
    counts = by_picture(session.table)[0].splits()
    return {split: counts.get(split, 0) for split, least in needs.items() if counts.get(split, 0) < least}


def _merged(sessions: Sequence[Session], needs: Mapping[Split, int]) -> list[Session]:
    """Small sessions made one with those that follow, the last ones with the one before."""
    found: list[Session] = []
    waiting: list[Session] = []
    for session in sessions:
        waiting.append(session)
        if not _lacks(one := _as_one(waiting), needs):
            found.append(one)
            waiting = []
    if waiting:
        found = [*found[:-1], _as_one([*found[-1:], *waiting])]
    return found


def _as_one(sessions: Sequence[Session]) -> Session:
    """Several sessions as one, with one row for each picture."""
    table = _together([session.table for session in sessions])
    name = MERGED.join(session.name for session in sessions)
    return Session(name, by_picture(table, [name] * len(table))[0])


def seed_of(seed: int, task: str) -> int:
    """The seed of a task's prompts, the same on every machine and wherever in the stream the task is learned."""
    text = f"{seed},{task}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest())


def all_at_once(sessions: Sequence[Session]) -> Session:
    """All sessions as one named `joint`, for joint training: the upper bound of a stream.

    Raises:
        InterplayError: there is no session, or their tables have unlike columns.
    """
    return Session("joint", _together([session.table for session in sessions]))


def _captions() -> datasets.Features:
    """The column of texts where every row has a list of them."""
    import datasets

    return datasets.Features({"text": datasets.List(datasets.Value("string"))})


def alike(sessions: Sequence[Session]) -> list[Session]:
    """Sessions from different tables with the columns that all retrieval needs, so that they go together.

    Every row has a list of captions; ids, labels and other columns are left behind.
    """
    import datasets

    found = []
    for session in sessions:
        table = session.table
        kept = [name for name in ("image", "split") if name in table.rows.column_names]
        captions = datasets.Dataset.from_dict({"text": table.captions()}, features=_captions())
        rows = datasets.concatenate_datasets([table.rows.select_columns(kept), captions], axis=1)
        found.append(Session(session.name, replace(table, kind="pairs", classes=(), rows=rows)))
    return found


def seen(sessions: Sequence[Session], t: int, split: Split) -> tuple[PairTable, list[int]]:
    """The rows of one split of all tasks up to task t, one for each picture of a task (`by_picture`).

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
    tasks = [task for task, table in enumerate(tables) for _ in range(len(table))]
    rows, first = by_picture(_together(tables), tasks)
    return rows, [tasks[row] for row in first]


def by_picture(table: PairTable, within: Sequence[Hashable] | None = None) -> tuple[PairTable, list[int]]:
    """One row for each picture file, with all of its captions, for a table with a row for each (picture, caption).

    Rows are of one picture where their task, their split and the path of their picture are the same, and, where the
    table holds pictures as bytes, the bytes too. A picture without a path is a picture of its own, whatever its bytes.
    Pictures come in the order of their first rows, which the other columns are from, and captions in that of the rows.

    Args:
        table: with any number of captions a row.
        within: takes the place of the tasks, one value a row; by default the column `task`, where there is one.

    Returns:
        The table, or where no picture has two rows `table` itself, and for each of its rows the number of the first
        row of `table` that it is from.
    """
    names = table.rows.column_names
    groups: list[Sequence[Hashable]] = [_files(table)]
    if within is not None or "task" in names:
        groups.append(table.tasks() if within is None else within)
    if "split" in names:
        groups.append(table.rows["split"][:])
    pictures = list(_grouped(zip(*groups, strict=True)).values())
    first = [rows[0] for rows in pictures]
    if len(first) == len(table):
        return table, first
    captions = table.captions()
    texts = [[text for row in rows for text in captions[row]] for rows in pictures]
    return _remade(table, first, {"text": texts}, _captions()), first


def by_caption(table: PairTable) -> tuple[PairTable, list[int]]:
    """One row for each (image, caption), for a table with several captions a row.

    Of a row with the id `a` the captions have the ids `a`, `a (caption 2)`, …; the other columns are repeated, also
    pictures that the table holds as bytes (not as paths).

    Returns:
        The table, whose texts are strings, and for each of its rows the number of the row of `table` it is from.
    """
    import datasets

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
    return _remade(
        table, owner, columns, datasets.Features(dict.fromkeys(columns, datasets.Value("string")))
    ), owner


def _grouped(keys: Iterable[_Key]) -> dict[_Key, list[int]]:
    """The places of equal keys, both in their order."""
    places: dict[_Key, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    return places


def _files(table: PairTable) -> list[Hashable]:
    """What tells the picture file of each row from others: its path with a digest of its bytes, or else the row."""
    found: list[Hashable] = []
    for begin in range(0, len(table), _PICTURES):
        for source in table.sources(range(begin, min(begin + _PICTURES, len(table)))):
            path, content = source["path"], source["bytes"]
            digest = hashlib.sha256(content).digest() if path and content is not None else None
            found.append((path, digest) if path else len(found))
    return found


def _remade(
    table: PairTable, rows: Sequence[int], columns: dict[str, list[Any]], features: datasets.Features
) -> PairTable:
    """Some rows of a table, repeats allowed, with some of its columns replaced."""
    import datasets

    others = table.rows.remove_columns(list(columns))
    stored = others.with_format("arrow")
    parts = [stored[rows[begin : begin + _PART]].combine_chunks() for begin in range(0, len(rows), _PART)]
    kept = datasets.concatenate_datasets(
        [datasets.Dataset(part, info=datasets.DatasetInfo(features=others.features)) for part in parts]
    )
    replaced = datasets.Dataset.from_dict(columns, features=features)
    whole = datasets.concatenate_datasets([kept, replaced], axis=1)
    return replace(table, rows=whole.select_columns(table.rows.column_names))


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
    import datasets

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

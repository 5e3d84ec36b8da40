"""The folder of a retriever's run: what is in it, and what has to go when a task is learned or forgotten.

A session's checkpoints hold its prompts and those of all sessions before it. They are there to go on after a kill; once
the retriever is saved they are of no use, and with them around no task would ever be forgotten.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

import interplay.artifacts as artifacts
from interplay.errors import InterplayError
from interplay.files import delete, leftovers, write_text
from interplay.locks import writing
from interplay.training.report import BEST, LAST, OPTIONS, SESSIONS

LEARNED = "learned"
"""Folder for checkpoints and logs of sessions that were learned later than a stream."""
TASK = "task.json"
"""In the folder of a session: whose it is. Runs of older versions have none."""
MATRIX = "matrix.json"
BARE = "bare.json"
"""The matrix of the bare backbone, beside that of the run."""
SUMMARY = "summary.json"
_RECORDS = (MATRIX, BARE, SUMMARY)
_OWN = (artifacts.WEIGHTS, artifacts.CONFIG, "README.md", "env.json", OPTIONS, *_RECORDS)
"""Files that only those write who hold the folder."""
_NAMES = ("order", "tasks", "task")
"""Under these keys of a record stand names of tasks."""
_BY_NAME = ("per_task", "bare_per_task", "counts")
"""What stands under these keys is sorted by the names of tasks."""


@contextlib.contextmanager
def session(place: Path, task: str) -> Iterator[None]:
    """The folder of a session, held, with a note whose it is; a session without a first epoch leaves none.

    Raises:
        InterplayError: another process writes there; it cannot be written.
    """
    with writing(place):
        if not (place / LAST).exists():  # that of another session, or of this one, which goes on
            write_text(place / TASK, json.dumps({"task": task}, ensure_ascii=False) + "\n")
        try:
            yield
        except InterplayError:
            if not (place / LAST).exists():
                delete(place / TASK)
            raise


def check_seen(run: Path, identity: str, seen: Collection[str]) -> None:
    """Whether a folder holds no state of a retriever that it does not know of and would undo by being saved there.

    Args:
        identity: the retriever's; another one may be replaced.
        seen: marks of what it was read from or saved as.

    Raises:
        InterplayError: it does.
    """
    mark = artifacts.mark(run)
    if not mark or mark in seen:
        return
    there = artifacts.read_header(run)
    if there.get("identity") == identity:
        known = ", ".join(there["sessions"]) or "no task"
        raise InterplayError(
            f"The retriever in {run} has changed since this one was read from it (it knows {known}): open it again and "
            "repeat what was done, or save into another folder."
        )


def free_folder(run: Path) -> Path:
    """A folder for one more session, with the next number that none has used."""
    numbers = [int(path.name) for path in (run / LEARNED).glob("*") if path.name.isdigit()]
    return run / LEARNED / f"{max(numbers, default=0) + 1:02d}"


def tidy(run: Path, known: Collection[str]) -> None:
    """Delete what a saved run has no use for: checkpoints, half-written files, folders of tasks that it does not know.

    Args:
        run: its lock is held.
        known: the retriever's tasks.

    Raises:
        InterplayError: something cannot be deleted.
    """
    for place in _places(run):
        task = _task_of(place)
        if task is not None and task not in known:
            delete(place)
        else:
            _clear(place)
    _clear(run, _OWN)


def erase(run: Path, tasks: Collection[str]) -> None:
    """Delete all that a run's folder holds of some tasks, but for the retriever itself, which is saved afterwards.

    Checkpoints of all sessions go, since later ones hold the prompts of earlier ones. In the records of a stream
    `(forgotten N)` takes the place of the N-th task's name; its figures stay, as those of the others hang on them.

    Args:
        run: its lock is held.
        tasks: names.

    Raises:
        InterplayError: a record is damaged; something cannot be written or deleted.
    """
    records = {name: _read(run / name) for name in _RECORDS if (run / name).exists()}
    renamed: dict[str, str] = {}
    for record in records.values():  # a kill may have left the name in some of them
        names = record.get("tasks", record.get("order"))
        if isinstance(names, list):
            renamed |= {task: f"(forgotten {names.index(task) + 1})" for task in tasks if task in names}
    for place in _places(run):
        if _task_of(place) in tasks:
            delete(place)
        else:
            _clear(place)
    _clear(run, _OWN)
    for name, record in records.items():
        if (after := _renamed(record, renamed)) != record:
            write_text(run / name, json.dumps(after, indent=2, ensure_ascii=False) + "\n")
    if (run / OPTIONS).exists():
        options = _read(run / OPTIONS)
        named = [name.strip() for name in str(options.get("order", "")).split(",")]
        if not set(tasks).isdisjoint(named):
            kept = {**options, "order": ",".join(name for name in named if name not in tasks)}
            write_text(run / OPTIONS, yaml.safe_dump(kept, sort_keys=False, allow_unicode=True))


def _places(run: Path) -> Iterator[Path]:
    """The folders of all sessions."""
    for parent in (run / SESSIONS, run / LEARNED):
        if parent.is_dir():
            yield from sorted(path for path in parent.iterdir() if path.is_dir())


def _task_of(place: Path) -> str | None:
    """Whose a session's folder is; None where it does not say so."""
    if not (place / TASK).exists():
        return None
    return str(_read(place / TASK).get("task"))


def _clear(folder: Path, names: Collection[str] | None = None) -> None:
    """Delete checkpoints and files that a kill left half written."""
    for path in (folder / LAST, folder / BEST, *leftovers(folder, names)):
        delete(path)


def _read(path: Path) -> dict[str, Any]:
    """A record.

    Raises:
        InterplayError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = yaml.safe_load(text) if path.name == OPTIONS else json.loads(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        found = None
    if not isinstance(found, dict):
        raise InterplayError(
            f"{path} is damaged, so no task can be taken out of it: delete it, and try again."
        )
    return found


def _renamed(value: Any, names: Mapping[str, str], key: str = "") -> Any:
    """A record with some tasks under other names."""
    if isinstance(value, dict):
        within = names if key in _BY_NAME else {}
        return {within.get(name, name): _renamed(item, names, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names, key) for item in value]
    return names.get(value, value) if key in _NAMES and isinstance(value, str) else value

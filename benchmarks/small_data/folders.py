"""The folder of each set, `metadata.csv` and pictures, as a user would have it, and the set's figures."""

from __future__ import annotations

import csv
import io
import shutil
from collections import Counter
from functools import cache
from pathlib import Path

import filelock

from benchmarks.small_data.catalogue import sets, streams
from benchmarks.small_data.drafts import Draft, Made, ceiling
from interplay import load
from interplay.data.paths import cache_folder
from interplay.data.schema import Kind, PairTable
from interplay.errors import unknown
from interplay.files import write_text


def table(name: str) -> PairTable:
    """A set of classification, read from its folder.

    Raises:
        InterplayError: there is no such set, or its pictures cannot be fetched or written.
    """
    if name not in sets():
        raise unknown("set", name, sets())
    return load(folder(name), verify=False)


def stream(name: str) -> PairTable:
    """A stream of tasks, read from its folder; errors as `table`."""
    if name not in streams():
        raise unknown("stream", name, streams())
    return load(folder(name), verify=False)


def edition(name: str) -> int:
    """Which one of a set's editions this is.

    Raises:
        InterplayError: there is no such set.
    """
    known = sets() | streams()
    if name not in known:
        raise unknown("set", name, known)
    return known[name].edition


@cache
def made(name: str) -> Made:
    """The rows of a set or stream, and how its pictures are drawn; nothing is written.

    Raises:
        InterplayError: there is no such set, or its package cannot be fetched.
    """
    known = sets() | streams()
    if name not in known:
        raise unknown("set", name, known)
    return known[name].make(name)


def folder(name: str) -> Path:
    """The folder of a set, as `interplay train --data FOLDER` takes it; made once, in the cache folder.

    Raises:
        InterplayError: as `made`; the folder cannot be written.
    """
    target = cache_folder() / "own_data" / f"v{edition(name)}" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(target.with_name(f".{name}.lock")):
        if not target.exists():
            half_done = target.with_name(f".{name}.half")
            shutil.rmtree(half_done, ignore_errors=True)
            _write(half_done, made(name), (sets() | streams())[name].kind)
            half_done.rename(target)
    return target


def _write(target: Path, one: Made, kind: Kind) -> None:
    """A CSV file and the pictures; several rows may show one picture."""
    (target / "pictures").mkdir(parents=True)
    file_of = {}
    for number, picture in enumerate(dict.fromkeys(row.picture for row in one.rows)):
        file_of[picture] = f"pictures/{number:05}.png"
        (target / file_of[picture]).write_bytes(one.draw(picture))
    text, label = "captions" if kind == "pairs" else "text", {"single": "label", "multi": "labels"}.get(kind)
    columns = ["file_name", text, "split", label or "task"]
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(columns)
    for row in one.rows:
        last = "|".join(row.labels) if label else row.task
        writer.writerow([file_of[row.picture], "|".join(row.texts), row.split, last])
    write_text(target / "metadata.csv", lines.getvalue())


def described(name: str) -> dict[str, object]:
    """A set in figures: rows to learn from and of test, classes or tasks, the commonest one's share, words of a text.

    `text` and `picture` are the accuracy, over all rows, of the best rule that knows what the text, or the picture, was
    made to say; absent where nobody made it by a rule.
    """
    one, rows = (sets() | streams())[name], made(name).rows
    groups = Counter(group for row in rows for group in (row.labels or (row.task,)))
    learned = [row for row in rows if row.split != "test"]
    figures: dict[str, object] = {
        "name": name,
        "half": one.half,
        "kind": one.kind,
        "decides": one.decides,
        "rows": len(learned),
        "test": len(rows) - len(learned),
        "classes": len(groups),
        "commonest": max(groups.values()) / len(rows),
        "words": sum(len(text.split()) for row in rows for text in row.texts)
        / sum(len(row.texts) for row in rows),
        "about": one.about,
    }
    if all(row.picture_fact and row.text_fact for row in rows) and one.kind == "single":
        figures["text"] = ceiling(rows, _text_fact)
        figures["picture"] = ceiling(rows, _picture_fact)
    return figures


def _text_fact(row: Draft) -> str:
    return row.text_fact


def _picture_fact(row: Draft) -> str:
    return row.picture_fact

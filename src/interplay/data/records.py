"""Rows one after the other: what CSV, TSV, JSONL and JSON files hold, and what a program has in memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interplay.errors import InterplayError

if TYPE_CHECKING:
    import pandas

SEPARATED = {".csv": ",", ".tsv": "\t"}
"""Files of cells, with what stands between two of them."""
LINES = (*SEPARATED, ".jsonl", ".json")
"""Files that `file_records` reads."""

_LONGEST_CELL = 2**31 - 1


@dataclass(frozen=True)
class Record:
    """One row.

    Args:
        origin: the file, or what the program's data are called.
        row: its number there, from 1.
        folder: what paths of pictures in it are relative to.
        cells: its columns.
        separated: whether a cell with several values holds them as one text, separated by `|`.
        fault: why the row could not be parsed; empty where it could.
    """

    origin: str
    row: int
    folder: Path
    cells: dict[str, Any]
    separated: bool = False
    fault: str = ""


def file_records(file: Path, extra: Mapping[str, str] | None = None) -> Iterator[Record]:
    """The rows of a CSV, TSV, JSONL or JSON file, each with the `extra` cells.

    Raises:
        InterplayError: the file cannot be read, is not UTF-8 text, or names a column twice.
    """
    kind = file.suffix.lower()
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            first = lines.readline()
            if "\0" in first:
                raise UnicodeError("it holds zero bytes, as UTF-16 does")
            rest = chain([first] if first else [], lines)
            separator = SEPARATED.get(kind)
            parsed = _json_rows(rest) if separator is None else _separated_rows(rest, separator)
            for row, (cells, fault) in enumerate(parsed, start=1):
                yield Record(
                    str(file), row, file.parent, {**cells, **(extra or {})}, separator is not None, fault
                )
    except _TwiceNamed as problem:
        raise InterplayError(f"{file}: {problem}.") from None
    except (OSError, UnicodeError, csv.Error) as problem:
        raise InterplayError(f"{file} cannot be read ({problem}). Save it as UTF-8 text.") from None


class _TwiceNamed(Exception):
    """A column is there twice."""


def _separated_rows(lines: Iterable[str], separator: str) -> Iterator[tuple[dict[str, Any], str]]:
    limit = csv.field_size_limit(_LONGEST_CELL)  # the module's own limit refuses texts beyond 128 kB
    try:
        reader = csv.reader(lines, delimiter=separator)
        header = [name.strip() for name in next(reader, [])]
        check_once(header)
        for cells in reader:
            if not cells:
                continue
            fault = (
                ""
                if len(cells) == len(header)
                else f"it has {len(cells)} cells, the header has {len(header)}"
            )
            row: dict[str, Any] = dict(zip(header, cells, strict=False))
            yield {**dict.fromkeys(header, ""), **row}, fault
    finally:
        csv.field_size_limit(limit)


def check_once(names: Sequence[str]) -> None:
    """Refuse a column that is there twice."""
    twice = [name for at, name in enumerate(names) if name and name in names[:at]]
    if twice:
        raise _TwiceNamed(f"the column '{twice[0]:.60}' is there twice; name each once")


def _json_rows(lines: Iterable[str]) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects of a JSON array, or of lines of JSON."""
    rows: Iterator[str] = filter(str.strip, lines)
    first = next(rows, "")
    if first.lstrip().startswith("["):
        whole = [first, *rows]
        try:
            yield from map(_json_cells, _parsed("".join(whole)))
            return
        except _Unparsed:  # lines of which the first is no object, or a broken array
            first, rows = whole[0], iter(whole[1:])
    yield from map(_json_row, chain([first] if first else [], rows))


class _Unparsed(Exception):
    """Why a text is no JSON."""


def decoded_json(
    text: str,
    object_hook: Callable[[dict[str, Any]], Any] | None = None,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """A text as JSON.

    Args:
        object_hook, object_pairs_hook: as `json.loads` takes them.

    Raises:
        ValueError: it is none, or is nested too deep.
    """
    try:
        return json.loads(text, object_hook=object_hook, object_pairs_hook=object_pairs_hook)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _parsed(text: str) -> Any:
    try:
        return decoded_json(text, object_pairs_hook=_object)
    except ValueError as problem:
        raise _Unparsed(f"it is not valid JSON ({problem})") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    check_once([key for key, _ in pairs])
    return dict(pairs)


def _json_row(line: str) -> tuple[dict[str, Any], str]:
    try:
        return _json_cells(_parsed(line))
    except (_Unparsed, _TwiceNamed) as problem:
        return {}, str(problem)


def _json_cells(value: Any) -> tuple[dict[str, Any], str]:
    return (value, "") if isinstance(value, dict) else ({}, "it is not a JSON object")


def memory_records(source: Any, name: str) -> Iterator[Record]:
    """The rows of a DataFrame, of a mapping of columns, or of any iterable of mappings.

    Args:
        name: what messages call it.

    Raises:
        InterplayError: a column is there twice or shorter than the others, or a row is no mapping of columns.
    """
    import pandas

    separated = isinstance(source, pandas.DataFrame)
    rows = _of_columns(source, name) if isinstance(source, (pandas.DataFrame, Mapping)) else source
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise InterplayError(
                f"{name}, row {number} is not a mapping of columns to values but of the type {type(row).__name__}."
            )
        cells = {str(column): value for column, value in row.items()}
        yield Record(name, number, Path(), cells, separated)


def _of_columns(source: pandas.DataFrame | Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    names = [str(column) for column in source]
    try:
        check_once(names)
    except _TwiceNamed as problem:
        raise InterplayError(f"{name}: {problem}.") from None
    columns = [source[column] for column in source]
    for column, values in zip(names, columns, strict=True):
        if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
            raise InterplayError(
                f"{name}: the column '{column:.60}' takes a list of values, not a single {type(values).__name__}."
            )
    lists = [list(values) for values in columns]
    if len({len(values) for values in lists}) > 1:
        sizes = ", ".join(f"{column:.30} {len(values)}" for column, values in zip(names, lists, strict=True))
        raise InterplayError(f"{name}: the columns are not equally long: {sizes:.200}.")
    for cells in zip(*lists, strict=True):
        yield dict(zip(names, cells, strict=True))


def memory_name(source: Any) -> str:
    """What messages call data that a program has in memory."""
    import datasets
    import pandas

    if isinstance(source, pandas.DataFrame):
        return "the DataFrame"
    known = (datasets.Dataset, datasets.DatasetDict, datasets.IterableDataset)
    return "the Dataset" if isinstance(source, known) else "the given rows"

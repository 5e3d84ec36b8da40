"""Metadata beside pictures and texts, read from a CSV file."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from interplay.errors import InterplayError, unknown

Value = str | int | float | bool
_OWNERS: dict[Literal["image", "text"], tuple[str, ...]] = {
    "image": ("image", "file_name", "image_path", "path"),
    "text": ("text", "caption"),
}
_ID = "id"
_NOTHING = frozenset(("", "n/a", "na", "nan", "null", "none", "-", "?"))
"""What a cell of a column of numbers holds where there is none, in small letters."""
_KINDS: tuple[tuple[re.Pattern[str], Callable[[str], Value]], ...] = (
    (re.compile(r"-?(0|[1-9]\d{0,18})", re.ASCII), int),
    (re.compile(r"-?(0|[1-9]\d{0,17})(\.\d{1,30})?([eE][+-]?\d{1,2})?", re.ASCII), float),
    (re.compile(r"true|false", re.IGNORECASE), lambda cell: cell.lower() == "true"),
)


@dataclass(frozen=True)
class Notes:
    """Metadata of pictures, by absolute path, and of texts.

    Attributes:
        source: the file.
        image, text: what is kept of each; an id of the user's own under `id`.
        remarks: one sentence for each column that may not hold what was meant.
    """

    source: str = ""
    image: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    text: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def of(self, side: Literal["image", "text"], items: Sequence[str]) -> list[Mapping[str, Value]]:
        """Metadata of each item; empty where the file says nothing of it."""
        return [
            {name: value for name, value in about.items() if name != _ID}
            for about in self._about(side, items)
        ]

    def ids(self, side: Literal["image", "text"], items: Sequence[str]) -> list[str]:
        """The user's own id of each item; empty where the file gives none."""
        return [str(about.get(_ID, "")) for about in self._about(side, items)]

    def _about(self, side: Literal["image", "text"], items: Sequence[str]) -> list[Mapping[str, Value]]:
        if side == "image":
            return [self.image.get(os.path.abspath(item), {}) for item in items]
        return [self.text.get(item, {}) for item in items]

    def left_over(self, images: Sequence[str], texts: Sequence[str]) -> list[str]:
        """One sentence for each side of which the file describes items that are not there.

        Raises:
            InterplayError: it describes none that is.
        """
        paths, given = {os.path.abspath(item) for item in images}, {*texts}
        others = {"pictures": [*({*self.image} - paths)], "texts": [*({*self.text} - given)]}
        if self.source and sum(map(len, others.values())) == len(self.image) + len(self.text):
            raise InterplayError(
                f"{self.source} describes none of the pictures and texts that are added: its paths are relative to the "
                "file."
            )
        return [
            f"Of the {name} that {self.source} describes {len(rest):,} are not added, such as {min(rest)}."
            for name, rest in others.items()
            if rest
        ]


def read_notes(path: Path) -> Notes:
    """Read metadata; a column whose values are all numbers, or all true and false, holds such.

    Empty cells, `n/a`, `null` and their like are no values in such a column. The column `id` holds texts.

    Raises:
        InterplayError: the file cannot be read, does not say whose its rows are, or says two things of one item.
    """
    if not path.is_file():
        raise InterplayError(f"There is no file of metadata '{path}'.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows, header = list(reader), list(reader.fieldnames or ())
    except OSError as problem:
        raise InterplayError(
            f"The metadata '{path}' cannot be read ({problem.strerror or problem})."
        ) from None
    except (UnicodeDecodeError, csv.Error) as problem:
        raise InterplayError(f"The metadata '{path}' are no CSV file in UTF-8 ({problem}).") from None
    owners = {side: next((n for n in names if n in header), None) for side, names in _OWNERS.items()}
    if not any(owners.values()):
        raise InterplayError(f"The metadata '{path}': {unknown('column', 'image', header)}")
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise InterplayError(f"The metadata '{path}' have two columns '{twice}': give one another name.")
    kept = [name for name in header if name not in owners.values()]
    cells = {name: [row[name] or "" for row in rows] for name in kept}
    values: dict[str, list[Value | None]] = {name: _typed(cells[name]) for name in kept if name != _ID}
    odd = {name: _odd_one(values[name], cells[name]) for name in values}
    remarks = tuple(
        f"The column '{name}' of {path} holds texts, because of '{cells[name][at].strip()[:40]}' in row {at + 1}: it "
        "cannot be compared with numbers."
        for name, at in odd.items()
        if at is not None
    )
    if _ID in cells:
        values[_ID] = [cell.strip() or None for cell in cells[_ID]]
    notes: dict[str, dict[str, dict[str, Value]]] = {"image": {}, "text": {}}
    for number, row in enumerate(rows):
        if None in row or None in row.values():
            raise InterplayError(
                f"The metadata '{path}', row {number + 1}: it has not as many cells as the header."
            )
        about = {name: value for name in kept if (value := values[name][number]) is not None}
        for side, column in owners.items():
            owner = row[column].strip() if column else ""
            if not owner:
                continue
            key = os.path.abspath(path.parent / owner) if side == "image" else owner
            if notes[side].setdefault(key, about) != about:
                raise InterplayError(
                    f"The metadata '{path}', row {number + 1}: '{owner}' is there twice, not alike."
                )
    return Notes(str(path), notes["image"], notes["text"], remarks)


def _typed(cells: Sequence[str]) -> list[Value | None]:
    """The values of a column; None where there are none. Digits with zeros in front are no number but a code."""
    plain = [cell.strip() for cell in cells]
    values = [cell for cell in plain if cell.lower() not in _NOTHING]
    for form, kind in _KINDS:
        if values and all(_is(form, kind, cell) for cell in values):
            return [kind(cell) if cell.lower() not in _NOTHING else None for cell in plain]
    return [cell if stripped else None for cell, stripped in zip(cells, plain, strict=True)]


def _is(form: re.Pattern[str], kind: Callable[[str], Value], cell: str) -> bool:
    """Whether a cell has a kind's form, and Milvus keeps the value: whole numbers of 64 bits."""
    if not form.fullmatch(cell):
        return False
    value = kind(cell)
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def _odd_one(values: Sequence[Value | None], cells: Sequence[str]) -> int | None:
    """The first cell that makes texts of a column most of whose values are numbers; None where none does.

    Zeros in front make a column of codes, in which nothing is odd.
    """
    if not any(isinstance(value, str) for value in values):
        return None
    odd = [
        at
        for at, cell in enumerate(map(str.strip, cells))
        if cell.lower() not in _NOTHING and not any(_is(form, kind, cell) for form, kind in _KINDS[:2])
    ]
    filled = sum(cell.strip().lower() not in _NOTHING for cell in cells)
    if any(re.fullmatch(r"0\d+", cells[at].strip()) for at in odd):
        return None
    return odd[0] if odd and len(odd) <= filled / 2 else None

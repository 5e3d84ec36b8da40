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
_KINDS: tuple[tuple[re.Pattern[str], Callable[[str], Value]], ...] = (
    (re.compile(r"-?(0|[1-9]\d*)", re.ASCII), int),
    (re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,2})?", re.ASCII), float),
    (re.compile(r"true|false", re.IGNORECASE), lambda cell: cell.lower() == "true"),
)


@dataclass(frozen=True)
class Notes:
    """Metadata of pictures, by absolute path, and of texts.

    Attributes:
        source: the file.
        image, text: what is kept of each.
    """

    source: str = ""
    image: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    text: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    def of(self, side: Literal["image", "text"], items: Sequence[str]) -> list[Mapping[str, Value]]:
        """Metadata of each item; empty where the file says nothing of it."""
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

    Raises:
        InterplayError: the file cannot be read, does not say whose its rows are, or says two things of one item.
    """
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
    kept = [name for name in header if name not in owners.values()]
    values = {name: _typed([row[name] or "" for row in rows]) for name in kept}
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
    return Notes(str(path), notes["image"], notes["text"])


def _typed(cells: Sequence[str]) -> list[Value | None]:
    """The values of a column; None for empty cells. Digits with zeros in front are no number but a code."""
    plain = [cell.strip() for cell in cells]
    for form, kind in _KINDS:
        if all(form.fullmatch(cell) for cell in plain if cell):
            return [kind(cell) if cell else None for cell in plain]
    return [cell if stripped else None for cell, stripped in zip(cells, plain, strict=True)]

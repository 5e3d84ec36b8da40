"""Metadata beside pictures and texts, read from a CSV file."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
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
_WHOLE = r"-?(?:0|[1-9][0-9]{0,18})"
_NUMBER = r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?"
"""How numbers look; digits with zeros in front are a code, which pandas would take for a number."""


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
    columns = {name: column_values(cells[name]) for name in kept if name != _ID}
    remarks = tuple(
        f"The column '{name}' of {path} holds texts, because of '{cells[name][odd].strip()[:40]}' in row {odd + 1}: it "
        "cannot be compared with numbers."
        for name, (_, odd) in columns.items()
        if odd is not None
    )
    values = {name: values for name, (values, _) in columns.items()}
    if _ID in cells:
        values[_ID] = {at: cell.strip() for at, cell in enumerate(cells[_ID]) if cell.strip()}
    notes: dict[str, dict[str, dict[str, Value]]] = {"image": {}, "text": {}}
    for number, row in enumerate(rows):
        if None in row or None in row.values():
            raise InterplayError(
                f"The metadata '{path}', row {number + 1}: it has not as many cells as the header."
            )
        about = {name: values[name][number] for name in kept if number in values[name]}
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


def column_values(cells: Sequence[str]) -> tuple[dict[int, Value], int | None]:
    """The values of a column by row, and the first cell that makes texts of a column most of whose values are numbers.

    None where no cell does; codes with zeros in front are meant.
    """
    import pandas

    texts = pandas.Series(cells, dtype="string")
    plain = texts.str.strip()
    given = plain[~plain.str.lower().isin(_NOTHING)]
    if given.empty:
        return texts[plain != ""].to_dict(), None
    whole = given.map(_is_whole).astype(bool)
    number = given.str.fullmatch(_NUMBER)
    truth = given.str.lower()
    if whole.all():
        return given.astype("int64").to_dict(), None
    if number.all():
        return given.astype("float64").to_dict(), None
    if truth.isin(("true", "false")).all():
        return (truth == "true").to_dict(), None
    odd = given[~whole & ~number]
    meant = 0 < len(odd) <= len(given) / 2 and not odd.str.fullmatch("0[0-9]+").any()
    return texts[plain != ""].to_dict(), int(odd.index[0]) if meant else None


def _is_whole(cell: str) -> bool:
    """Whether Milvus keeps a cell as a whole number, of 64 bits."""
    return bool(re.fullmatch(_WHOLE, cell)) and -(2**63) <= int(cell) < 2**63

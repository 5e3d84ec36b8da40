"""From rows as found to a table that can be trusted: every row is checked, none is dropped silently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from interplay.data.formats import Raw, canonical_split
from interplay.data.images import fault
from interplay.data.picture_column import is_missing
from interplay.data.picture_sources import Unusable, encodable, regular_file
from interplay.data.schema import BadRow, Kind, PairTable
from interplay.data.splits import SHARES, SPLITS, Shares, hash_split
from interplay.errors import InterplayError, unknown

if TYPE_CHECKING:
    import datasets

OnBadRow = Literal["error", "skip"]

_READERS = 4  # threads that open pictures
_OF_LEARNING = ("label", "labels", "split")


def checked(
    name: str,
    raw: Raw,
    *,
    on_bad_row: OnBadRow,
    seed: int,
    verify: bool,
    labelled: bool = True,
    shares: Shares = SHARES,
) -> PairTable:
    """Checks every row and makes the table.

    Args:
        name: what the table will be called.
        raw: the rows as found; `cells` has at least `text` and `id`.
        on_bad_row: `error` raises at the first row that cannot be used, `skip` lists such rows in `skipped`.
        seed: of the split, where the source has none.
        verify: decode every picture once.
        labelled: whether labels and splits are read; without them a table of pairs comes out.
        shares: of the split, where the source has none.

    Raises:
        InterplayError: a row cannot be used (`on_bad_row="error"`), or none can.
    """
    import datasets

    if not labelled:
        kept = {column: values for column, values in raw.cells.items() if column not in _OF_LEARNING}
        raw = replace(raw, cells=kept, classes=(), to_split=None)
    kind: Kind = "single" if "label" in raw.cells else "multi" if "labels" in raw.cells else "pairs"
    cells, unfit = _tidied(raw)
    bad = _bad_cells(raw, cells, kind, unfit)
    good = [row for row in range(len(raw.origins)) if row not in bad]
    bad |= _bad_images(raw.images, good, verify)
    good = [row for row in good if row not in bad]
    notes = [*raw.notes]
    if unsplit := _unsplit(raw):
        cells.setdefault("split", [None] * len(raw.origins))
        rows = [row for row in good if row in unsplit]
        keys, labels = [raw.groups[row] for row in rows], [_labels(cells, row) for row in rows]
        for row, split in zip(rows, hash_split(keys, labels, seed, shares), strict=True):
            cells["split"][row] = split
        parts = "/".join(f"{share:g}" for share in shares)
        notes.append(
            f"{name} has no split column: its rows were split {parts} by a hash of seed {seed} and "
            "the id (rows with one image file stay together, and every class is kept in train)."
        )
    bad |= _unseen(cells, good)
    good = [row for row in good if row not in bad]
    skipped = tuple(BadRow(raw.origins[row][1], raw.origins[row][0], bad[row]) for row in sorted(bad))
    if skipped and on_bad_row == "error":
        more = f" (and {len(skipped) - 1} more rows)" if len(skipped) > 1 else ""
        raise InterplayError(f"{skipped[0]}{more}. Mend it, or leave such rows out with --on-bad-row skip.")
    if not good:
        first = f" The first: {skipped[0]}." if skipped else ""
        raise InterplayError(f"{name} has no row that can be used.{first}")
    present = {label for row in good for label in _labels(cells, row)}
    in_train = Counter(
        label for row in good if cells["split"][row] == "train" for label in _labels(cells, row)
    )
    notes += [
        f"The class '{label}' has one sample in train." for label in sorted(in_train) if in_train[label] == 1
    ]
    columns = {column: [values[row] for row in good] for column, values in cells.items()}
    notes += [f"{name} has no {split} rows." for split in SPLITS if split not in columns["split"]]
    pictures = raw.images if len(good) == len(raw.origins) else raw.images.select(good, keep_in_memory=True)
    return PairTable(
        name=name,
        kind=kind,
        classes=tuple(label for label in raw.classes if label in present) or tuple(sorted(present)),
        rows=datasets.concatenate_datasets([pictures, datasets.Dataset.from_dict(columns)], axis=1),
        skipped=skipped,
        notes=tuple(notes),
    )


def _unsplit(raw: Raw) -> frozenset[int]:
    """The rows whose split a hash has to choose."""
    if raw.to_split is None:
        return frozenset() if "split" in raw.cells else frozenset(range(len(raw.origins)))
    return raw.to_split


class _Unfit(Exception):
    """Why a value cannot be in a cell, as the second half of a sentence."""


def _tidied(raw: Raw) -> tuple[dict[str, list[Any]], dict[int, str]]:
    """Cells with ids, labels and tasks as strings and our names of splits; and why rows cannot be used, by row.

    If some rows have several captions, then all have a list.
    """
    cells = {column: [_plain(value) for value in values] for column, values in raw.cells.items()}
    unfit: dict[int, str] = {}

    def each(column: str, read: Callable[[Any], Any]) -> None:
        for row, value in enumerate(cells[column]):
            try:
                cells[column][row] = read(value)
            except _Unfit as problem:
                cells[column][row] = "" if column != "labels" else None
                unfit.setdefault(row, f"the {column} {problem}")

    for column in ("label", "task", "id"):
        if column in cells:
            each(column, _name)
    if "labels" in cells:
        each("labels", _names)
    if "split" in cells:
        each("split", lambda value: canonical_split(name := _name(value)) or name)
    if any(isinstance(text, list) for text in cells["text"]):
        cells["text"] = [[text] if isinstance(text, str) else text for text in cells["text"]]
    return cells, unfit


def _plain(value: Any) -> Any:
    """A cell as Python's own values; None where it is missing (NaN too)."""
    if is_missing(value):
        return None
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, (tuple, set, frozenset)) else value


def _name(value: Any) -> str:
    """The one name in a cell, empty where there is none."""
    if value is None:
        return ""
    if isinstance(value, (list, Mapping, bytes)):
        raise _Unfit(f"is not one name but {shown(value)}; several labels go into a column 'labels'")
    try:
        name = str(value).strip()
    except ValueError:  # Python writes no numbers of thousands of digits
        raise _Unfit("is a number of thousands of digits") from None
    if not encodable(name):
        raise _Unfit("holds half of a character (a lone surrogate)")
    return name


def _names(value: Any) -> list[str] | None:
    """The names in a cell; None where there are none given."""
    if value is None or value == "":
        return None
    if not isinstance(value, list):
        raise _Unfit(f"are not a list but {shown(value)}")
    try:
        names = [_name(_plain(one)) for one in value]
    except _Unfit as problem:
        raise _Unfit(f"hold one that {problem}") from None
    if "" in names:
        raise _Unfit("hold one that is missing")
    return names


def shown(value: Any) -> str:
    """A value in a message."""
    try:
        return f"{value!r:.60}"
    except ValueError:  # numbers of thousands of digits
        return f"of the type {type(value).__name__}"


def _bad_cells(raw: Raw, cells: dict[str, list[Any]], kind: Kind, unfit: Mapping[int, str]) -> dict[int, str]:
    """Why rows cannot be used, by row, as far as their cells tell."""
    bad = dict(raw.faults)
    unsplit = _unsplit(raw)
    first_with: dict[str, int] = {}
    for row, identifier in enumerate(cells["id"]):
        if row in bad:
            continue
        reason = _bad_text(cells["text"][row]) or unfit.get(row, "")
        if not reason and kind == "single" and not cells["label"][row]:
            reason = "the label is missing"
        elif not reason and kind == "multi" and cells["labels"][row] is None:
            reason = "the labels are missing"
        elif not reason and "split" in cells and row not in unsplit and cells["split"][row] not in SPLITS:
            reason = str(unknown("split", str(cells["split"][row]), SPLITS)).rstrip(".")
        elif not reason and not identifier:
            reason = "the id is missing"
        elif not reason and identifier in first_with:
            file, number = raw.origins[first_with[identifier]]
            reason = f"the id '{identifier:.60}' is already taken by row {number} of {file}"
        if reason:
            bad[row] = reason
        else:
            first_with[identifier] = row
    return bad


def _bad_text(text: Any) -> str:
    captions = text if isinstance(text, list) else [text]
    if text is None or not captions:
        return "the text is empty"
    if not all(isinstance(caption, str) for caption in captions):
        return f"the text is not a string but {shown(text)}"
    if not all(encodable(caption) for caption in captions):
        return "the text holds half of a character (a lone surrogate)"
    return "" if all(caption.strip() for caption in captions) else "the text is empty"


def _bad_images(images: datasets.Dataset, rows: Sequence[int], verify: bool) -> dict[int, str]:
    """Why pictures cannot be used, by row: whether they exist, and with `verify` whether they decode."""
    from datasets.utils import tqdm

    def look(row: int) -> str | None:
        source = images[row]["image"] or {}
        if verify:
            return fault(source)
        if source.get("bytes") is not None:
            return None
        try:
            regular_file(source.get("path") or "")
        except Unusable as problem:
            return str(problem)
        return None

    with ThreadPoolExecutor(_READERS) as pool:
        found = tqdm(pool.map(look, rows), total=len(rows), desc="Checking images", delay=2, leave=False)
        return {row: reason for row, reason in zip(rows, found, strict=True) if reason}


def _unseen(cells: dict[str, list[Any]], rows: Sequence[int]) -> dict[int, str]:
    """Rows outside of train with a label that train has not, by row; none without any train split."""
    train = [row for row in rows if cells["split"][row] == "train"]
    known = {label for row in train for label in _labels(cells, row)}
    return {
        row: f"the label '{label}' occurs in {cells['split'][row]} but never in train"
        for row in rows
        for label in _labels(cells, row)
        if train and label not in known
    }


def _labels(cells: dict[str, list[Any]], row: int) -> list[str]:
    """The labels of a checked row: one, several, or none."""
    return (
        [cells["label"][row]] if "label" in cells else list(cells["labels"][row]) if "labels" in cells else []
    )

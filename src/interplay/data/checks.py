"""From rows as found to a table that can be trusted: every row is checked, none is dropped silently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import datasets
from datasets.utils import tqdm

from interplay.data.formats import Raw, canonical_split
from interplay.data.images import fault
from interplay.data.schema import BadRow, Kind, PairTable
from interplay.data.splits import SPLITS, hash_split
from interplay.errors import InterplayError, unknown

OnBadRow = Literal["error", "skip"]

_READERS = 4  # threads that open pictures
_OF_LEARNING = ("label", "labels", "split")


def checked(
    name: str, raw: Raw, *, on_bad_row: OnBadRow, seed: int, verify: bool, labelled: bool = True
) -> PairTable:
    """Checks every row and makes the table.

    Args:
        name: what the table will be called.
        raw: the rows as found; `cells` has at least `text` and `id`.
        on_bad_row: `error` raises at the first row that cannot be used, `skip` lists such rows in `skipped`.
        seed: of the split, where the source has none.
        verify: decode every picture once.
        labelled: whether labels and splits are read; without them a table of pairs comes out.

    Raises:
        InterplayError: a row cannot be used (`on_bad_row="error"`), or none can.
    """
    if not labelled:
        kept = {column: values for column, values in raw.cells.items() if column not in _OF_LEARNING}
        raw = replace(raw, cells=kept, classes=())
    kind: Kind = "single" if "label" in raw.cells else "multi" if "labels" in raw.cells else "pairs"
    cells = _tidied(raw)
    bad = _bad_cells(raw, cells, kind)
    good = [row for row in range(len(raw.origins)) if row not in bad]
    bad |= _bad_images(raw.images, good, verify)
    good = [row for row in good if row not in bad]
    notes: list[str] = []
    if "split" not in cells:
        keys, labels = [raw.groups[row] for row in good], [_labels(cells, row) for row in good]
        cells["split"] = [None] * len(raw.origins)
        for row, split in zip(good, hash_split(keys, labels, seed), strict=True):
            cells["split"][row] = split
        notes.append(
            f"{name} has no split column: its rows were split 80/10/10 by a hash of seed {seed} and the id "
            "(rows with one image file stay together, and every class is kept in train)."
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


def _tidied(raw: Raw) -> dict[str, list[Any]]:
    """Cells with ids, labels and tasks as strings and our names of splits; what is unusable stays.

    If some rows have several captions, then all have a list.
    """
    cells = dict(raw.cells)
    for column in {"id", "label", "task"} & cells.keys():
        cells[column] = ["" if value is None else str(value).strip() for value in cells[column]]
    if "labels" in cells:
        cells["labels"] = [
            [str(one) for one in value] if isinstance(value, list) else None for value in cells["labels"]
        ]
    if "split" in cells:
        cells["split"] = [canonical_split(str(value)) or value for value in cells["split"]]
    if any(isinstance(text, list) for text in cells["text"]):
        cells["text"] = [[text] if isinstance(text, str) else text for text in cells["text"]]
    return cells


def _bad_cells(raw: Raw, cells: dict[str, list[Any]], kind: Kind) -> dict[int, str]:
    """Why rows cannot be used, by row, as far as their cells tell."""
    bad = dict(raw.faults)
    first_with: dict[str, int] = {}
    for row, identifier in enumerate(cells["id"]):
        if row in bad:
            continue
        reason = _bad_text(cells["text"][row])
        if not reason and kind == "single" and not cells["label"][row]:
            reason = "the label is missing"
        elif not reason and kind == "multi" and (cells["labels"][row] is None or "" in cells["labels"][row]):
            reason = "the labels are missing"
        elif not reason and "split" in cells and cells["split"][row] not in SPLITS:
            reason = str(unknown("split", str(cells["split"][row]), SPLITS)).rstrip(".")
        elif not reason and not identifier:
            reason = "the id is missing"
        elif not reason and identifier in first_with:
            file, number = raw.origins[first_with[identifier]]
            reason = f"the id '{identifier}' is already taken by row {number} of {file}"
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
        return f"the text is not a string but {text!r:.60}"
    return "" if all(caption.strip() for caption in captions) else "the text is empty"


def _bad_images(images: datasets.Dataset, rows: Sequence[int], verify: bool) -> dict[int, str]:
    """Why pictures cannot be used, by row: whether they exist, and with `verify` whether they decode."""

    def look(row: int) -> str | None:
        source = images[row]["image"] or {}
        if verify:
            return fault(source)
        if source.get("bytes") is None and not Path(source.get("path") or "").is_file():
            return f"the image file '{source.get('path') or ''}' does not exist"
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

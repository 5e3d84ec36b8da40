"""What lies in a source, before anything is checked: files, folders and the hub, in one shape."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets

from interplay.data.paths import cache_folder
from interplay.data.splits import SPLITS
from interplay.errors import InterplayError, unknown

COLUMNS = ("image", "text", "label", "labels", "task", "split", "id")
METADATA = ("metadata.csv", "metadata.jsonl")
TABLES = (".csv", ".jsonl", ".parquet")

_ALIASES = {"image": ("image", "file_name", "image_path", "path"), "text": ("text", "caption", "captions")}
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test",),
}
_SEPARATOR = "|"
_LONGEST_CELL = 2**31 - 1


@dataclass(frozen=True)
class Raw:
    """Rows as a source holds them.

    Args:
        images: one column `image`, undecoded; relative paths are already resolved.
        cells: the other columns of the schema that the source has, under the schema's names.
        origins: the file and the number of each row in it, from 1.
        groups: what must not straddle a split: the path of the picture, or else the id.
        faults: rows that could not even be parsed, and why.
        classes: the class names, where the source fixes their order.
    """

    images: datasets.Dataset
    cells: dict[str, list[Any]]
    origins: list[tuple[str, int]]
    groups: list[str]
    faults: dict[int, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()


def read_local(path: Path, columns: Mapping[str, str]) -> Raw:
    """Reads a file or folder.

    Args:
        path: a CSV, JSONL or Parquet file; a folder with a metadata file, or with such folders named after
            splits; or a folder that `datasets` saved.
        columns: what the schema's columns are called in the source, where the names differ.

    Raises:
        InterplayError: the format is unknown, the file cannot be parsed, or a column is missing.
    """
    if path.is_file():
        if path.suffix == ".parquet":
            return _from_dataset(_read_parquet(path), str(path), path.parent, columns)
        return _from_records(_records(path), path, columns)
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        try:
            stored = datasets.load_from_disk(str(path))
        except (OSError, ValueError, KeyError) as problem:
            raise InterplayError(f"{path} cannot be read as a saved data set ({problem}).") from None
        return from_datasets(stored, str(path), path, columns)
    metadata = _metadata_of(path)
    if metadata:
        return _from_records(_records(metadata), metadata, columns)
    parts = [
        (split, file)
        for split in SPLITS
        for name in _SPLIT_NAMES[split]
        if (file := _metadata_of(path / name)) is not None
    ]
    if not parts:
        raise InterplayError(
            f"The folder {path} holds no {' or '.join(METADATA)}, no train/validation/test folders with one, "
            "and no data set saved by `datasets`. Add a metadata file with the columns file_name and text."
        )
    records = [record for split, file in parts for record in _records(file, {"split": split})]
    return _from_records(iter(records), path, columns)


def from_datasets(
    stored: datasets.Dataset | datasets.DatasetDict, name: str, folder: Path, columns: Mapping[str, str]
) -> Raw:
    """Takes over a data set of the `datasets` library, with its splits where it has several.

    Raises:
        InterplayError: a column is missing, or a split has a name that is none of ours.
    """
    if isinstance(stored, datasets.Dataset):
        return _from_dataset(stored, name, folder, columns)
    if list(stored) == ["train"]:  # what a data set without splits looks like on the hub
        return _from_dataset(stored["train"], name, folder, columns)
    for part in stored:
        if canonical_split(part) is None:
            raise InterplayError(f"{name}: {unknown('split', part, SPLITS)}")
    try:
        together = datasets.concatenate_datasets(list(stored.values()))
    except ValueError as problem:
        raise InterplayError(f"The splits of {name} do not have the same columns ({problem}).") from None
    whole = _from_dataset(together, name, folder, columns)
    places = [(part, row + 1) for part, rows in stored.items() for row in range(len(rows))]
    return replace(
        whole,
        cells=whole.cells | {"split": [part for part, _ in places]},
        origins=[(f"{name} ({part})", row) for part, row in places],
    )


def canonical_split(name: str) -> str | None:
    """The schema's name of a split (`val`, `dev` → `validation`); None when it is not known."""
    return next((split for split, names in _SPLIT_NAMES.items() if name.strip().lower() in names), None)


def _metadata_of(folder: Path) -> Path | None:
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def _columns_of(present: Sequence[str], source: str, columns: Mapping[str, str]) -> dict[str, str]:
    """Which column of the source holds which column of the schema."""
    found: dict[str, str] = {}
    for ours, theirs in columns.items():
        if ours not in COLUMNS:
            raise unknown("column of the schema", ours, COLUMNS)
        if theirs not in present:
            raise InterplayError(f"{source}: {unknown('column', theirs, present)}")
        found[ours] = theirs
    for ours in COLUMNS:
        names = [name for name in _ALIASES.get(ours, (ours,)) if name in present]
        if ours not in found and names:
            found[ours] = names[0]
    for ours in ("image", "text"):
        if ours not in found:
            hint = f"Name yours with columns={{'{ours}': …}}."
            raise InterplayError(f"{source}: {unknown('column', ours, present)} {hint}")
    if "label" in found and "labels" in found:
        if ("label" in columns) == ("labels" in columns):
            raise InterplayError(
                f"{source} has the columns 'label' and 'labels'; choose one: columns={{'label': 'label'}} or "
                "columns={'labels': 'labels'}."
            )
        del found["labels" if "label" in columns else "label"]
    return found


@dataclass(frozen=True)
class _Record:
    """One parsed line of a file; `fault` says why, when it could not be parsed."""

    file: Path
    row: int
    cells: dict[str, Any]
    fault: str = ""


def _records(file: Path, extra: Mapping[str, str] | None = None) -> Iterator[_Record]:
    """The lines of a CSV or JSONL file, each with the `extra` cells."""
    if file.suffix not in (".csv", ".jsonl"):
        raise InterplayError(
            f"{file} is not a data file that can be read: use {', '.join(TABLES)}, or a folder."
        )
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            parsed = _csv_rows(lines) if file.suffix == ".csv" else _json_rows(lines)
            for row, (cells, fault) in enumerate(parsed, start=1):
                yield _Record(file, row, {**cells, **(extra or {})}, fault)
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise InterplayError(f"{file} cannot be read ({problem}). Save it as UTF-8 text.") from None


def _csv_rows(lines: Iterator[str]) -> Iterator[tuple[dict[str, Any], str]]:
    limit = csv.field_size_limit(_LONGEST_CELL)  # the module's own limit refuses texts beyond 128 kB
    try:
        reader = csv.reader(lines)
        header = [name.strip() for name in next(reader, [])]
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


def _json_rows(lines: Iterator[str]) -> Iterator[tuple[dict[str, Any], str]]:
    for line in lines:
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except ValueError as problem:
            yield {}, f"it is not valid JSON ({problem})"
            continue
        yield (cells, "") if isinstance(cells, dict) else ({}, "it is not a JSON object")


def _from_records(records: Iterator[_Record], source: Path, columns: Mapping[str, str]) -> Raw:
    rows = list(records)
    if not rows:
        raise InterplayError(f"{source} holds no rows.")
    present = list(dict.fromkeys(name for row in rows for name in row.cells))
    found = _columns_of(present, str(source), columns)
    root = source if source.is_dir() else source.parent
    paths = [_resolved(row.cells.get(found["image"]), row.file.parent) for row in rows]
    names = _names(paths, root)
    cells: dict[str, list[Any]] = {ours: [] for ours in found if ours != "image"}
    for row in rows:
        for ours, values in cells.items():
            value = row.cells.get(found[ours])
            values.append(_split_cell(ours, value) if row.file.suffix == ".csv" else value)
    cells.setdefault("id", _numbered(names))
    return Raw(
        images=_path_images(paths),
        cells=cells,
        origins=[(str(row.file), row.row) for row in rows],
        groups=names,
        faults={number: row.fault for number, row in enumerate(rows) if row.fault},
    )


def _from_dataset(rows: datasets.Dataset, source: str, folder: Path, columns: Mapping[str, str]) -> Raw:
    found = _columns_of(rows.column_names, source, columns)
    cells = {ours: list(rows[theirs]) for ours, theirs in found.items() if ours != "image"}
    classes: tuple[str, ...] = ()
    for ours in ("label", "labels"):
        feature = rows.features[found[ours]] if ours in found else None
        feature = getattr(feature, "feature", feature)  # what a list is a list of
        if isinstance(feature, datasets.ClassLabel):
            classes = tuple(feature.names)
            cells[ours] = [_class_names(value, classes) for value in cells[ours]]
    image = rows.features[found["image"]]
    if isinstance(image, datasets.Value) and image.dtype in ("string", "large_string"):
        paths = [_resolved(name, folder) for name in rows[found["image"]]]
        names = _names(paths, folder)
        images = _path_images(paths)
        cells.setdefault("id", _numbered(names))
    else:
        images = rows.select_columns([found["image"]]).rename_columns({found["image"]: "image"})
        images = images.cast_column("image", datasets.Image(decode=False))
        cells.setdefault("id", [str(row) for row in range(len(rows))])
        names = [str(name) for name in cells["id"]]
    return Raw(
        images=images,
        cells=cells,
        origins=[(source, row + 1) for row in range(len(rows))],
        groups=names,
        classes=classes,
    )


def _read_parquet(path: Path) -> datasets.Dataset:
    try:
        return datasets.Dataset.from_parquet(str(path), cache_dir=str(cache_folder() / "parquet"))
    except Exception as problem:  # the builder wraps Arrow's errors in its own
        raise InterplayError(f"{path} cannot be read as a Parquet file ({problem}).") from None


def _path_images(paths: Sequence[str | None]) -> datasets.Dataset:
    features = datasets.Features({"image": datasets.Image(decode=False)})
    images = [{"path": path, "bytes": None} if path else None for path in paths]
    return datasets.Dataset.from_dict({"image": images}, features=features)


def _resolved(name: object, folder: Path) -> str | None:
    return str(folder.absolute() / str(name)) if name else None


def _names(paths: Sequence[str | None], folder: Path) -> list[str]:
    """Paths as seen from a folder where they lie below it; the row number for a row without any."""
    start = folder.absolute()
    return [
        f"row {row}"
        if path is None
        else str(Path(path).relative_to(start) if Path(path).is_relative_to(start) else path)
        for row, path in enumerate(paths, start=1)
    ]


def _numbered(names: Sequence[str]) -> list[str]:
    """Names made unique: `a.png`, `a.png#2`, …"""
    count: Counter[str] = Counter()
    unique = []
    for name in names:
        count[name] += 1
        unique.append(name if count[name] == 1 else f"{name}#{count[name]}")
    return unique


def _split_cell(column: str, value: Any) -> Any:
    """A CSV cell: `text` and `labels` hold lists separated by `|`; no `labels` means a missing one."""
    if column == "labels":
        return [part.strip() for part in value.split(_SEPARATOR)] if value else None
    if column == "text" and value and _SEPARATOR in value:
        return [part.strip() for part in value.split(_SEPARATOR)]
    return value


def _class_names(value: Any, classes: Sequence[str]) -> Any:
    """Class numbers as names; -1 is how `datasets` says that a label is missing."""
    if isinstance(value, list):
        return [_class_names(number, classes) for number in value]
    return None if value is None or value < 0 else classes[value]

"""What lies in a source, before anything is checked: files, folders, the hub and memory, in one shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interplay.data.class_folders import NO_TEXT, PICTURES, class_folders, class_records
from interplay.data.paths import cache_folder
from interplay.data.picture_column import group, holds_files, image_column, stored, values_of
from interplay.data.picture_sources import Unusable
from interplay.data.records import LINES, Record, file_records
from interplay.data.splits import SPLITS, Split
from interplay.errors import InterplayError, unknown

if TYPE_CHECKING:
    import datasets

COLUMNS = ("image", "text", "label", "labels", "task", "split", "id")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.tsv", "metadata.json")
_SAVED = ("dataset_dict.json", "state.json")
TABLES = (*LINES, ".parquet")
CAPTIONS = "captions"
"""The name of a text column that holds several texts in a cell; in `columns` it asks for that."""

_ALIASES = {"image": ("image", "file_name", "image_path", "path"), "text": ("text", "caption", "captions")}
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test",),
}
_SEPARATOR = "|"


@dataclass(frozen=True)
class Raw:
    """Rows as a source holds them.

    Args:
        images: one column `image`, undecoded; relative paths are already resolved.
        cells: the other columns of the schema that the source has, under the schema's names.
        origins: the file and the number of each row in it, from 1.
        groups: what must not straddle a split: the path of the picture, its content, or else the id.
        faults: rows that could not even be parsed, and why.
        classes: the class names, where the source fixes their order.
        numbered: whether the ids are ours, because the source has none.
        notes: what the reader decided by itself.
        to_split: the rows whose split is still to be chosen; by default all of a source without a split, else none.
    """

    images: datasets.Dataset
    cells: dict[str, list[Any]]
    origins: list[tuple[str, int]]
    groups: list[str]
    faults: dict[int, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    numbered: bool = False
    notes: tuple[str, ...] = ()
    to_split: frozenset[int] | None = None


@dataclass(frozen=True)
class _Found:
    """Which column of a source holds which column of the schema, and whether its texts are several in a cell."""

    columns: dict[str, str]
    captions: bool

    def other(self) -> Iterator[tuple[str, str]]:
        """All but the pictures."""
        return ((ours, theirs) for ours, theirs in self.columns.items() if ours != "image")


def is_data_folder(folder: Path) -> bool:
    """Whether a folder says itself what its rows are: it has a metadata file, or `datasets` saved it."""
    return any((folder / name).exists() for name in (*METADATA, *_SAVED))


def read_local(path: Path, columns: Mapping[str, str]) -> Raw:
    """Reads a file or folder.

    Args:
        path: a CSV, TSV, JSONL, JSON or Parquet file; a folder with a metadata file, with one folder a class, or with
            such folders named after splits; or a folder that `datasets` saved.
        columns: what the schema's columns are called in the source, where the names differ.

    Raises:
        InterplayError: the format is unknown, the file cannot be parsed, or a column is missing.
    """
    if path.is_file():
        if path.suffix.lower() == ".parquet":
            return _from_dataset(_read_parquet(path), str(path), path.parent, columns)
        if path.suffix.lower() not in LINES:
            raise InterplayError(
                f"{path} is not a data file that can be read: use {', '.join(TABLES)}, or a folder."
            )
        return from_records(file_records(path), str(path), path.parent, columns)
    if not path.is_dir():
        raise InterplayError(f"{path} is neither a file nor a folder but a pipe or device.")
    try:
        return _read_folder(path, columns)
    except OSError as problem:
        raise InterplayError(f"The folder {path} cannot be read ({problem.strerror or problem}).") from None


def _read_folder(path: Path, columns: Mapping[str, str]) -> Raw:
    import datasets

    if any((path / name).exists() for name in _SAVED):
        try:
            saved = datasets.load_from_disk(str(path))
        except Exception as problem:  # of Arrow, JSON and the library itself, as for Parquet
            raise InterplayError(f"{path} cannot be read as a saved data set ({problem!s:.200}).") from None
        return from_datasets(saved, str(path), path, columns)
    if metadata := _metadata_of(path):
        return from_records(file_records(metadata), str(metadata), metadata.parent, columns)
    folders: list[tuple[str | None, Path]] = [
        (split, path / name) for split in SPLITS for name in _SPLIT_NAMES[split] if (path / name).is_dir()
    ]
    parts = [(str(split), file) for split, place in folders if (file := _metadata_of(place)) is not None]
    if parts:
        return from_records(
            (record for split, file in parts for record in file_records(file, {"split": split})),
            str(path),
            path,
            columns,
        )
    if tables := sorted(file.name for file in path.iterdir() if file.suffix.lower() in TABLES):
        raise InterplayError(
            f"The folder {path} holds no {' or '.join(METADATA[:2])}, but {tables[0]}: give that file as the data."
        )
    sorted_in = [(split, class_folders(place)) for split, place in folders]
    whole = [(split, classes) for split, classes in sorted_in if len(classes) > 1]
    if not whole and len(classes := class_folders(path)) > 1:
        whole = [(None, classes)]
    if not whole:
        raise InterplayError(
            f"The folder {path} holds no {' or '.join(METADATA[:2])}, no folders of two and more classes with pictures "
            f"({', '.join(PICTURES)}), no train/validation/test folders with either, and no data set saved by "
            "`datasets`. Add a metadata file with the columns file_name and text."
        )
    raw = from_records(class_records(whole), str(path), path, columns)
    if set(raw.cells["text"]) == {NO_TEXT}:
        note = (
            f"{path} has no texts, so the text of every picture is '{NO_TEXT}': choose a method or head that reads "
            "the image alone, such as image_probe."
        )
        raw = replace(raw, notes=(note,))
    return raw


def from_datasets(
    found: datasets.Dataset | datasets.DatasetDict, name: str, folder: Path, columns: Mapping[str, str]
) -> Raw:
    """Takes over a data set of the `datasets` library, with its splits where it has several.

    Raises:
        InterplayError: a column is missing, or a split has a name that is none of ours.
    """
    import datasets

    if isinstance(found, datasets.Dataset):
        return _from_dataset(found.with_format(None), name, folder, columns)
    found = found.with_format(None)
    if list(found) == ["train"]:  # what a data set without splits looks like on the hub
        return _from_dataset(found["train"], name, folder, columns)
    for part in found:
        if canonical_split(part) is None:
            raise InterplayError(f"{name}: {unknown('split', part, SPLITS)}")
    try:
        together = datasets.concatenate_datasets(list(found.values()))
    except ValueError as problem:
        raise InterplayError(f"The splits of {name} do not have the same columns ({problem}).") from None
    whole = _from_dataset(together, name, folder, columns)
    places = [(part, row + 1) for part, rows in found.items() for row in range(len(rows))]
    return replace(
        whole,
        cells=whole.cells | {"split": [part for part, _ in places]},
        origins=[(f"{name} ({part})", row) for part, row in places],
    )


def joined(main: Raw, name: str, others: Mapping[Split, Raw]) -> Raw:
    """A source and further ones that hold one split each, as one.

    The main source's rows become train where it has no split; with a test source alone a hash has still to split them
    into train and validation. Of a further source with a split column the rows of its split are taken.

    Args:
        name: of the main source.
        others: by the split that they hold.

    Raises:
        InterplayError: the sources have different columns, or one of them has no rows of its split, or the main one has
            rows of another's.
    """
    import datasets

    rows = len(main.origins)
    own = main.cells.get("split", [])
    for split in others:
        if split in map(_split_of, own):
            raise InterplayError(
                f"{name} has {split} rows of its own: leave the other source for {split} out."
            )
    parts = [("train", main), *((split, _of_split(raw, split)) for split, raw in others.items())]
    columns = {*main.cells} - {"split"}
    for split, raw in parts[1:]:
        if differing := columns ^ ({*raw.cells} - {"split"}):
            raise InterplayError(
                f"{raw.origins[0][0]}, given for {split}, and {name} do not both have the column "
                f"'{min(differing)}': the columns of all parts have to be the same."
            )
    whole: dict[str, list[Any]] = {
        column: [value for _, raw in parts for value in raw.cells[column]] for column in columns
    }
    whole["id"] = [
        f"{split}/{one}" if raw.numbered else one for split, raw in parts for one in raw.cells["id"]
    ]
    hashed = not own and "validation" not in others
    own = own or ([None] * rows if hashed else ["train"] * rows)
    whole["split"] = [*own, *(split for split, raw in parts[1:] for _ in raw.origins)]
    starts = [sum(len(raw.origins) for _, raw in parts[:at]) for at in range(len(parts))]
    return Raw(
        images=datasets.concatenate_datasets([raw.images for _, raw in parts]),
        cells=whole,
        origins=[origin for _, raw in parts for origin in raw.origins],
        groups=[one for _, raw in parts for one in raw.groups],
        faults={
            start + row: reason
            for start, (_, raw) in zip(starts, parts, strict=True)
            for row, reason in raw.faults.items()
        },
        classes=main.classes,
        numbered=main.numbered,
        notes=tuple(note for _, raw in parts for note in raw.notes),
        to_split=frozenset(range(rows)) if hashed else frozenset(),
    )


def _of_split(raw: Raw, split: Split) -> Raw:
    """The rows of one split, all of a source that has none."""
    if "split" not in raw.cells:
        return raw
    kept = [row for row, name in enumerate(raw.cells["split"]) if _split_of(name) == split]
    if not kept:
        raise InterplayError(
            f"{raw.origins[0][0]} was given for {split}, and its column 'split' has no such rows."
        )
    return replace(
        raw,
        images=raw.images.select(kept, keep_in_memory=True),
        cells={column: [values[row] for row in kept] for column, values in raw.cells.items()},
        origins=[raw.origins[row] for row in kept],
        groups=[raw.groups[row] for row in kept],
        faults={at: raw.faults[row] for at, row in enumerate(kept) if row in raw.faults},
    )


def canonical_split(name: str) -> str | None:
    """The schema's name of a split (`val`, `dev` → `validation`); None when it is not known."""
    return next((split for split, names in _SPLIT_NAMES.items() if name.strip().lower() in names), None)


def _split_of(cell: Any) -> str | None:
    """The schema's name of the split in a cell; None for anything else."""
    return canonical_split(cell) if isinstance(cell, str) else None


def _metadata_of(folder: Path) -> Path | None:
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def _columns_of(present: Sequence[str], source: str, columns: Mapping[str, str]) -> _Found:
    """Which columns of a source are those of the schema."""
    found: dict[str, str] = {}
    for ours, theirs in columns.items():
        if ours not in (*COLUMNS, CAPTIONS):
            raise unknown("column of the schema", ours, (*COLUMNS, CAPTIONS))
        if theirs not in present:
            raise InterplayError(f"{source}: {unknown('column', theirs, present)}")
        found["text" if ours == CAPTIONS else ours] = theirs
    for ours in COLUMNS:
        names = [name for name in _ALIASES.get(ours, (ours,)) if name in present]
        if ours not in found and names:
            found[ours] = names[0]
    for ours in ("image", "text"):
        if ours not in found:
            hint = f"Name yours with columns={{'{ours}': …}}, or --columns {ours}=…"
            raise InterplayError(f"{source}: {unknown('column', ours, present)} {hint}")
    if "label" in found and "labels" in found:
        if ("label" in columns) == ("labels" in columns):
            raise InterplayError(
                f"{source} has the columns 'label' and 'labels'; choose one: columns={{'label': 'label'}} or "
                "columns={'labels': 'labels'}."
            )
        del found["labels" if "label" in columns else "label"]
    return _Found(found, CAPTIONS in columns or found["text"] == CAPTIONS)


def from_records(records: Iterator[Record], source: str, root: Path, columns: Mapping[str, str]) -> Raw:
    """Rows that came one after the other.

    Args:
        records: the rows.
        source: what messages call them.
        root: the folder from which ids of pictures are seen.
        columns: what the schema's columns are called in the source, where the names differ.

    Raises:
        InterplayError: there are no rows, or a column is missing.
    """
    rows = list(records)
    if not rows:
        raise InterplayError(f"{source} holds no rows.")
    present = list(dict.fromkeys(name for row in rows for name in row.cells))
    if not present:
        raise InterplayError(f"{source} has no row that can be used: row {rows[0].row}: {rows[0].fault}.")
    found = _columns_of(present, source, columns)
    cells: dict[str, list[Any]] = {ours: [] for ours, _ in found.other()}
    pictures, faults = [], {}
    for number, row in enumerate(rows):
        for ours, theirs in found.other():
            split = row.separated and (ours == "labels" or (ours == "text" and found.captions))
            cells[ours].append(
                _split_cell(row.cells.get(theirs), split or (ours == "text" and CAPTIONS in columns))
            )
        try:
            pictures.append(stored(row.cells.get(found.columns["image"]), row.folder))
        except Unusable as problem:
            pictures.append(None)
            faults[number] = str(problem)
        if row.fault:
            faults[number] = row.fault
    names = _names(pictures, root)
    numbered = "id" not in cells
    cells.setdefault("id", _numbered(names))
    return Raw(
        images=image_column(pictures),
        cells=cells,
        origins=[(row.origin, row.row) for row in rows],
        groups=[group(picture, name) for picture, name in zip(pictures, names, strict=True)],
        faults=faults,
        numbered=numbered,
    )


def _from_dataset(rows: datasets.Dataset, source: str, folder: Path, columns: Mapping[str, str]) -> Raw:
    import datasets

    found = _columns_of(rows.column_names, source, columns)
    cells = {ours: list(rows[theirs]) for ours, theirs in found.other()}
    if CAPTIONS in columns:
        cells["text"] = [_split_cell(text, True) for text in cells["text"]]
    classes: tuple[str, ...] = ()
    for ours in ("label", "labels"):
        feature = rows.features[found.columns[ours]] if ours in cells else None
        feature = getattr(feature, "feature", feature)  # what a list is a list of
        if isinstance(feature, datasets.ClassLabel):
            classes = tuple(feature.names)
            cells[ours] = [_class_names(value, classes) for value in cells[ours]]
    numbered = "id" not in cells
    faults: dict[int, str] = {}
    image = found.columns["image"]
    if holds_files(rows.features[image]):
        images = rows.select_columns([image]).rename_columns({image: "image"})
        images = images.cast_column("image", datasets.Image(decode=False))
        cells.setdefault("id", [str(row) for row in range(len(rows))])
        names = [str(name) for name in cells["id"]]
    else:
        pictures: list[dict[str, Any] | None] = []
        for row, value in enumerate(values_of(rows, image, source)):
            try:
                pictures.append(stored(value, folder))
            except Unusable as problem:
                pictures.append(None)
                faults[row] = str(problem)
        names = _names(pictures, folder)
        images = image_column(pictures)
        cells.setdefault("id", _numbered(names))
    return Raw(
        images=images,
        cells=cells,
        origins=[(source, row + 1) for row in range(len(rows))],
        groups=names,
        faults=faults,
        classes=classes,
        numbered=numbered,
    )


def _read_parquet(path: Path) -> datasets.Dataset:
    import datasets

    try:
        return datasets.Dataset.from_parquet(str(path), cache_dir=str(cache_folder() / "parquet"))
    except Exception as problem:  # the builder wraps Arrow's errors in its own
        raise InterplayError(f"{path} cannot be read as a Parquet file ({problem!s:.200}).") from None


def _names(pictures: Sequence[Mapping[str, Any] | None], folder: Path) -> list[str]:
    """Paths as seen from a folder where they lie below it; the row number for a row without any."""
    start = folder.absolute()
    names = []
    for row, picture in enumerate(pictures, start=1):
        if picture is None or picture["path"] is None:
            names.append(f"row {row}")
        else:
            path = Path(picture["path"])
            names.append(str(path.relative_to(start) if path.is_relative_to(start) else path))
    return names


def _numbered(names: Sequence[str]) -> list[str]:
    """Names made unique: `a.png`, `a.png#2`, …"""
    count: Counter[str] = Counter()
    unique = []
    for name in names:
        count[name] += 1
        unique.append(name if count[name] == 1 else f"{name}#{count[name]}")
    return unique


def _split_cell(value: Any, several: bool) -> Any:
    """A cell; one that holds several values in one text as their list."""
    return (
        [part.strip() for part in value.split(_SEPARATOR)]
        if several and isinstance(value, str) and value
        else value
    )


def _class_names(value: Any, classes: Sequence[str]) -> Any:
    """Class numbers as names; -1 is how `datasets` says that a label is missing."""
    if isinstance(value, list):
        return [_class_names(number, classes) for number in value]
    return classes[value] if value is not None and 0 <= value < len(classes) else None

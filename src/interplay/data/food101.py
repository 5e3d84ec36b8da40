"""UPMC-Food101: pictures of 101 dishes, each with the title of the web page that it was found on.

Wang et al., ICMEW 2015, "Recipe recognition with large multimodal food dataset". Two variants are in use: titles of
pages, and the pages' full text with the recipe. Figures on one are not comparable with figures on the other, so the
reader says which one it read.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal, get_args

from interplay.data.benchmarks import Benchmark, check_share, picture_column, with_settings
from interplay.data.checks import OnBadRow, checked
from interplay.data.formats import Raw
from interplay.data.schema import PairTable
from interplay.data.splits import Split, unit_hash
from interplay.errors import InterplayError, unknown

FOOD101 = Benchmark(
    name="food101",
    title="UPMC-Food101",
    origin="https://www.kaggle.com/datasets/gianmarco96/upmcfood101 (5 GB, first published on visiir.lip6.fr)",
    layout=(
        ("images/train",),
        ("images/test",),
        ("texts/train_titles.csv", "texts_txt"),
        ("texts/test_titles.csv", "texts_txt"),
    ),
    page="docs/guides/data/food101.md",
)

TITLE_LENGTH = 300
"""Texts with a median of more characters than this are no titles but pages."""

Text = Literal["auto", "titles", "pages"]


@dataclass(frozen=True)
class Food101Settings:
    """How the files become rows.

    Attributes:
        text: `titles`: `texts/{train,test}_titles.csv`; `pages`: `texts_txt/<class>/<picture>.txt`; `auto` (default):
            titles where they are there, else pages.
        validation: share of the training pictures that is for validation, default 0.05, chosen by a hash of the
            pictures' names. The owners publish train and test alone.

    Raises:
        InterplayError: there is no such text, or the share is not in [0, 1).
    """

    text: Text = "auto"
    validation: float = 0.05

    def __post_init__(self) -> None:
        if self.text not in get_args(Text):
            raise unknown("text of food101", self.text, get_args(Text))
        check_share(self.validation, FOOD101.title)


@dataclass(frozen=True)
class _Row:
    """One picture with its text; `fault` says why it cannot be used."""

    origin: tuple[str, int]
    split: Split
    path: str = ""
    text: str = ""
    label: str = ""
    fault: str = ""


def load_food101(source: str, *, on_bad_row: OnBadRow = "error", verify: bool = True) -> PairTable:
    """Reads UPMC-Food101, one label a row.

    The folder holds `images/{train,test}/<class>/*.jpg` and `texts/{train,test}_titles.csv` (no header; picture, title,
    class), or instead of the titles `texts_txt/<class>/<picture>.txt` with the text of the whole page.

    Args:
        source: `food101:` and the folder, and optionally settings: `food101:data/food101?validation=0.1` (see
            `Food101Settings`).
        on_bad_row: `error`: a row that cannot be used (no or broken picture, no text, not three cells) is an error;
            `skip`: it is left out and listed in `skipped`.
        verify: open every picture once; without it only missing files are found.

    Raises:
        InterplayError: a setting is unknown, a folder or file is missing, or a row is bad.
    """
    folder, settings = with_settings(source, FOOD101.name, Food101Settings, ["validation"])
    FOOD101.require(folder)
    titles = (folder / "texts" / "train_titles.csv").exists() if settings.text == "auto" else None
    use_titles = settings.text == "titles" if titles is None else titles
    rows = list(_titles(folder) if use_titles else _pages(folder))
    if settings.validation:
        rows = [
            replace(row, split="validation")
            if row.split == "train" and unit_hash(Path(row.path).name) < settings.validation
            else row
            for row in rows
        ]
    raw = Raw(
        images=picture_column([row.path for row in rows]),
        cells={
            "id": [_id(folder, row) for row in rows],
            "text": [row.text for row in rows],
            "label": [row.label for row in rows],
            "split": [row.split for row in rows],
        },
        origins=[row.origin for row in rows],
        groups=[row.path for row in rows],
        faults={number: row.fault for number, row in enumerate(rows) if row.fault},
    )
    table = checked(source, raw, on_bad_row=on_bad_row, seed=0, verify=verify)
    notes = [_variant(table, use_titles)]
    if settings.validation:
        notes.append(
            f"UPMC-Food101 comes without a validation split: {settings.validation:.1%} of train, by a hash of the "
            "pictures' names, are validation."
        )
    return replace(table, notes=(*notes, *table.notes))


def _titles(folder: Path) -> Iterator[_Row]:
    """The rows of the two files with titles."""
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        file = folder / "texts" / f"{split}_titles.csv"
        try:
            with open(file, encoding="utf-8-sig", newline="") as lines:
                for number, cells in enumerate((line for line in csv.reader(lines) if line), start=1):
                    yield _row_of(folder, split, (str(file), number), cells)
        except FileNotFoundError:
            raise InterplayError(
                f"There is no file {file}: get {FOOD101.title} from {FOOD101.origin} and unpack it in {folder}."
            ) from None
        except (OSError, UnicodeDecodeError, csv.Error) as problem:
            raise InterplayError(f"{file} cannot be read ({problem}). Unpack it again.") from None


def _row_of(folder: Path, split: Split, origin: tuple[str, int], cells: list[str]) -> _Row:
    """One line: picture, title, class."""
    if len(cells) != 3:
        reason = f"it has {len(cells)} cells, not the three of picture, title and class"
        return _Row(origin, split, fault=reason)
    name, text, label = (cell.strip() for cell in cells)
    if not name or not label:
        return _Row(origin, split, fault="the picture's name or the class is missing")
    name = Path(name).name
    name = name if Path(name).suffix else f"{name}.jpg"
    path = folder.absolute() / "images" / split / label / name
    return _Row(origin, split, str(path), text, label)


def _pages(folder: Path) -> Iterator[_Row]:
    """A row for each picture, with the text of the page of the same name."""
    if not (folder / "texts_txt").is_dir():
        raise InterplayError(
            f"There is no folder {folder / 'texts_txt'} with the pages' texts; titles are read with text=titles."
        )
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        root = folder.absolute() / "images" / split
        for number, path in enumerate(sorted(root.glob("*/*.jpg")), start=1):
            label, origin = path.parent.name, (str(root), number)
            page = folder / "texts_txt" / label / f"{path.stem}.txt"
            try:
                text = " ".join(page.read_text(encoding="utf-8", errors="replace").split())
            except FileNotFoundError:
                yield _Row(origin, split, str(path), "", label, f"there is no text {page}")
                continue
            yield _Row(origin, split, str(path), text, label)


def _id(folder: Path, row: _Row) -> str:
    """The picture's path below `images/`."""
    return str(Path(row.path).relative_to(folder.absolute() / "images")) if row.path else ""


def _variant(table: PairTable, titles: bool) -> str:
    """Which of the two variants was read, told by the texts themselves."""
    typical = median(len(text) for text in table.texts())
    kind = "titles of pages" if typical <= TITLE_LENGTH else "full pages"
    where = "texts/*_titles.csv" if titles else "texts_txt/"
    return (
        f"UPMC-Food101 with {kind} (from {where}, {typical:.0f} characters in the median): figures are comparable with "
        f"those on {kind} alone."
    )

"""Pictures sorted into folders, and where such a folder is a data set: one folder a class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from interplay.data.records import Record

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Endings of files that are taken for pictures."""
NO_TEXT = "a picture"
"""The text of every picture where there are no texts."""


def picture_files(folder: str | Path) -> Iterator[str]:
    """All picture files in a folder and the folders in it, folder by folder, the names in each sorted.

    Links to folders are followed, each folder once.
    """
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        state = os.stat(place)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders.sort()
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in PICTURES and os.path.isfile(
                path := os.path.join(place, name)
            ):
                yield path


def pictures_below(folder: Path) -> list[Path]:
    """All picture files in a folder and the folders in it, sorted."""
    return sorted(map(Path, picture_files(folder)))


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """The pictures of each folder in a folder, by its name; empty where no folder in it holds any."""
    below = sorted(
        (place for place in folder.iterdir() if place.is_dir() and not place.name.startswith(".")),
        key=lambda place: place.name,
    )
    found = {place.name: pictures_below(place) for place in below}
    return {name: pictures for name, pictures in found.items() if pictures}


def class_records(parts: Sequence[tuple[str | None, Mapping[str, Sequence[Path]]]]) -> Iterator[Record]:
    """One row a picture, its class the name of the folder.

    Its text is the file beside it of the same name that ends in `.txt`; where no picture has one, all get `NO_TEXT`.

    Args:
        parts: split (None: none is known) and pictures of each class.
    """
    pictures = [
        (split, label, path, path.with_suffix(".txt"))
        for split, classes in parts
        for label, paths in classes.items()
        for path in paths
    ]
    texts = any(text.is_file() for *_, text in pictures)
    for split, label, path, text in pictures:
        words, fault = _read(text) if texts else (NO_TEXT, "")
        cells = {"image": str(path), "text": words, "label": label} | ({"split": split} if split else {})
        yield Record(str(path), 1, Path(), cells, fault=fault)


def _read(path: Path) -> tuple[str, str]:
    """The text of a file, or why there is none."""
    if not path.is_file():
        return "", f"it has no text: other pictures have one, {path.name} is not there"
    try:
        return path.read_text(encoding="utf-8-sig").strip(), ""
    except (OSError, UnicodeError) as problem:
        return "", f"its text {path.name} cannot be read ({problem})"

"""WebDataset tars: which members belong to one sample, and where in the file they lie.

A sample is what shares a name up to the first dot after the last slash, as the package `webdataset` groups them: its
picture by the ending, its text from `.txt` or `.caption`, or else from `caption` or `text` in its `.json`. Only headers
are read here; workers read the members by their places, so that one tar is decoded by all of them.
"""

from __future__ import annotations

import glob
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from braceexpand import braceexpand

from interplay.bulk.items import Item, Piece, shown, stamp_of
from interplay.data.class_folders import PICTURES
from interplay.errors import InterplayError
from interplay.towers.tokens import Side

SUFFIX = ".tar"
_TEXTS = ("txt", "caption", "text")
_JSON = "json"


def tars_of(pattern: str) -> list[str]:
    """The absolute paths of the tars that a pattern names, in its order, each once.

    Args:
        pattern: a path; with braces, as `data/{000..999}.tar`; with `*`, `?` and `[…]`, whose files come sorted.

    Raises:
        InterplayError: braces that do not close; a tar that is not there; nothing that matches.
    """
    try:
        names = list(braceexpand(pattern))
    except ValueError:
        raise InterplayError(f"The braces in '{pattern}' do not close: write '{{000..999}}.tar'.") from None
    found: list[str] = []
    for name in names:
        matches = sorted(glob.glob(name)) if glob.has_magic(name) and not os.path.exists(name) else [name]
        found += matches
    for path in found:
        if not os.path.isfile(path):
            raise InterplayError(f"There is no tar '{path}' ('{pattern}' names {len(found):,}).")
    if not found:
        raise InterplayError(f"No tar matches '{pattern}'.")
    return list(dict.fromkeys(map(os.path.abspath, found)))


def sides_of(tar: str) -> tuple[Side, ...]:
    """The sides that the samples of a tar have."""
    found = samples(tar)
    images, texts = (any(getattr(item, side) is not None for item in found) for side in ("image", "text"))
    return ("image", "text") if images and texts else ("text",) if texts else ("image",)


def samples(tar: str) -> list[Item]:
    """The samples of a tar, in the order of their first members; where it cannot be read on, the last one says so."""
    stamp, fault = stamp_of([tar]), ""
    groups: dict[str, dict[str, tuple[Piece, str]]] = {}
    try:
        with tarfile.open(tar, mode="r:") as archive:
            for key, suffix, member in _members(archive):
                place = Piece(tar, member.offset_data, member.size)
                groups.setdefault(key, {})[suffix] = (place, member.name)
    except (tarfile.TarError, OSError, EOFError) as problem:
        fault = f"the archive cannot be read further ({problem})"
    found = [_sample(tar, key, members, stamp) for key, members in groups.items()]
    if not found and not fault:
        fault = "the archive holds no samples"
    if fault:
        found.append(Item(shown(f"{tar}#{len(found)}"), stamp=stamp, image_path=shown(tar), fault=fault))
    return found


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Key, ending in small letters, and header of each file in an archive."""
    for member in archive:
        folder, slash, name = member.name.rpartition("/")
        stem, dot, suffix = name.partition(".")
        if member.isfile() and stem and dot:
            yield f"{folder}{slash}{stem}", suffix.lower(), member


def _sample(tar: str, key: str, members: dict[str, tuple[Piece, str]], stamp: str) -> Item:
    """A sample of what lies under its name."""
    images = [suffix for suffix in members if f".{suffix.rpartition('.')[2]}" in PICTURES]
    texts = [suffix for suffix in _TEXTS if suffix in members]
    about = members[_JSON][0] if _JSON in members else None
    image, name = members[images[0]] if images else (None, None)
    return Item(
        key=shown(f"{tar}#{key}"),
        image=image,
        text=members[texts[0]][0] if texts else about,
        stamp=stamp,
        image_path=None if name is None else shown(f"{tar}/{name}"),
        metadata=about,
    )


def is_pattern(data: str) -> bool:
    """Whether a name of data means tars."""
    return Path(data).suffix.lower() == SUFFIX

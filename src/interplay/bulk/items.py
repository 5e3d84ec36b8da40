"""What is to be embedded: items, and the folders and tables that they lie in."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from interplay.data.class_folders import PICTURES, picture_files
from interplay.data.picture_sources import encodable
from interplay.data.schema import PairTable
from interplay.embeddings import digest_of
from interplay.errors import InterplayError
from interplay.towers.tokens import Side

PEEK = 100
"""Pictures of a folder that are looked at for texts beside them."""
_BLOCK = 1000


@dataclass(frozen=True)
class Piece:
    """Where bytes lie: a file, or a part of one.

    Attributes:
        path: of the file.
        offset, size: of the part in bytes; a size of None is the rest of the file.
    """

    path: str
    offset: int = 0
    size: int | None = None


@dataclass(frozen=True)
class Item:
    """One row: a picture, a text, or both.

    Attributes:
        key: names it in its input, and no other item.
        image: where the picture is, or its bytes; None: there is none.
        text: where the text is, or the text itself.
        stamp: changes with what it is made of; empty where its file is gone.
        image_path: what the row calls the picture.
        metadata: what else is known of it, a JSON object, or where that lies.
        fault: why it cannot be read at all; empty where it may be.
    """

    key: str
    image: Piece | bytes | None = None
    text: Piece | str | None = None
    stamp: str = ""
    image_path: str | None = None
    metadata: Piece | str | None = None
    fault: str = ""


class Listing(Protocol):
    """Items in an order of their own, of which any number make a partition."""

    def sides(self) -> tuple[Side, ...]:
        """The sides that its items have."""

    def items(self) -> Iterator[Item]:
        """All of them, one after the other."""

    def pick(self, keys: Sequence[str]) -> list[Item]:
        """Those with some keys; one that is gone has a fault and no stamp."""


@dataclass(frozen=True)
class Folder:
    """The pictures in a folder and the folders in it, each with the text in the `.txt` file beside it.

    Attributes:
        place: the folder.
        texts: whether texts are looked for.
    """

    place: Path
    texts: bool

    @classmethod
    def of(cls, place: Path) -> Folder:
        """A folder, with texts where one of its first pictures has one beside it.

        Raises:
            InterplayError: there is no picture in it.
        """
        first = list(itertools.islice(picture_files(place), PEEK))
        if not first:
            raise InterplayError(f"There are no pictures in the folder '{place}' ({', '.join(PICTURES)}).")
        return cls(place.absolute(), any(os.path.isfile(_beside(path)) for path in first))

    def sides(self) -> tuple[Side, ...]:
        return ("image", "text") if self.texts else ("image",)

    def items(self) -> Iterator[Item]:
        return map(self._item, picture_files(self.place))

    def pick(self, keys: Sequence[str]) -> list[Item]:
        return [self._item(key) for key in keys]

    def _item(self, path: str) -> Item:
        files = [path, _beside(path)] if self.texts else [path]
        return Item(
            key=shown(path),
            image=Piece(path),
            text=Piece(files[1]) if self.texts else None,
            stamp=stamp_of(files),
            image_path=shown(path),
        )


@dataclass(frozen=True, eq=False)
class Table:
    """The rows of a table: pictures with the first text of each; rows that cannot be used have a fault.

    Attributes:
        table: image-text pairs.
    """

    table: PairTable

    def sides(self) -> tuple[Side, ...]:
        return ("image", "text")

    def items(self) -> Iterator[Item]:
        for start in range(0, len(self.table), _BLOCK):
            yield from self._rows(range(start, min(start + _BLOCK, len(self.table))))
        yield from self._unusable.values()

    def pick(self, keys: Sequence[str]) -> list[Item]:
        places = [self._places.get(key) for key in keys]
        there = {item.key: item for item in self._rows([at for at in places if at is not None])}
        gone = "the row is gone"
        return [there.get(key) or self._unusable.get(key) or Item(key, fault=gone) for key in keys]

    def _rows(self, rows: Sequence[int]) -> Iterator[Item]:
        if not rows:
            return
        others = [name for name in self.table.rows.column_names if name not in ("image", "text", "split")]
        block = self.table.rows.select_columns(["text", *others])[list(rows)]
        for at, (row, source) in enumerate(zip(rows, self.table.sources(rows), strict=True)):
            text = block["text"][at] if isinstance(block["text"][at], str) else block["text"][at][0]
            about = json.dumps({name: block[name][at] for name in others}, ensure_ascii=False)
            data, path = source.get("bytes"), source.get("path")
            yield Item(
                key=self._key(row),
                image=data if data is not None else Piece(os.path.abspath(path or "")),
                text=text,
                stamp=digest_of(text, about, _content(data) if data is not None else stamp_of([path or ""])),
                image_path=shown(os.path.abspath(path)) if path else None,
                metadata=about,
            )

    def _key(self, row: int) -> str:
        return shown(f"{self.table.name}#{self._ids[row]}")

    @cached_property
    def _ids(self) -> list[str]:
        return self.table.ids()

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {self._key(row): row for row in range(len(self.table))}

    @cached_property
    def _unusable(self) -> Mapping[str, Item]:
        return {
            shown(f"{bad.source}, row {bad.row}"): Item(
                shown(f"{bad.source}, row {bad.row}"), stamp=digest_of(bad.reason), fault=bad.reason
            )
            for bad in self.table.skipped
        }


def stamp_of(files: Sequence[str]) -> str:
    """Changes with the size and the time of change of some files; empty where the first of them is gone."""
    found: list[Any] = []
    for file in files:
        try:
            about = os.stat(file)
        except (OSError, ValueError):
            if not found:
                return ""
            found.append(None)
        else:
            found += [about.st_size, about.st_mtime_ns]
    return digest_of(*found)


def shown(name: str) -> str:
    """A path or name as Unicode: what is none is written as an escape."""
    return name if encodable(name) else name.encode("utf-8", "backslashreplace").decode()


def _beside(path: str) -> str:
    """Where the text of a picture lies."""
    return f"{os.path.splitext(path)[0]}.txt"


def _content(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()

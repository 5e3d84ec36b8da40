"""What a gallery keeps: its card, and one entry a picture or text."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from interplay.errors import InterplayError
from interplay.towers.tokens import Side

Vector = npt.NDArray[np.float32]

FORMAT = 1  # counts up when the columns or what they mean change
COLUMNS = ("id", "side", "source", "route", "version", "key", "embedding")
LONGEST = 65_535
"""The longest text or path in bytes that Milvus keeps."""
NAME = "_id"
"""Column beside the metadata: the user's own id."""
CONTENT = "_content"
"""Column beside the metadata: the content's SHA-256, where the primary key is another one."""


@dataclass(frozen=True)
class GalleryCard:
    """What a gallery was made with, kept in the collection itself.

    Attributes:
        backbone: digest of the backbone's weights.
        retriever: identity of the retriever.
        joint: width of keys and embeddings.
        format: number of the layout.
    """

    backbone: str
    retriever: str
    joint: int
    format: int = FORMAT


@dataclass(frozen=True)
class Entry:
    """One row of a gallery.

    Attributes:
        id: the primary key, 64 hexadecimal digits: SHA-256 over the side and the content, or over the side and the
            user's own id.
        side: `image` or `text`.
        source: the absolute path of the picture, or the text.
        route: what the item was encoded with.
        version: fingerprint of that route when it was.
        key: (joint,), L2-normalised. Milvus keeps it as base64 in a text column, bit for bit: as a second vector
            column it would need an index, and reading it back from Milvus Lite would take three times as long.
        embedding: (joint,), L2-normalised; None where it was not read.
        metadata: further columns, to filter by.
        name: the user's own id; empty where there is none.
        content: SHA-256 over the side and the content.
    """

    id: str
    side: Side
    source: str
    route: str
    version: str
    key: Vector
    embedding: Vector | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    content: str = ""

    def __post_init__(self) -> None:
        if not self.content:
            object.__setattr__(self, "content", self.id)

    def row(self) -> dict[str, Any]:
        """The entry as Milvus takes it."""
        key = base64.b64encode(np.ascontiguousarray(self.key, dtype="<f4").tobytes()).decode("ascii")
        own = {
            name: getattr(self, name) for name in ("id", "side", "source", "route", "version", "embedding")
        }
        beside = {NAME: self.name, CONTENT: self.content} if self.content != self.id else {}
        return {**self.metadata, **own, **beside, "key": key}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Entry:
        """The entry of a row that Milvus gave.

        Raises:
            InterplayError: its key is no vector.
        """
        embedding = row.get("embedding")
        try:
            key = np.frombuffer(base64.b64decode(row["key"], validate=True), dtype="<f4")
        except ValueError:
            raise InterplayError(
                f"The gallery is damaged (the entry {row['id'][:12]} has no key): copy it again, or index anew."
            ) from None
        return cls(
            id=row["id"],
            side=row["side"],
            source=row["source"],
            route=row["route"],
            version=row["version"],
            key=key,
            embedding=None if embedding is None else np.asarray(embedding, dtype=np.float32),
            metadata={name: row[name] for name in row if name not in COLUMNS and name[0] not in "$_"},
            name=row.get(NAME) or "",
            content=row.get(CONTENT) or "",
        )

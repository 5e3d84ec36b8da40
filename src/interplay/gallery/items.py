"""What a gallery holds and is asked for: pictures, texts and their metadata, read, checked and named by content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from interplay.data.images import fault
from interplay.errors import InterplayError
from interplay.gallery.store import COLUMNS, LONGEST, Entry, Vector
from interplay.towers.tokens import Side

Query: TypeAlias = str | Path | bytes | Image.Image
T = TypeVar("T")


class Encodes(Protocol):
    """What a gallery asks of a retriever."""

    @property
    def identity(self) -> str:
        """Names this retriever, also after it was saved and loaded, and no other one."""

    @property
    def backbone_digest(self) -> str:
        """Names the weights of its backbone."""

    @property
    def joint(self) -> int:
        """Width of keys and embeddings."""

    def keys(self, side: Side, items: Sequence[Any]) -> Tensor:
        """(N, joint), L2-normalised: what the bare frozen tower makes of N image sources or texts."""

    def routes(self, side: Side, keys: Tensor) -> list[str]:
        """The route of each of N keys (N, joint)."""

    def encode(self, side: Side, items: Sequence[Any], routes: Sequence[str]) -> Tensor:
        """(N, joint), L2-normalised: N items, each encoded by its route."""

    def version_of(self, route: str) -> str:
        """A fingerprint that changes exactly when what encodes this route does."""


@dataclass(frozen=True)
class Item:
    """Something to be added: its content is what is hashed, and what is encoded."""

    id: str
    source: str
    content: bytes | str
    metadata: Mapping[str, Any]


class Unusable(Exception):
    """Why an item cannot be added, as the second half of a sentence."""


def several(values: Iterable[T], call: str, name: str) -> Iterable[T]:
    """Refuses the likely slip of giving one where several are wanted."""
    if isinstance(values, str | bytes | Path):
        raise InterplayError(f"{call} takes a list of {name}, not a single one: put it into brackets.")
    return values


def check_size(batch_size: int) -> None:
    """Refuses batches of nothing."""
    if batch_size < 1:
        raise InterplayError(f"batch_size must be at least 1, not {batch_size}.")


def check_metadata(metadata: Sequence[Mapping[str, Any]] | None, count: int) -> list[Mapping[str, Any]]:
    """Metadata as Milvus keeps them: one mapping an item, with plain values."""
    if metadata is None:
        return [{}] * count
    if len(metadata) != count:
        raise InterplayError(
            f"Every item needs its metadata: got {count} items, {len(metadata)} sets of metadata."
        )
    plain: list[Mapping[str, Any]] = []
    for at, notes in enumerate(metadata):
        for name in notes:
            if not isinstance(name, str) or not name.isidentifier() or name[0] == "_" or not name.isascii():
                raise InterplayError(
                    f"Item {at + 1}: '{name}' cannot name a metadata column: use letters, digits and underscores, "
                    "a letter first."
                )
            if name in COLUMNS:
                raise InterplayError(
                    f"Item {at + 1}: the gallery has a column '{name}' of its own; give the metadata another name."
                )
        try:
            values = {
                name: value.item() if isinstance(value, np.generic) else value
                for name, value in notes.items()
            }
            plain.append(json.loads(json.dumps(values, allow_nan=False)))
        except (TypeError, ValueError) as problem:
            raise InterplayError(f"Item {at + 1}: its metadata cannot be kept ({problem}).") from None
    return plain


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items, so many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def array(vectors: Tensor) -> Vector:
    """(N, joint) as Milvus takes it."""
    return vectors.detach().cpu().float().numpy()


def identity_of(side: Side, content: bytes | str) -> str:
    """SHA-256 over the side and the content, in hexadecimal."""
    data = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(side.encode() + b"\0" + data).hexdigest()


def can_be_kept(source: str) -> bool:
    """Whether Milvus can keep this source: valid Unicode, and not too long."""
    try:
        return len(source.encode()) <= LONGEST
    except UnicodeEncodeError:
        return False


def read_item(side: Side, source: str, metadata: Mapping[str, Any]) -> Item:
    """An item with its content; raises `Unusable` where there is none."""
    if not can_be_kept(source):
        raise Unusable(
            f"the {'path' if side == 'image' else 'text'} is longer than {LONGEST:,} bytes, or no Unicode"
        )
    if side == "text":
        if not source.strip():
            raise Unusable("the text is empty")
        return Item(identity_of(side, source), source, source, metadata)
    try:
        content = Path(source).read_bytes()
    except (OSError, ValueError) as problem:
        raise Unusable(f"the file cannot be read ({getattr(problem, 'strerror', None) or problem})") from None
    if not content:
        raise Unusable("the file is empty")
    return Item(identity_of(side, content), source, content, metadata)


def fault_of(item: Item) -> str | None:
    """Why a picture cannot be decoded, if so."""
    return fault(item.content) if isinstance(item.content, bytes) else None


def content_of(entry: Entry) -> bytes | str | None:
    """What an entry was made of; None when its file is gone or holds something else now."""
    if entry.side == "text":
        return entry.source
    try:
        content = Path(entry.source).read_bytes()
    except (OSError, ValueError):
        return None
    return content if identity_of("image", content) == entry.id else None


def holds(path: str, identity: str) -> bool:
    """Whether a file still holds the picture with this id."""
    try:
        return identity_of("image", Path(path).read_bytes()) == identity
    except (OSError, ValueError):
        return False


def is_gone(entry: Entry) -> bool:
    return entry.side == "image" and not os.path.exists(entry.source)


def read_query(query: Query, by: Side | None) -> tuple[Side, Query]:
    """The side of a query, and what is to be encoded."""
    side = by or ("image" if not isinstance(query, str) or _names_picture(query) else "text")
    if side == "text":
        if not isinstance(query, str):
            raise InterplayError(f"A text to search by must be a string, not a {type(query).__name__}.")
        if not query.strip():
            raise InterplayError("The text to search by is empty.")
        return side, query
    if not isinstance(query, str | Path | bytes | Image.Image):
        raise InterplayError(
            f"A gallery cannot be searched by a {type(query).__name__}: give a text or a picture."
        )
    reason = fault(query)
    if reason is not None:
        name = query if isinstance(query, str | Path) else "The picture to search by"
        raise InterplayError(f"{name}: {reason}. Choose another picture, or search by a text.")
    return side, query


def _names_picture(text: str) -> bool:
    """Whether a string is the path of an existing picture, be it broken, and not a text."""
    if not os.path.isfile(text):
        return False
    return Path(text).suffix.lower() in Image.registered_extensions() or fault(text) is None

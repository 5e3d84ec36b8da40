"""What a gallery holds and is asked for: pictures, texts and their metadata, read, checked and named by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from PIL import Image
from torch import Tensor

from interplay.data.images import fault
from interplay.errors import InterplayError, wrong_type
from interplay.gallery.entry import LONGEST, Entry, Vector
from interplay.gallery.metadata import is_unicode
from interplay.towers.tokens import Side

Query: TypeAlias = str | Path | bytes | Image.Image
FileState: TypeAlias = Literal["there", "missing", "changed"]
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

    def state(self) -> str:
        """A fingerprint that changes when what routes or encodes anything does."""

    def keys(self, side: Side, items: Sequence[Any], *, apart: bool = False) -> Tensor:
        """(N, joint), L2-normalised: what the bare frozen tower makes of N image sources or texts.

        Args:
            apart: one by one, so that nothing depends on the other items, not even the last bit.
        """

    def routes(self, side: Side, keys: Tensor) -> list[str]:
        """The route of each of N keys (N, joint)."""

    def encode(
        self, side: Side, items: Sequence[Any], routes: Sequence[str], *, apart: bool = False
    ) -> Tensor:
        """(N, joint), L2-normalised: N items, each encoded by its route; `apart` as in `keys`."""

    def version_of(self, route: str) -> str:
        """A fingerprint that changes exactly when what encodes this route does."""


@dataclass(frozen=True)
class Item:
    """Something to be added: its content is what is hashed, and what is encoded.

    Attributes:
        source: the absolute path of the picture, or the text.
        content: what the file holds, or the text.
        metadata: what the user said of it; empty where nothing.
        name: the user's own id; empty where there is none.
        hash: SHA-256 over the side and the content.
        id: the entry's primary key.
    """

    side: Side
    source: str
    content: bytes | str
    metadata: Mapping[str, Any]
    name: str = ""

    @cached_property
    def hash(self) -> str:
        return identity_of(self.side, self.content)

    @property
    def id(self) -> str:
        return key_of(self.side, self.name) if self.name else self.hash


class Unusable(Exception):
    """Why an item cannot be added, as the second half of a sentence."""


def several(values: Iterable[T], call: str, name: str) -> Iterable[T]:
    """Refuses the likely slip of giving one where several are wanted."""
    if isinstance(values, str | bytes | Path):
        raise InterplayError(f"{call} takes a list of {name}, not a single one: put it into brackets.")
    if not isinstance(values, Iterable):
        raise wrong_type(f"{call}: {name}", "a list", values)
    return values


def check_size(batch_size: int) -> None:
    """Refuses batches of nothing."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int):
        raise wrong_type("batch_size", "a whole number", batch_size)
    if batch_size < 1:
        raise InterplayError(f"batch_size must be at least 1, not {batch_size}.")


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def array(vectors: Tensor) -> Vector:
    """(N, joint) as Milvus takes it."""
    return vectors.detach().cpu().float().numpy()


def identity_of(side: Side, content: bytes | str) -> str:
    """SHA-256 over the side and the content, in hexadecimal."""
    data = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(side.encode() + b"\0" + data).hexdigest()


def key_of(side: Side, name: str) -> str:
    """The primary key of an entry with an id of the user's own."""
    return hashlib.sha256(f"{side} id".encode() + b"\0" + name.encode()).hexdigest()


def can_be_kept(source: str) -> bool:
    """Whether Milvus can keep this source: valid Unicode, and not too long."""
    return is_unicode(source) and len(source.encode()) <= LONGEST


def read_item(side: Side, source: str, metadata: Mapping[str, Any], name: str) -> Item:
    """An item with its content; raises `Unusable` where there is none."""
    if not can_be_kept(source):
        raise Unusable(
            f"the {'path' if side == 'image' else 'text'} is longer than {LONGEST:,} bytes, or no Unicode"
        )
    if side == "text":
        if not source.strip():
            raise Unusable("the text is empty")
        return Item(side, source, source, metadata, name)
    try:
        content = read_picture(source)
    except (OSError, ValueError) as problem:
        raise Unusable(f"the file cannot be read ({getattr(problem, 'strerror', None) or problem})") from None
    if not content:
        raise Unusable("the file is empty")
    return Item(side, source, content, metadata, name)


def read_picture(path: str) -> bytes:
    """What a file holds; a pipe or a device, which may never end, is refused by `OSError`."""
    file = Path(path)
    if file.exists() and not file.is_file():
        raise OSError("it is no plain file")
    return file.read_bytes()


def fault_of(item: Item) -> str | None:
    """Why a picture cannot be decoded, if so."""
    return fault(item.content) if isinstance(item.content, bytes) else None


def content_of(entry: Entry) -> bytes | str | None:
    """What an entry was made of; None when its file is gone or holds something else now."""
    if entry.side == "text":
        return entry.source
    try:
        content = read_picture(entry.source)
    except (OSError, ValueError):
        return None
    return content if identity_of("image", content) == entry.content else None


def holds(path: str, content: str) -> bool:
    """Whether a file still holds the picture with this content's SHA-256."""
    return Files().state(path, content) == "there"


class Files:
    """Which picture files still hold what was indexed; a file that did not change is read once."""

    def __init__(self) -> None:
        self._hashes: dict[tuple[str, int, int], str] = {}

    def state(self, source: str, content: str) -> FileState:
        """Whether the file at a path is there, and still has this content's SHA-256."""
        try:
            about = os.stat(source)
            stamp = source, about.st_mtime_ns, about.st_size
            if stamp not in self._hashes:
                self._hashes[stamp] = identity_of("image", read_picture(source))
        except (OSError, ValueError):
            return "missing"
        return "there" if self._hashes[stamp] == content else "changed"


def is_gone(entry: Entry) -> bool:
    return entry.side == "image" and not os.path.exists(entry.source)


def read_query(query: Query, by: Side | None) -> tuple[Side, Query]:
    """The side of a query, and what is to be encoded."""
    side = by or ("image" if not isinstance(query, str) or _names_picture(query) else "text")
    if side == "text":
        if not isinstance(query, str) or not is_unicode(query):
            kind = "text that is no Unicode" if isinstance(query, str) else type(query).__name__
            raise InterplayError(f"A text to search by must be a string, not a {kind}.")
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

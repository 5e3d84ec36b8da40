"""A retriever without a model: vectors from hashes, and a count of what it was asked."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from interplay.data.images import decode
from interplay.gallery.address import Address
from interplay.gallery.entry import GalleryCard
from interplay.gallery.store import Store
from interplay.towers.tokens import Side

WIDTH = 16


def vector(*parts: object, joint: int = WIDTH) -> np.ndarray:
    """A unit vector that these parts decide."""
    seed = hashlib.sha256(repr(parts).encode()).digest()
    value = np.random.default_rng(np.frombuffer(seed, dtype=np.uint32)).normal(size=joint)
    return (value / np.linalg.norm(value)).astype(np.float32)


def picture_bytes(name: str) -> bytes:
    """A small PNG of its own for every name."""
    pixels = np.frombuffer(hashlib.sha256(name.encode()).digest()[:27], dtype=np.uint8).reshape(3, 3, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def content_of(side: Side, item: Any) -> object:
    """What decides an item's vectors: its text, or its pixels, however the picture is given."""
    return item if side == "text" else np.asarray(decode(item, "the picture")).tobytes()


class Fake:
    """Fulfils `Encodes`. An item's route is `even` or `odd` by the sign of its key, until `routing` changes.

    Attributes:
        routing: a route is chosen by the sign of this component of the key.
        prompts: version of each route.
        encoded: items that `encode` was given; `keyed`: those that `keys` was given.
    """

    def __init__(self, identity: str = "one", backbone_digest: str = "b" * 64, joint: int = WIDTH) -> None:
        self.identity = identity
        self.backbone_digest = backbone_digest
        self.joint = joint
        self.routing = 0
        self.prompts = {"even": "1", "odd": "1"}
        self.encoded: list[object] = []
        self.keyed = 0

    def keys(self, side: Side, items: Sequence[Any], *, apart: bool = False) -> Tensor:
        assert apart
        self.keyed += len(items)
        return self._stack([vector("key", side, content_of(side, item), joint=self.joint) for item in items])

    def routes(self, side: Side, keys: Tensor) -> list[str]:
        return ["even" if key[self.routing] >= 0 else "odd" for key in keys]

    def encode(
        self, side: Side, items: Sequence[Any], routes: Sequence[str], *, apart: bool = False
    ) -> Tensor:
        assert apart
        contents = [content_of(side, item) for item in items]
        self.encoded += contents
        return self._stack(
            [
                vector(content, route, self.version_of(route), joint=self.joint)
                for content, route in zip(contents, routes, strict=True)
            ]
        )

    def version_of(self, route: str) -> str:
        return self.prompts[route]

    def state(self) -> str:
        return repr((self.routing, self.prompts))

    def one(self, side: Side, item: Any) -> tuple[str, np.ndarray]:
        """The route and embedding of one item, uncounted."""
        content = content_of(side, item)
        key = vector("key", side, content, joint=self.joint)
        route = "even" if key[self.routing] >= 0 else "odd"
        return route, vector(content, route, self.prompts[route], joint=self.joint)

    def _stack(self, vectors: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(vectors))


def make_pictures(folder: Path, count: int, prefix: str = "p") -> list[Path]:
    """`count` picture files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{prefix}{number}.png" for number in range(count)]
    for path in paths:
        path.write_bytes(picture_bytes(path.name))
    return paths


Row = tuple[Side, str, str, str, bytes, bytes, dict[str, Any]]


def snapshot(retriever: Fake, place: Path) -> dict[str, Row]:
    """Everything that a closed gallery holds, by id; fails where the gallery gives an entry twice."""
    card = GalleryCard(retriever.backbone_digest, retriever.identity, retriever.joint)
    store = Store.open(Address.of(str(place)), "interplay", card, create=False)
    try:
        ids = [entry.id for block in store.scan() for entry in block]
        assert len(ids) == len(set(ids)) == store.count()
        entries = store.get(ids)
    finally:
        store.close()
    rows: dict[str, Row] = {}
    for name, entry in entries.items():
        assert entry.embedding is not None
        vectors = entry.key.tobytes(), entry.embedding.tobytes()
        rows[name] = (entry.side, entry.source, entry.route, entry.version, *vectors, dict(entry.metadata))
    return rows

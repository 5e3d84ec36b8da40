"""A gallery of images and texts that one retriever encoded: added to, searched, and refreshed when it has learned."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from datasets.utils import tqdm

from interplay.errors import InterplayError
from interplay.gallery.add import AddReport, OnBad, add
from interplay.gallery.items import (
    Encodes,
    Query,
    array,
    batches,
    can_be_kept,
    check_size,
    content_of,
    identity_of,
    is_gone,
    read_query,
    several,
)
from interplay.gallery.store import Card, Entry, Store
from interplay.towers.tokens import SIDES, Side


@dataclass(frozen=True)
class RefreshReport:
    """What one call of `refresh` did.

    Attributes:
        scanned: entries that were looked at.
        rerouted: those that take another route than before.
        reencoded: those that were encoded again, for another route or for new prompts of the same.
        missing: pictures that are no longer on the disk. Their entries stay, as they were encoded last.
        seconds: how long it took.
    """

    scanned: int
    rerouted: int
    reencoded: int
    missing: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Hit:
    """One result of a search.

    Attributes:
        source: the absolute path of the picture, or the text.
        score: cosine of the angle between query and entry.
        route: what the entry was encoded with.
        side: `image` or `text`.
        metadata: what was given when it was added.
        missing: the picture's file is gone.
    """

    source: str
    score: float
    route: str
    side: Side
    metadata: Mapping[str, Any]
    missing: bool


class Gallery:
    """A search index over images and texts, as one retriever encodes them.

    An entry is found by its content: the same picture under two paths is one entry, and what is there already is
    neither encoded nor written again. So a call that was killed is simply made again. Each batch is written in one
    step; nothing is lost that a report counted, and nothing is there twice.

    `Gallery.open` makes it. Close it, or use it in a `with` block: a Milvus Lite folder belongs to one open gallery
    at a time.
    """

    def __init__(self, retriever: Encodes, store: Store) -> None:
        self._retriever = retriever
        self._store = store

    @classmethod
    def open(
        cls,
        retriever: Encodes,
        uri: str | Path = "gallery.db",
        collection: str = "interplay",
        token: str | None = None,
    ) -> Gallery:
        """Open a gallery, or create an empty one.

        Args:
            retriever: what encodes; a gallery takes no other one than that it was created with.
            uri: a folder for Milvus Lite, by default `gallery.db`, or the address of a Milvus server or cluster
                (`http://host:19530`). Everything else is the same.
            collection: the collection's name: several galleries may share a folder or a server.
            token: for a server that wants one (`user:password` or an API key).

        Raises:
            InterplayError: a gallery of another backbone or retriever, something that is no gallery, a damaged or
                occupied folder, or a server that does not answer.
        """
        card = Card(retriever.backbone_digest, retriever.identity, retriever.joint)
        return cls(retriever, Store.open(str(uri), collection, token, card))

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder or the connection."""
        self._store.close()

    def count(self) -> int:
        """The number of entries."""
        return self._store.count()

    def add_images(
        self,
        paths: Iterable[str | Path],
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        batch_size: int = 64,
        on_bad: OnBad = "raise",
        progress: bool = True,
    ) -> AddReport:
        """Add picture files.

        Where the gallery has an entry of the same file and the file holds another picture now, the new one takes
        its place. An entry that is there keeps its metadata: remove it first to change them.

        Args:
            paths: the files. A hit gives the absolute path back.
            metadata: for each one, values by column, to filter by: texts, numbers, truth values, lists of them.
            batch_size: how many are encoded and written at a time.
            on_bad: at one that cannot be read: `raise`, or `skip` and list it in the report.
            progress: show a bar.

        Raises:
            InterplayError: a picture that cannot be read (what was added before it stays), metadata that do not
                fit, or Milvus cannot be reached.
        """
        sources = []
        for path in several(paths, "add_images", "paths"):
            if not isinstance(path, str | Path):
                raise InterplayError(f"A gallery adds pictures by their paths, not a {type(path).__name__}.")
            sources.append(os.path.abspath(path))
        return add(
            self._retriever,
            self._store,
            "image",
            sources,
            metadata,
            batch_size=batch_size,
            on_bad=on_bad,
            progress=progress,
        )

    def add_texts(
        self,
        texts: Iterable[str],
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        batch_size: int = 64,
        on_bad: OnBad = "raise",
        progress: bool = True,
    ) -> AddReport:
        """Add texts; arguments, report and errors are those of `add_images`."""
        sources = []
        for text in several(texts, "add_texts", "texts"):
            if not isinstance(text, str):
                raise InterplayError(f"A text must be a string, not a {type(text).__name__}.")
            sources.append(text)
        return add(
            self._retriever,
            self._store,
            "text",
            sources,
            metadata,
            batch_size=batch_size,
            on_bad=on_bad,
            progress=progress,
        )

    def search(
        self,
        query: Query,
        k: int = 10,
        *,
        by: Side | None = None,
        find: Side = "image",
        where: str | None = None,
    ) -> list[Hit]:
        """The k entries of one side that are most similar to a query, best first.

        Args:
            query: a text; the path of a picture, its bytes, or a Pillow image. A string is a picture when it names
                an existing picture file.
            k: how many; all where there are fewer.
            by: what the query is, `image` or `text`, where its type should not decide.
            find: what to find, `image` or `text`.
            where: a Milvus filter over metadata, such as `price < 20 and brand == 'x'`.

        Raises:
            InterplayError: `k` below 1, nothing to be found in the gallery, a query that cannot be read, or a
                filter that Milvus does not understand.
        """
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InterplayError(f"k must be a whole number of at least 1, not {k!r}.")
        for value in (find, *(() if by is None else (by,))):
            if value not in SIDES:
                raise InterplayError(f"'{value}' is no side of a pair: choose image or text.")
        side, content = read_query(query, by)
        keys = self._retriever.keys(side, [content])
        embedding = self._retriever.encode(side, [content], self._retriever.routes(side, keys))
        found = self._store.search(array(embedding)[0], k, find, where)
        if not found and (where is None or not self.count()):
            raise InterplayError(f"The gallery {self._store.uri} has no {find}s yet: add some first.")
        hits = [
            Hit(entry.source, score, entry.route, entry.side, entry.metadata, is_gone(entry))
            for entry, score in found
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.source))

    def refresh(self, *, batch_size: int = 64, progress: bool = True) -> RefreshReport:
        """Bring the gallery up to date with a retriever that has learned or forgotten.

        Entries are read without their embeddings; routes are chosen again from the stored keys, which never
        change; and only entries whose route changed, or whose route's prompts did, are encoded again. Killed, it
        is simply called again. A picture whose file is gone keeps its entry and is named in the report.

        Args:
            batch_size: how many are encoded and written at a time.
            progress: show a bar.

        Raises:
            InterplayError: Milvus cannot be reached.
        """
        check_size(batch_size)
        began = time.monotonic()
        scanned = rerouted = reencoded = 0
        missing: set[str] = set()
        versions: dict[str, str] = {}
        with tqdm(total=self.count(), desc="Refreshing", disable=not progress, leave=False) as bar:
            for block in self._store.scan():
                missing.update(entry.source for entry in block if is_gone(entry))
                for side in SIDES:
                    entries = [entry for entry in block if entry.side == side]
                    stale, changed = self._stale(side, entries, versions)
                    rerouted += changed
                    for batch in batches(stale, batch_size):
                        lost = self._reencode(side, batch, versions)
                        reencoded += len(batch) - len(lost)
                        missing.update(lost)
                scanned += len(block)
                bar.update(len(block))
        if reencoded:
            self._store.settle()
        return RefreshReport(scanned, rerouted, reencoded, tuple(sorted(missing)), time.monotonic() - began)

    def remove(self, sources: Iterable[str | Path]) -> int:
        """Take entries out by their sources: paths of pictures, or texts.

        Returns:
            How many entries were removed; a source that is not there counts 0.
        """
        names = [name for name in map(str, several(sources, "remove", "sources")) if can_be_kept(name)]
        texts = self._store.sources([identity_of("text", name) for name in names])
        images = self._store.find_images([os.path.abspath(name) for name in names])
        ids = sorted(set(texts).union(*images.values()))
        self._store.delete(ids)
        if ids:
            self._store.settle()
        return len(ids)

    def _stale(
        self, side: Side, entries: Sequence[Entry], versions: dict[str, str]
    ) -> tuple[list[tuple[str, str]], int]:
        """The (id, route) of the entries that must be encoded again, and how many of them change their route."""
        if not entries:
            return [], 0
        keys = torch.from_numpy(np.stack([entry.key for entry in entries]))
        stale, changed = [], 0
        for entry, route in zip(entries, self._retriever.routes(side, keys), strict=True):
            if route not in versions:
                versions[route] = self._retriever.version_of(route)
            if (entry.route, entry.version) != (route, versions[route]):
                stale.append((entry.id, route))
                changed += entry.route != route
        return stale, changed

    def _reencode(
        self, side: Side, batch: Sequence[tuple[str, str]], versions: Mapping[str, str]
    ) -> list[str]:
        """Encode entries again by their new routes, in one write; the sources of those that are gone."""
        stored = self._store.get([identity for identity, _ in batch])
        entries, contents, lost = [], [], []
        for identity, route in batch:
            entry = stored[identity]
            content = content_of(entry)
            if content is None:
                lost.append(entry.source)
            else:
                entries.append(replace(entry, route=route, version=versions[route]))
                contents.append(content)
        if entries:
            encoded = self._retriever.encode(side, contents, [entry.route for entry in entries])
            self._store.upsert(
                [replace(entry, embedding=row) for entry, row in zip(entries, array(encoded), strict=True)]
            )
        return lost

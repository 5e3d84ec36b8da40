"""A gallery of images and texts that one retriever encoded: added to, searched, and refreshed when it has learned."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from interplay.errors import InterplayError, unknown, wrong_type
from interplay.gallery.add import AddReport, OnBad, add
from interplay.gallery.address import Address, ServerSettings
from interplay.gallery.changes import change_metadata
from interplay.gallery.entry import Entry, GalleryCard, Vector
from interplay.gallery.exchange import export_gallery, import_folder
from interplay.gallery.filters import columns_of
from interplay.gallery.items import (
    Encodes,
    Files,
    Query,
    array,
    can_be_kept,
    content_of,
    identity_of,
    key_of,
    read_query,
    several,
)
from interplay.gallery.refresh import RefreshReport, refresh, stale, waiting
from interplay.gallery.store import Store
from interplay.towers.tokens import SIDES, Side
from interplay.typed import fits, in_code

MOST = 16_384
"""The most hits that Milvus returns."""


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
        changed: the picture's file holds something else now: the hit is what it held when it was added.
        stale: the retriever would encode it otherwise now, having learned or forgotten: `refresh` does.
        id: the user's own id; empty where there is none.
        key: the entry's primary key, 64 hexadecimal digits.
    """

    source: str
    score: float
    route: str
    side: Side
    metadata: Mapping[str, Any]
    missing: bool
    changed: bool
    stale: bool
    id: str
    key: str = ""


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
        self._files = Files()

    @classmethod
    def open(
        cls,
        retriever: Encodes,
        uri: str | Path = "gallery.db",
        collection: str = "interplay",
        token: str | None = None,
        *,
        create: bool = True,
        settings: ServerSettings | None = None,
    ) -> Gallery:
        """Open a gallery, or create an empty one.

        Args:
            retriever: what encodes; a gallery takes no other one than that it was created with.
            uri: a folder for Milvus Lite, by default `gallery.db`, or the address of a Milvus server or cluster
                (`http://host:19530`). Everything else is the same.
            collection: the collection's name: several galleries may share a folder or a server.
            token: for a server that wants one (`user:password` or an API key). An address may hold `user:password@`
                too; no message shows it.
            create: create it where there is none; otherwise that is an error.
            settings: time limit, index and consistency of a server.

        Raises:
            InterplayError: a gallery of another backbone or retriever, something that is no gallery, a damaged or
                occupied folder, a server that does not answer, or no gallery where none is to be created.
        """
        for name, value, kind, words in (
            ("uri", uri, str | Path, "a path or an address"),
            ("collection", collection, str, "a text"),
            ("token", token, str | None, "a text"),
            ("settings", settings, ServerSettings | None, "ServerSettings"),
        ):
            if not isinstance(value, kind):
                raise wrong_type(name, words, value)
        card = GalleryCard(retriever.backbone_digest, retriever.identity, retriever.joint)
        address = Address.of(str(uri), token)
        if not create and address.folder is not None and not address.folder.exists():
            raise InterplayError(f"There is no gallery '{uri}'.")
        return cls(retriever, Store.open(address, collection, card, settings, create=create))

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
        ids: Sequence[str] | None = None,
        batch_size: int = 64,
        on_bad: OnBad = "raise",
        progress: bool = True,
    ) -> AddReport:
        """Add picture files.

        Where the gallery has an entry of the same file and the file holds another picture now, the new one takes
        its place. One that is there is not encoded again; metadata that are given take the place of those that it
        has, and empty ones leave them. A copy of a picture is the same entry, unless it comes with metadata of its
        own.

        Args:
            paths: the files. A hit gives the absolute path back.
            metadata: for each one, values by column, to filter by: texts, numbers, truth values, lists of them.
            ids: for each one an id of your own, or an empty text; an entry with the same id gives way. The filter
                knows them as `_id`.
            batch_size: how many are written at a time.
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
            ids,
            batch_size=batch_size,
            on_bad=on_bad,
            progress=progress,
        )

    def add_texts(
        self,
        texts: Iterable[str],
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        ids: Sequence[str] | None = None,
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
            ids,
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
            where: a Milvus filter over metadata, such as `price < 20 and brand == 'x'`. It can only narrow what is
                found: it holds inside `find`.

        Raises:
            InterplayError: `k` below 1, nothing to be found in the gallery, a query that cannot be read, a filter
                that is not closed in itself, that Milvus does not understand, or with a column that no entry has.
        """
        return self.search_many([query], k, by=by, find=find, where=where)[0]

    def search_many(
        self,
        queries: Iterable[Query],
        k: int = 10,
        *,
        by: Side | None = None,
        find: Side = "image",
        where: str | None = None,
    ) -> list[list[Hit]]:
        """What `search` finds for each of several queries, in their order; arguments and errors are the same."""
        _check_search(k, find, by)
        read = [read_query(query, by) for query in several(queries, "search_many", "queries")]
        return [self.near(self._vector(side, content), k, find=find, where=where) for side, content in read]

    def near(
        self, vector: Vector, k: int = 10, *, find: Side = "image", where: str | None = None
    ) -> list[Hit]:
        """What `search` finds for a query that is encoded already.

        Args:
            vector: (joint,), normalised, as the gallery's retriever encodes.
            k, find, where: as `search`.

        Raises:
            InterplayError: as `search`.
        """
        _check_search(k, find)
        hits = self._store.search(vector, k, find, where)
        if not hits:
            self._explain_nothing(find, where)
        old = stale(self._retriever, [entry for entry, _ in hits])
        found = [self._hit(entry, score, entry.id in old) for entry, score in hits]
        return sorted(found, key=lambda hit: (-hit.score, hit.source, hit.id))

    def beside(self, retriever: Encodes) -> Gallery:
        """The same gallery, still open, as another state of its retriever sees it; closing either closes both.

        Args:
            retriever: the one that it was made with, which may have learned or forgotten.

        Raises:
            InterplayError: it is another one.
        """
        if retriever.identity != self._retriever.identity:
            raise InterplayError(f"The gallery {self._store.place} was made with another retriever.")
        return Gallery(retriever, self._store)

    @property
    def state(self) -> str:
        """That of the retriever at the last complete refresh."""
        return self._store.state

    def picture(self, key: str) -> bytes | None:
        """What the file of an entry holds; None where there is no such picture, or the file holds another one now.

        Args:
            key: the entry's primary key, as a hit gives it.
        """
        entry = self._store.get([key]).get(key)
        content = None if entry is None or entry.side == "text" else content_of(entry)
        return content if isinstance(content, bytes) else None

    def _vector(self, side: Side, content: Query) -> Vector:
        """A query's embedding: (joint,)."""
        keys = self._retriever.keys(side, [content], apart=True)
        routes = self._retriever.routes(side, keys)
        vector: Vector = array(self._retriever.encode(side, [content], routes, apart=True))[0]
        return vector

    def _hit(self, entry: Entry, score: float, old: bool) -> Hit:
        file = self._files.state(entry.source, entry.content) if entry.side == "image" else "there"
        return Hit(
            entry.source,
            score,
            entry.route,
            entry.side,
            entry.metadata,
            missing=file == "missing",
            changed=file == "changed",
            stale=old,
            id=entry.name,
            key=entry.id,
        )

    def _explain_nothing(self, find: Side, where: str | None) -> None:
        """Raises where nothing could be found: there is nothing on that side, or the filter names no column."""
        if where is None or not self.count():
            raise InterplayError(f"The gallery {self._store.place} has no {find}s yet: add some first.")
        known = self._store.columns()
        for name in columns_of(where):
            if name not in known:
                raise unknown("column of metadata", name, known)

    def waiting(self) -> int:
        """How many entries `refresh` would encode again, because the retriever has learned or forgotten since."""
        return waiting(self._retriever, self._store)

    def refresh(self, *, batch_size: int = 64, progress: bool = True) -> RefreshReport:
        """Bring the gallery up to date with a retriever that has learned or forgotten.

        Entries are read without their embeddings; routes are chosen again from the stored keys, which never
        change; and only entries whose route changed, or whose route's prompts did, are encoded again. What was
        before is gone from a Milvus Lite folder then. Killed, it is simply called again. A picture whose file is
        gone keeps its entry and is named in the report.

        Args:
            batch_size: how many are written at a time.
            progress: show a bar.

        Raises:
            InterplayError: Milvus cannot be reached.
        """
        return refresh(self._retriever, self._store, batch_size=batch_size, progress=progress)

    def remove(self, sources: Iterable[str | Path] = (), *, ids: Iterable[str] = ()) -> int:
        """Take entries out by their sources, paths of pictures or texts, or by ids of your own.

        Returns:
            How many entries were removed; a source or id that is not there counts 0.
        """
        names = [name for name in map(str, several(sources, "remove", "sources")) if can_be_kept(name)]
        own = [name for name in map(str, several(ids, "remove", "ids")) if can_be_kept(name)]
        keys = [identity_of("text", name) for name in names]
        keys += [key_of(side, name) for side in SIDES for name in own]
        images = self._store.find_images([os.path.abspath(name) for name in names])
        return self._delete({*self._store.get(keys), *(old.id for known in images.values() for old in known)})

    def change_metadata(
        self,
        sources: Sequence[str | Path],
        metadata: Sequence[Mapping[str, Any]],
        *,
        ids: Sequence[str] | None = None,
    ) -> int:
        """Change the metadata of entries; nothing is encoded, and no file is read.

        Args:
            sources: paths of pictures, or texts.
            metadata: for each, what takes the place of what the entry has in these columns; None takes a column out.
                The others stay.
            ids: for each an id of your own, which then finds the entry instead of the source; or an empty text.

        Returns:
            How many entries were changed; what is not there counts 0.

        Raises:
            InterplayError: metadata that do not fit, or Milvus cannot be reached.
        """
        names = [str(one) for one in several(sources, "change_metadata", "sources")]
        return change_metadata(self._store, names, metadata, ids)

    def export(self, folder: str | Path) -> int:
        """Write every entry into Parquet files of a new folder, vectors bit for bit; returns how many.

        Raises:
            InterplayError: the folder holds something, or cannot be written.
        """
        return export_gallery(self._store, Path(folder))

    def take_over(self, folder: str | Path) -> int:
        """Take the entries of a folder that `export` or `interplay embed` wrote; an entry with the same id gives way.

        Returns:
            How many were taken.

        Raises:
            InterplayError: the folder is neither, is damaged, or was made with another retriever.
        """
        return import_folder(self._store, Path(folder))

    def prune(self) -> tuple[str, ...]:
        """Take out pictures whose files are gone or hold something else now; every file is read for it.

        Returns:
            The paths of those that were taken out.
        """
        gone = [
            entry
            for block in self._store.scan()
            for entry in block
            if entry.side == "image" and self._files.state(entry.source, entry.content) != "there"
        ]
        self._delete({entry.id for entry in gone})
        return tuple(sorted(entry.source for entry in gone))

    def _delete(self, keys: set[str]) -> int:
        """Delete entries, and have nothing of them left in a Milvus Lite folder."""
        self._store.delete(sorted(keys))
        if keys:
            self._store.compact()
        return len(keys)


def _check_search(k: int, find: Side, by: Side | None = None) -> None:
    """Refuse numbers of hits and sides that there are not."""
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MOST:
        raise InterplayError(f"k must be a whole number from 1 to {MOST:,}.")
    for value in (find, *(() if by is None else (by,))):
        if not fits(value, Side):
            raise InterplayError(f"{in_code(value)} is no side of a pair: choose image or text.")

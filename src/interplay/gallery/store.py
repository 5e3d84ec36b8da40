"""The rows of a gallery: those of one version of it, or of the one that readers see."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from interplay.errors import InterplayError
from interplay.gallery.address import Address, ServerSettings
from interplay.gallery.connection import Connection
from interplay.gallery.entry import COLUMNS, CONTENT, NAME, Entry, GalleryCard, Vector
from interplay.gallery.filters import closed, shown
from interplay.gallery.versions import Versions
from interplay.towers.tokens import Side

T = TypeVar("T")

_STATE = "interplay_state"  # the property that holds the retriever's state at the last complete refresh
_BLOCK = 8192  # rows read at a time; Milvus allows 16,384
_BYTES = 2**24  # of the vectors read at a time
_POLL = 0.5  # seconds between two looks at an index that is being built
_MANY = 4096  # entries after which an index is waited for
_NAMES = 1024  # sources in one filter
_PLAIN = tuple(name for name in COLUMNS if name != "embedding")
_BESIDE = "$meta"  # all columns beside those of the schema


@dataclass(frozen=True)
class Known:
    """What finds an entry: primary key, source, content and the user's own id."""

    id: str
    source: str
    content: str
    name: str


class Store:
    """The rows of one gallery. `Store.open` makes it; `close` gives the folder or connection back.

    A batch is one write by primary key. Once it has returned, Milvus has the whole batch in its write-ahead log,
    also when this process is killed at that moment; before, it has none of it. In Milvus Lite the log reaches the
    operating system but is not forced to the disk: a killed process loses nothing, a power cut may lose what was
    written last.
    """

    def __init__(self, connection: Connection, versions: Versions, name: str) -> None:
        self.place = connection.place
        self.versions = versions
        self._name = name
        self._connection = connection
        self._client = connection.client
        self._lite = connection.lite
        self._seen = name
        self._index: str | None = None
        self._unindexed = 0

    @classmethod
    def open(
        cls,
        address: Address,
        collection: str,
        card: GalleryCard,
        settings: ServerSettings | None = None,
        *,
        create: bool = True,
    ) -> Store:
        """Open a gallery, or create it.

        Args:
            collection: its name.
            create: create it where there is none; otherwise it is an error.

        Raises:
            InterplayError: no Milvus there, something else of that name, or a gallery made with something else.
        """
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,239}", collection):
            raise InterplayError(
                f"'{collection}' cannot name a collection: use letters, digits and underscores, a letter first."
            )
        connection = Connection.open(address, collection, settings or ServerSettings())
        try:
            versions = Versions(connection, collection, card)
            versions.prepare(create)
            store = cls(connection, versions, collection)
            store._seen = versions.current()
        except BaseException:
            connection.close()
            raise
        return store

    def at(self, version: str) -> Store:
        """The rows of one version, whatever readers see."""
        return Store(self._connection, self.versions, version)

    @property
    def version(self) -> str:
        """The version that the last call went to."""
        return self._seen

    def close(self) -> None:
        """Write everything down and end the connection; a second call does nothing."""
        self._connection.close()

    def count(self) -> int:
        """The number of entries."""
        rows = self._ask(
            "count",
            lambda: self._client.query(self._name, output_fields=["count(*)"], **self._connection.reading),
        )
        return int(rows[0]["count(*)"])

    def upsert(self, entries: Sequence[Entry]) -> None:
        """Write entries, each in place of the one with the same id, if any.

        Milvus Lite's own `upsert` would keep metadata that an entry no longer has; its `insert` takes the old one's
        place.
        """
        if entries:
            write = self._client.upsert if self._lite is None else self._client.insert
            rows = [entry.row() for entry in entries]
            self._write(lambda: write(self._name, rows, **self._connection.wait))
            self._unindexed += len(rows)

    def delete(self, ids: Sequence[str]) -> None:
        """Delete entries."""
        for start in range(0, len(ids), _NAMES):
            self._delete(ids[start : start + _NAMES])

    def _delete(self, ids: Sequence[str]) -> None:
        self._write(lambda: self._client.delete(self._name, ids=list(ids), **self._connection.wait))

    def settle(self) -> None:
        """Have Milvus Lite turn its log into its own files, so that the gallery opens fast; nothing is safer for it.

        A server does the same by itself. After many entries it is waited for, because until then a search would miss
        many of them (`build_index`).
        """
        if self._lite is not None:
            self._write(lambda: self._client.flush(self._name))
        elif self._unindexed >= _MANY:
            self.build_index()

    def show(self) -> None:
        """Wait until a server shows everything that was written to readers who wait for nothing, too.

        With the consistency Bounded a server answers by what it had some seconds ago.
        """
        while self._lite is None and self._count("Bounded") < self._count("Strong"):
            time.sleep(_POLL)

    def _count(self, consistency: str) -> int:
        how = {**self._connection.wait, "consistency_level": consistency}
        rows = self._ask("count", lambda: self._client.query(self._name, output_fields=["count(*)"], **how))
        return int(rows[0]["count(*)"])

    def build_index(self) -> None:
        """Have a server build the index over everything that was written, and wait for it; after much was.

        Until then a server searches what is new by a makeshift index, which finds only about half of what it should
        among more than some thousands (as of 2.3, by the settings that it comes with).
        """
        if self._lite is not None:
            return
        self._unindexed = 0
        self._write(lambda: self._client.flush(self._name, **self._connection.wait))
        version = self.versions.current() if self._follows else self._name
        while not self._ask("be searched", lambda: self.versions.is_ready(version)):
            time.sleep(_POLL)

    def compact(self) -> None:
        """Rid the files of what was deleted and overwritten.

        In a Milvus Lite folder nothing of it is left afterwards, also not in what a refresh that was killed has begun.
        A server is asked to merge its segments, and deletes the old ones when its garbage collection comes to them.
        """
        if (lite := self._lite) is not None:
            if self._follows and self.versions.refreshing.acquire(blocking=False):
                with contextlib.ExitStack() as held:
                    held.callback(self.versions.refreshing.release)
                    self.versions.drop_others(self.versions.current())
            self._write(lambda: lite.compact(self._name))
        else:
            self._write(lambda: self._client.compact(self._name, **self._connection.wait))

    @property
    def state(self) -> str:
        """The retriever's state with which every entry was encoded; empty where they may differ."""
        return str(self._connection.describe(self._name).get("properties", {}).get(_STATE, ""))

    def mark(self, state: str) -> None:
        """Write down the retriever's state with which every entry was encoded."""
        self._write(
            lambda: self._client.alter_collection_properties(
                self.versions.current() if self._follows else self._name,
                properties={_STATE: state},
                **self._connection.wait,
            )
        )

    def get(self, ids: Sequence[str]) -> dict[str, Entry]:
        """Whole entries by their primary keys; those that are not there are left out."""
        if not ids:
            return {}
        rows = self._ask(
            "read",
            lambda: self._client.get(self._name, list(ids), output_fields=["*"], **self._connection.reading),
        )
        return {row["id"]: Entry.of(row) for row in rows}

    def find_images(self, paths: Sequence[str]) -> dict[str, list[Known]]:
        """The pictures that were taken from each of these paths."""
        found: dict[str, list[Known]] = {}
        for start in range(0, len(paths), _NAMES):
            names = ", ".join(_literal(path) for path in paths[start : start + _NAMES])
            condition = f'side == "image" and source in [{names}]'
            for row in self._query(condition, ["id", "source", NAME, CONTENT]):
                known = Known(row["id"], row["source"], row.get(CONTENT) or row["id"], row.get(NAME) or "")
                found.setdefault(known.source, []).append(known)
        return found

    def _query(self, condition: str, columns: Sequence[str]) -> list[Mapping[str, Any]]:
        rows = self._ask(
            "read",
            lambda: self._client.query(
                self._name, filter=condition, output_fields=list(columns), **self._connection.reading
            ),
        )
        return list(rows)

    def scan(self, *, metadata: bool = False, embeddings: bool = False) -> Iterator[list[Entry]]:
        """All entries in blocks, those of one version.

        Entries may be written in between: it goes by primary key, and rewriting an entry does not move it.

        Args:
            metadata: with them.
            embeddings: with them.

        Raises:
            InterplayError: as for every call; also where the version was dropped meanwhile.
        """
        beside = [_BESIDE] if metadata else [NAME, CONTENT]
        for block in self._blocks([*_PLAIN, *beside, *(["embedding"] if embeddings else [])]):
            yield [Entry.of(row) for row in block]

    def columns(self) -> set[str]:
        """The names of all metadata columns; every entry is read for it."""
        return {
            name
            for block in self._blocks(["id", _BESIDE])
            for row in block
            for name in row
            if name not in COLUMNS and name[0] not in "$_"
        }

    def _blocks(self, columns: Sequence[str]) -> Iterator[list[Mapping[str, Any]]]:
        version = self.versions.current() if self._follows else self._name
        size = _BLOCK
        if "embedding" in columns:
            size = min(size, max(64, _BYTES // (4 * self.versions.card.joint)))
        rows = self._ask(
            "read",
            lambda: self._client.query_iterator(
                version, batch_size=size, output_fields=list(columns), **self._connection.reading
            ),
        )
        try:
            while block := self._ask("read", rows.next):
                yield block
        finally:
            rows.close()

    def search(self, query: Vector, k: int, side: Side, where: str | None) -> list[tuple[Entry, float]]:
        """The k entries of a side with the greatest inner product with `query` (joint,), and that product.

        Exact with the index FLAT and in Milvus Lite: every entry is compared.

        Raises:
            InterplayError: the filter is not closed in itself, Milvus does not understand it, or cannot be reached.
        """
        condition = f'side == "{side}"' + ("" if where is None else f" and ({closed(where)})")
        failing = "search" if where is None else f"search with the filter '{shown(where)}'"
        probing = dict(self._connection.settings.looking(self._kind(), k))
        (hits,) = self._ask(
            failing,
            lambda: self._client.search(
                self._name,
                data=[query.tolist()],
                anns_field="embedding",
                filter=condition,
                limit=k,
                output_fields=[
                    *_PLAIN,
                    _BESIDE,
                ],  # with the embedding, a server would read the hits in a second step
                search_params={"metric_type": "IP", "params": probing},
                **self._connection.reading,
            ),
        )
        return [(Entry.of({"id": hit["id"], **hit["entity"]}), float(hit["distance"])) for hit in hits]

    def _ask(self, action: str, call: Callable[[], T]) -> T:
        """One call; again where it failed because the version that it went to was dropped meanwhile."""
        while True:
            seen = self._seen
            try:
                return self._connection.ask(action, call, self._name)
            except InterplayError:
                if not self._has_moved(seen):
                    raise

    def _write(self, call: Callable[[], object]) -> None:
        """One call that writes; again where readers see another version now: what is there is written over."""
        while True:
            seen = self._seen
            try:
                self._connection.write(call, self._name, self._follows)
            except InterplayError:
                if self._lite is not None or not self._has_moved(seen):
                    raise
                continue
            if not self._has_moved(seen):
                return

    @property
    def _follows(self) -> bool:
        """Whether these are the rows that readers see, and not those of one version."""
        return self._name == self.versions.name

    def _has_moved(self, seen: str) -> bool:
        """Whether readers see another version than one that was seen; never for the rows of one version."""
        if not self._follows:
            return False
        self._seen = self.versions.current()
        return self._seen != seen

    def _kind(self) -> str:
        """The kind of index, which every version has from the one before it."""
        if self._index is None:
            self._index = self.versions.index(self._name).get("index_type", "")
        return self._index


def _literal(text: str) -> str:
    """A string in a Milvus filter, with the only escapes that Milvus Lite and Milvus both read."""
    escapes = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
    return '"' + text.translate(escapes) + '"'

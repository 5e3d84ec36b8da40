"""The rows of a gallery: one Milvus collection, in a folder or on a server; every call to Milvus is here."""

from __future__ import annotations

import contextlib
import json
import re
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from interplay.errors import InterplayError, unknown
from interplay.gallery.address import Address, ServerSettings, index_of
from interplay.gallery.calls import calling
from interplay.gallery.entry import COLUMNS, CONTENT, LONGEST, NAME, Entry, GalleryCard, Vector
from interplay.gallery.filters import closed, shown
from interplay.gallery.lite import start_lite
from interplay.towers.tokens import Side

T = TypeVar("T")

_ABOUT = "interplay"  # the collection property that holds the card
_STATE = "interplay_state"  # the property that holds the retriever's state at the last complete refresh
_CONNECT = 5.0  # seconds until a server that does not answer is given up
_BLOCK = 8192  # rows read at a time; Milvus allows 16,384
_NAMES = 1024  # sources in one filter
_NOT_LOADED = (101, 106)  # a collection that the server released, as it does when it starts again


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

    def __init__(
        self, client: Any, address: Address, collection: str, lite: Any, settings: ServerSettings
    ) -> None:
        self.place = address.shown
        self.collection = collection
        self._client = client
        self._lite = lite
        self._settings = settings
        # what runs in this process has no limit
        self._wait = {"timeout": settings.timeout if lite is None else None}
        self._reading = self._wait | ({"consistency_level": settings.consistency} if lite is None else {})
        # Runs at the end of the program too, so that a gallery that nobody closed leaves nothing running.
        self._end = weakref.finalize(self, _end, client, lite)

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
        """Open a collection, or create it.

        Args:
            create: create it where there is none; otherwise it is an error.

        Raises:
            InterplayError: no Milvus there, something else of that name, or a gallery made with something else.
        """
        from pymilvus import MilvusClient

        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", collection):
            raise InterplayError(
                f"'{collection}' cannot name a collection: use letters, digits and underscores, a letter first."
            )
        settings = settings or ServerSettings()
        lite = None if address.folder is None else start_lite(address.folder, collection)
        store = None
        try:
            hint = " Is it running, and are address and token right?"
            with calling(address.shown, "be reached", hint=hint):
                client = MilvusClient(
                    address.shown if lite is None else "unix:inside",
                    token=address.token,
                    timeout=min(_CONNECT, settings.timeout),
                    dedicated=True,
                    **({} if lite is None else {"channel": lite.channel}),
                )
            store = cls(client, address, collection, lite, settings)
            store._prepare(card, create)
        except BaseException:
            if store is not None:
                store.close()
            elif lite is not None:
                lite.stop()
            raise
        return store

    def close(self) -> None:
        """Write everything down and end the connection; a second call does nothing."""
        self._end()

    def count(self) -> int:
        """The number of entries."""
        rows = self._ask(
            "count",
            lambda: self._client.query(self.collection, output_fields=["count(*)"], **self._reading),
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
            self._write(lambda: write(self.collection, rows, **self._wait))

    def delete(self, ids: Sequence[str]) -> None:
        """Delete entries."""
        for start in range(0, len(ids), _NAMES):
            self._delete(ids[start : start + _NAMES])

    def _delete(self, ids: Sequence[str]) -> None:
        self._write(lambda: self._client.delete(self.collection, ids=list(ids), **self._wait))

    def settle(self) -> None:
        """Have Milvus Lite turn its log into its own files, so that the gallery opens fast.

        Nothing is safer for it. A server does the same by itself, and limits how often one may ask.
        """
        if self._lite is not None:
            self._write(lambda: self._client.flush(self.collection))

    def compact(self) -> None:
        """Rid the files of what was deleted and overwritten.

        In a Milvus Lite folder nothing of it is left afterwards. A server is asked to merge its segments, and deletes
        the old ones when its garbage collection comes to them.
        """
        if self._lite is not None:
            self._write(lambda: self._lite.compact())
        else:
            self._write(lambda: self._client.compact(self.collection, **self._wait))

    @property
    def state(self) -> str:
        """The retriever's state with which every entry was encoded; empty where they may differ."""
        return str(self._describe().get("properties", {}).get(_STATE, ""))

    def mark(self, state: str) -> None:
        """Write down the retriever's state with which every entry was encoded."""
        self._write(
            lambda: self._client.alter_collection_properties(
                self.collection, properties={_STATE: state}, **self._wait
            )
        )

    def get(self, ids: Sequence[str]) -> dict[str, Entry]:
        """Whole entries by their primary keys; those that are not there are left out."""
        if not ids:
            return {}
        rows = self._ask(
            "read",
            lambda: self._client.get(self.collection, list(ids), output_fields=["*"], **self._reading),
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
                self.collection, filter=condition, output_fields=list(columns), **self._reading
            ),
        )
        return list(rows)

    def scan(self) -> Iterator[list[Entry]]:
        """All entries in blocks, without embeddings and metadata.

        Entries may be written in between: it goes by primary key, and rewriting an entry does not move it.
        """
        columns = [name for name in COLUMNS if name != "embedding"]
        for block in self._blocks([*columns, NAME, CONTENT]):
            yield [Entry.of(row) for row in block]

    def columns(self) -> set[str]:
        """The names of all metadata columns; every entry is read for it."""
        return {
            name
            for block in self._blocks(["*"])
            for row in block
            for name in row
            if name not in COLUMNS and name[0] not in "$_"
        }

    def _blocks(self, columns: Sequence[str]) -> Iterator[list[Mapping[str, Any]]]:
        rows = self._ask(
            "read",
            lambda: self._client.query_iterator(
                self.collection, batch_size=_BLOCK, output_fields=list(columns), **self._reading
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
        probing = {} if self._lite is not None else dict(self._settings.looking(k))
        (hits,) = self._ask(
            failing,
            lambda: self._client.search(
                self.collection,
                data=[query.tolist()],
                anns_field="embedding",
                filter=condition,
                limit=k,
                output_fields=["*"],
                search_params={"metric_type": "IP", "params": probing},
                **self._reading,
            ),
        )
        return [(Entry.of({"id": hit["id"], **hit["entity"]}), float(hit["distance"])) for hit in hits]

    def _ask(self, action: str, call: Callable[[], T]) -> T:
        """One call; a server that has started again since is told to load the collection first."""
        from pymilvus.exceptions import MilvusException

        with self._calling(action):
            try:
                return call()
            except MilvusException as problem:
                if self._lite is not None or problem.code not in _NOT_LOADED:
                    raise
            self._client.load_collection(self.collection, **self._wait)
            return call()

    @contextlib.contextmanager
    def _calling(self, action: str) -> Iterator[None]:
        if not self._end.alive:
            raise InterplayError(f"The gallery {self.place} is closed; open it again.")
        with calling(self.place, action):
            yield

    def _write(self, call: Callable[[], object]) -> None:
        """A call that writes. After one that failed, Milvus Lite is closed.

        A full disk may have left half a record in the log, and Milvus Lite would write behind it what it could not
        read again after a kill; opened anew, it begins a new log.
        """
        try:
            self._ask("write", call)
        except InterplayError as problem:
            if self._lite is None or not self._end.alive:
                raise
            self.close()
            raise InterplayError(f"{problem} The gallery is closed now: open it again to go on.") from None

    def _describe(self) -> Mapping[str, Any]:
        described: Mapping[str, Any] = self._ask(
            "be opened", lambda: self._client.describe_collection(self.collection, **self._wait)
        )
        return described

    def _prepare(self, card: GalleryCard, create: bool) -> None:
        """Create the collection, or see that it fits; then have it ready to be searched."""
        if not self._ask("be opened", lambda: self._client.has_collection(self.collection, **self._wait)):
            if not create:
                known = self._ask("be opened", lambda: self._client.list_collections(**self._wait))
                raise unknown(f"collection in the gallery {self.place}", self.collection, known)
            self._ask("be opened", lambda: self._create(card))
        about = self._describe().get("properties", {}).get(_ABOUT)
        _check(about, card, f"{self.place} (collection '{self.collection}')")
        if self._lite is None:
            self._ask("be opened", self._load)

    def _load(self) -> None:
        if not self._client.list_indexes(self.collection):
            self._client.create_index(self.collection, index_of(self._client, self._settings), **self._wait)
        self._client.load_collection(self.collection, **self._wait)

    def _create(self, card: GalleryCard) -> None:
        """The collection and its card appear in one step.

        Milvus Lite gets no index. It would gain nothing (exact search compares everything anyway), and Milvus Lite
        writes index files in place: a process that is killed meanwhile leaves half a file that cannot be opened.
        """
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=True)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("side", DataType.VARCHAR, max_length=8)
        for name in ("source", "route", "version", "key"):
            schema.add_field(name, DataType.VARCHAR, max_length=LONGEST)
        schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=card.joint)
        self._client.create_collection(
            self.collection,
            schema=schema,
            index_params=index_of(self._client, self._settings) if self._lite is None else None,
            properties={_ABOUT: json.dumps(asdict(card))},
            consistency_level=self._settings.consistency,
            **self._wait,
        )


def _literal(text: str) -> str:
    """A string in a Milvus filter, with the only escapes that Milvus Lite and Milvus both read."""
    escapes = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
    return '"' + text.translate(escapes) + '"'


def _check(about: str | None, card: GalleryCard, where: str) -> None:
    """Refuses a collection that is not a gallery, or one that was made with something else."""
    try:
        found = json.loads(about or "")
        values = {name: found[name] for name in ("format", "backbone", "joint", "retriever")}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InterplayError(f"{where} is not an interplay gallery; choose another collection.") from None
    if values["format"] != card.format:
        raise InterplayError(
            f"The gallery {where} has format {values['format']}; this version of interplay reads {card.format}."
        )
    for name, title in (("backbone", "backbone"), ("joint", "embedding width"), ("retriever", "retriever")):
        old, new = str(values[name])[:12], str(getattr(card, name))[:12]
        if values[name] != getattr(card, name):
            raise InterplayError(
                f"The gallery {where} was made with another {title} ({old}, here {new}): open it with the "
                "retriever that it was made with, or choose another gallery."
            )


def _end(client: Any, lite: Any) -> None:
    """Close the connection, and Milvus Lite behind it."""
    client.close()
    if lite is not None:
        lite.stop()

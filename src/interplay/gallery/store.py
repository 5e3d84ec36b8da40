"""Where a gallery lies: one Milvus collection, in a Milvus Lite folder or on a server; every call to Milvus is here."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import re
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from interplay.errors import InterplayError
from interplay.gallery.lite import start_lite
from interplay.towers.tokens import Side

# gRPC writes to stderr, past Python, when a server closes a connection; what matters of it arrives as an exception.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

Vector = npt.NDArray[np.float32]

FORMAT = 1  # counts up when the columns or what they mean change
COLUMNS = ("id", "side", "source", "route", "version", "key", "embedding")
LONGEST = 65_535
"""The longest text or path in bytes that Milvus keeps."""

_ABOUT = "interplay"  # the collection property that holds the card
_CONNECT = 5.0  # seconds until a server that does not answer is given up
_PATIENCE = 60.0  # seconds until one call to a server is given up; Milvus Lite, in this process, has no limit
_BLOCK = 8192  # rows read at a time; Milvus allows 16,384
_NAMES = 1024  # sources in one filter


@dataclass(frozen=True)
class Card:
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
        id: SHA-256 over the side and the content, in hexadecimal: the primary key.
        side: `image` or `text`.
        source: the absolute path of the picture, or the text.
        route: what the item was encoded with.
        version: fingerprint of that route when it was.
        key: (joint,), L2-normalised. Milvus keeps it as base64 in a text column, bit for bit: as a second vector
            column it would need an index, and reading it back from Milvus Lite would take three times as long.
        embedding: (joint,), L2-normalised; None where it was not read.
        metadata: further columns, to filter by.
    """

    id: str
    side: Side
    source: str
    route: str
    version: str
    key: Vector
    embedding: Vector | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The entry as Milvus takes it."""
        key = base64.b64encode(np.ascontiguousarray(self.key, dtype="<f4").tobytes()).decode("ascii")
        own = {
            name: getattr(self, name) for name in ("id", "side", "source", "route", "version", "embedding")
        }
        return {**self.metadata, **own, "key": key}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Entry:
        """The entry of a row that Milvus gave."""
        embedding = row.get("embedding")
        return cls(
            id=row["id"],
            side=row["side"],
            source=row["source"],
            route=row["route"],
            version=row["version"],
            key=np.frombuffer(base64.b64decode(row["key"]), dtype="<f4"),
            embedding=None if embedding is None else np.asarray(embedding, dtype=np.float32),
            metadata={name: row[name] for name in row if name not in COLUMNS and not name.startswith("$")},
        )


class Store:
    """The rows of one gallery. `Store.open` makes it; `close` gives the folder or connection back.

    A batch is one upsert by primary key. Once it has returned, Milvus has the whole batch in its write-ahead log,
    also when this process is killed at that moment; before, it has none of it. In Milvus Lite the log reaches the
    operating system but is not forced to the disk: a killed process loses nothing, a power cut may lose what was
    written last.
    """

    def __init__(self, client: Any, uri: str, collection: str, lite: Any) -> None:
        self.uri = uri
        self.collection = collection
        self._client = client
        self._lite = lite is not None
        self._wait = None if self._lite else _PATIENCE
        # Runs at the end of the program too, so that a gallery that nobody closed leaves nothing running.
        self._end = weakref.finalize(self, _end, client, lite)

    @classmethod
    def open(cls, uri: str, collection: str, token: str | None, card: Card) -> Store:
        """Open a collection, or create it.

        Raises:
            InterplayError: no Milvus there, something else of that name, or a gallery made with something else.
        """
        from pymilvus import MilvusClient

        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", collection):
            raise InterplayError(
                f"'{collection}' cannot name a collection: use letters, digits and underscores, a letter first."
            )
        lite = None if "://" in uri else start_lite(Path(uri), collection)
        store = None
        try:
            with _calling(uri, "be reached", hint=" Is it running, and is the address right?"):
                client = MilvusClient(
                    uri if lite is None else lite.address,
                    token=token or "",
                    timeout=_CONNECT,
                    dedicated=True,
                    # what lies in this process must not be looked for behind a web proxy
                    grpc_options={} if lite is None else {"grpc.enable_http_proxy": 0},
                )
            store = cls(client, uri, collection, lite)
            store._prepare(card)
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
        with self._call("count"):
            rows = self._client.query(self.collection, output_fields=["count(*)"], timeout=self._wait)
        return int(rows[0]["count(*)"])

    def upsert(self, entries: Sequence[Entry]) -> None:
        """Write entries, each in place of the one with the same id, if any."""
        if entries:
            with self._write():
                rows = [entry.row() for entry in entries]
                self._client.upsert(self.collection, rows, timeout=self._wait)

    def delete(self, ids: Sequence[str]) -> None:
        """Delete entries."""
        for start in range(0, len(ids), _NAMES):
            with self._write():
                part = list(ids[start : start + _NAMES])
                self._client.delete(self.collection, ids=part, timeout=self._wait)

    def settle(self) -> None:
        """Have Milvus Lite turn its log into its own files, so that the gallery opens fast.

        Nothing is safer for it. A server does the same by itself, and limits how often one may ask.
        """
        if self._lite:
            with self._write():
                self._client.flush(self.collection)

    def get(self, ids: Sequence[str]) -> dict[str, Entry]:
        """Whole entries by their ids; those that are not there are left out."""
        return {row["id"]: Entry.of(row) for row in self._get(ids, ["*"])}

    def sources(self, ids: Sequence[str]) -> dict[str, str]:
        """The source of each of these ids that is there."""
        return {row["id"]: row["source"] for row in self._get(ids, ["id", "source"])}

    def _get(self, ids: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
        if not ids:
            return []
        with self._call("read"):
            rows = self._client.get(
                self.collection, list(ids), output_fields=list(columns), timeout=self._wait
            )
        return list(rows)

    def find_images(self, paths: Sequence[str]) -> dict[str, set[str]]:
        """The ids of the pictures that were taken from each of these paths."""
        found: dict[str, set[str]] = {}
        for start in range(0, len(paths), _NAMES):
            names = ", ".join(_literal(path) for path in paths[start : start + _NAMES])
            with self._call("read"):
                rows = self._client.query(
                    self.collection,
                    filter=f'side == "image" and source in [{names}]',
                    output_fields=["id", "source"],
                    timeout=self._wait,
                )
            for row in rows:
                found.setdefault(row["source"], set()).add(row["id"])
        return found

    def scan(self) -> Iterator[list[Entry]]:
        """All entries in blocks, without embeddings and metadata.

        Entries may be written in between: it goes by primary key, and rewriting an entry does not move it.
        """
        columns = [name for name in COLUMNS if name != "embedding"]
        with self._call("read"):
            rows = self._client.query_iterator(
                self.collection, batch_size=_BLOCK, output_fields=columns, timeout=self._wait
            )
        try:
            while True:
                with self._call("read"):
                    block = rows.next()
                if not block:
                    return
                yield [Entry.of(row) for row in block]
        finally:
            rows.close()

    def search(self, query: Vector, k: int, side: Side, where: str | None) -> list[tuple[Entry, float]]:
        """The k entries of a side with the greatest inner product with `query` (joint,), and that product.

        Exact: every entry is compared.

        Raises:
            InterplayError: Milvus does not understand the filter, or cannot be reached.
        """
        condition = f'side == "{side}"' + (f" and ({where})" if where else "")
        failing = f"search with the filter '{where}'" if where else "search"
        with self._call(failing):
            (hits,) = self._client.search(
                self.collection,
                data=[query.tolist()],
                anns_field="embedding",
                filter=condition,
                limit=k,
                output_fields=["*"],
                search_params={"metric_type": "IP"},
                timeout=self._wait,
            )
        return [(Entry.of({"id": hit["id"], **hit["entity"]}), float(hit["distance"])) for hit in hits]

    @contextlib.contextmanager
    def _call(self, action: str) -> Iterator[None]:
        if not self._end.alive:
            raise InterplayError(f"The gallery {self.uri} is closed; open it again.")
        with _calling(self.uri, action):
            yield

    @contextlib.contextmanager
    def _write(self) -> Iterator[None]:
        """A call that writes. After one that failed, Milvus Lite is closed.

        A full disk may have left half a record in the log, and Milvus Lite would write behind it what it could not
        read again after a kill; opened anew, it begins a new log.
        """
        try:
            with self._call("write"):
                yield
        except InterplayError as problem:
            if not (self._lite and self._end.alive):
                raise
            self.close()
            raise InterplayError(f"{problem} The gallery is closed now: open it again to go on.") from None

    def _prepare(self, card: Card) -> None:
        """Create the collection, or see that it fits; then have it ready to be searched."""
        with self._call("be opened"):
            if not self._client.has_collection(self.collection):
                self._create(card)
            about = self._client.describe_collection(self.collection)
        _check(about.get("properties", {}).get(_ABOUT), card, f"{self.uri} (collection '{self.collection}')")
        if not self._lite:
            with self._call("be opened"):
                if not self._client.list_indexes(self.collection):
                    self._client.create_index(self.collection, self._index())
                self._client.load_collection(self.collection)

    def _create(self, card: Card) -> None:
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
            index_params=None if self._lite else self._index(),
            properties={_ABOUT: json.dumps(asdict(card))},
            consistency_level="Strong",
        )

    def _index(self) -> Any:
        index = self._client.prepare_index_params()
        index.add_index("embedding", index_type="FLAT", metric_type="IP")
        return index


def _literal(text: str) -> str:
    """A string in a Milvus filter, with the only escapes that Milvus Lite and Milvus both read."""
    escapes = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
    return '"' + text.translate(escapes) + '"'


def _check(about: str | None, card: Card, where: str) -> None:
    """Refuses a collection that is not a gallery, or one that was made with something else."""
    try:
        found = json.loads(about or "")
        found["format"]
    except (ValueError, TypeError, KeyError):
        raise InterplayError(f"{where} is not an interplay gallery; choose another collection.") from None
    if found["format"] != card.format:
        raise InterplayError(
            f"The gallery {where} has format {found['format']}; this version of interplay reads {card.format}."
        )
    for name, title in (("backbone", "backbone"), ("joint", "embedding width"), ("retriever", "retriever")):
        old, new = str(found[name])[:12], str(getattr(card, name))[:12]
        if found[name] != getattr(card, name):
            raise InterplayError(
                f"The gallery {where} was made with another {title} ({old}, here {new}): open it with the "
                "retriever that it was made with, or choose another gallery."
            )


class _Quiet:
    """Milvus's loggers say nothing while at least one thread is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._levels: list[tuple[logging.Logger, int]] = []

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                loggers = [logging.getLogger(name) for name in ("pymilvus", "milvus_lite", "grpc")]
                self._levels = [(logger, logger.level) for logger in loggers]
                for logger in loggers:
                    logger.setLevel(logging.CRITICAL)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for logger, level in self._levels:
                    logger.setLevel(level)


_QUIET = _Quiet()


@contextlib.contextmanager
def _calling(uri: str, action: str, hint: str = "") -> Iterator[None]:
    """One call to Milvus: its errors as one sentence, and without what it would log by itself."""
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        with _QUIET:
            yield
    except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as problem:
        reason = " ".join(str(getattr(problem, "message", problem)).split()).rstrip(".")
        raise InterplayError(f"Milvus at {uri} cannot {action}: {reason}.{hint}") from None


def _end(client: Any, lite: Any) -> None:
    """Close the connection, and Milvus Lite behind it."""
    client.close()
    if lite is not None:
        lite.stop()

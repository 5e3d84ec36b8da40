"""The connection to one Milvus, in this process or on a server, and every call that goes over it."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from interplay.errors import InterplayError
from interplay.gallery.address import Address, ServerSettings
from interplay.gallery.calls import calling
from interplay.gallery.gate import Gate
from interplay.gallery.lite import Lite, start_lite

T = TypeVar("T")

_CONNECT = 5.0  # seconds until a server that does not answer is given up
_NOT_LOADED = (101, 106)  # a collection that the server released, as it does when it starts again


class Connection:
    """A client of Milvus. `Connection.open` makes it; `close` gives the folder or connection back.

    Attributes:
        place: where Milvus is, as it may be shown.
        client: of pymilvus.
        lite: Milvus Lite in this process; None for a server.
        settings: how a server is asked.
        wait: the time limit of a call; what runs in this process has none.
        reading: the same, with the consistency of a call that reads.
        gate: what keeps reads and the dropping of a collection apart.
    """

    def __init__(self, client: Any, address: Address, lite: Lite | None, settings: ServerSettings) -> None:
        self.place = address.shown
        self.client = client
        self.lite = lite
        self.settings = settings
        self.wait: Mapping[str, Any] = {"timeout": settings.timeout if lite is None else None}
        self.reading = {**self.wait, **({"consistency_level": settings.consistency} if lite is None else {})}
        self.gate = Gate()
        # Runs at the end of the program too, so that a gallery that nobody closed leaves nothing running.
        self._end = weakref.finalize(self, _end, client, lite)

    @classmethod
    def open(cls, address: Address, collection: str, settings: ServerSettings) -> Connection:
        """Start Milvus Lite on a folder, or connect to a server.

        Args:
            collection: the gallery that is wanted: its files in a folder are looked at first.

        Raises:
            InterplayError: no Milvus there, a damaged or occupied folder, or a certificate that cannot be read.
        """
        from pymilvus import MilvusClient

        lite = None if address.folder is None else start_lite(address.folder, collection)
        try:
            hint = " Is it running, and are address and token right?"
            with calling(address.shown, "be reached", hint=hint):
                client = MilvusClient(
                    address.shown if lite is None else "unix:inside",
                    token=address.token,
                    timeout=min(_CONNECT, settings.timeout),
                    dedicated=True,
                    **({**settings.encryption} if lite is None else {"channel": lite.channel}),
                )
        except BaseException:
            if lite is not None:
                lite.stop()
            raise
        return cls(client, address, lite, settings)

    def close(self) -> None:
        """Write everything down and end the connection; a second call does nothing."""
        self._end()

    def ask(self, action: str, call: Callable[[], T], collection: str = "") -> T:
        """One call.

        Args:
            action: what is tried, as in 'Milvus at … cannot ACTION'.
            collection: what a server that has started again since is told to load first.

        Raises:
            InterplayError: Milvus refused, failed, or does not answer; or this was closed.
        """
        from pymilvus.exceptions import MilvusException

        with self._calling(action), self.gate.reading():
            try:
                return call()
            except MilvusException as problem:
                if self.lite is not None or not collection or problem.code not in _NOT_LOADED:
                    raise
            self.client.load_collection(collection, **self.settings.loading, **self.wait)
            return call()

    @contextlib.contextmanager
    def _calling(self, action: str) -> Iterator[None]:
        if not self._end.alive:
            raise InterplayError(f"The gallery {self.place} is closed; open it again.")
        with calling(self.place, action):
            yield

    def write(self, call: Callable[[], object], collection: str, read: bool) -> None:
        """A call that writes. After one that failed, Milvus Lite is closed.

        Milvus Lite, when it turns its log into files, has rows in neither for a moment, and a search would not find
        them (as of 3.2): so nobody reads meanwhile.

        A full disk may have left half a record in the log, and Milvus Lite would write behind it what it could not
        read again after a kill; opened anew, it begins a new log.

        Args:
            read: whether others may read the collection meanwhile.
        """
        alone = self.gate.alone() if read and self.lite is not None else contextlib.nullcontext()
        try:
            with alone:
                self.ask("write", call, collection)
        except InterplayError as problem:
            if self.lite is None or not self._end.alive:
                raise
            self.close()
            raise InterplayError(f"{problem} The gallery is closed now: open it again to go on.") from None

    def describe(self, collection: str) -> Mapping[str, Any]:
        """What Milvus says of a collection or of what an alias stands for.

        Raises:
            InterplayError: there is none.
        """
        described: Mapping[str, Any] = self.ask(
            "be opened", lambda: self.client.describe_collection(collection, **self.wait)
        )
        return described


def _end(client: Any, lite: Any) -> None:
    """Close the connection, and Milvus Lite behind it."""
    client.close()
    if lite is not None:
        lite.stop()

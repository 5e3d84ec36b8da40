"""Where a gallery lies, and how a Milvus server is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from interplay.errors import InterplayError

_SCHEMES = ("http", "https", "tcp")


@dataclass(frozen=True)
class ServerSettings:
    """How a Milvus server is asked; a folder of Milvus Lite is in this process and needs none of it.

    Attributes:
        timeout: seconds until one call to a Milvus server is given up; connecting has at most 5 of them.
        index: the index of a collection that is made on a server: FLAT compares every entry, so that a search is
            exact; HNSW, IVF_FLAT and other kinds of Milvus are faster on millions of entries and may miss some.
        consistency: what a search on a server waits for: Strong sees all that was written before; Bounded, Session
            and Eventually may not yet.
    """

    timeout: float = 60.0
    index: str = "FLAT"
    consistency: Literal["Strong", "Bounded", "Session", "Eventually"] = "Strong"

    def __post_init__(self) -> None:
        if not 0 < self.timeout < 86_400:
            raise InterplayError(f"timeout must be between 0 and 86,400 seconds, not {self.timeout:g}.")
        if self.consistency not in ("Strong", "Bounded", "Session", "Eventually"):
            raise InterplayError(
                f"consistency must be Strong, Bounded, Session or Eventually, not '{self.consistency}'."
            )
        if not re.fullmatch(r"[A-Z][A-Z0-9_]{1,30}", self.index):
            raise InterplayError(
                f"index must be a kind of index that Milvus knows, such as FLAT or HNSW, not '{self.index}'."
            )

    @property
    def building(self) -> Mapping[str, int]:
        """What Milvus wants to know to build an index of this kind."""
        if self.index.startswith("HNSW"):
            return {"M": 16, "efConstruction": 200}
        return {"nlist": 128} if self.index.startswith("IVF") else {}

    def looking(self, k: int) -> Mapping[str, int]:
        """How thoroughly such an index is searched for k entries."""
        if self.index.startswith("HNSW"):
            return {"ef": max(64, 2 * k)}
        return {"nprobe": 32} if self.index.startswith("IVF") else {}


@dataclass(frozen=True)
class Address:
    """Where a gallery lies.

    Attributes:
        shown: as messages name it: the folder, or the server without user and password.
        folder: of Milvus Lite; None for a server.
        token: for a server that wants one.
    """

    shown: str
    folder: Path | None
    token: str = field(default="", repr=False)

    @classmethod
    def of(cls, place: str, token: str | None = None) -> Address:
        """Read a folder or a server's address.

        Args:
            place: a folder, or `http://host:19530`; `http://user:password@host` gives a token too.
            token: for a server; before what the address says.

        Raises:
            InterplayError: it is neither.
        """
        if not place.strip():
            raise InterplayError(
                "The gallery's place is empty: give a folder, or an address such as http://HOST:19530."
            )
        if "\0" in place or ("://" in place and not place.isprintable()):
            raise InterplayError(
                "A gallery's place cannot hold control characters: give another folder or address."
            )
        if "://" not in place:
            if re.fullmatch(r"[\w.-]+:\d+/?", place) and not Path(place).exists():
                raise InterplayError(
                    f"'{place}' looks like the address of a Milvus server: write http://{place}, or ./{place} for a "
                    "folder."
                )
            return cls(place, Path(place))
        parts = _split(place)
        login = ":".join(part for part in (parts.username, parts.password) if part)
        chosen = token or login
        if not chosen.isascii() or not chosen.isprintable():
            raise InterplayError(
                "The token for the Milvus server holds characters other than ASCII: set it anew."
            )
        return cls(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}", None, chosen)


def _split(place: str) -> SplitResult:
    """The parts of a server's address; no message repeats a password."""
    shown = re.sub(r"//.*@", "//", place, flags=re.DOTALL)[:120].encode("utf-8", "replace").decode()
    try:
        parts = urlsplit(place)
        port = parts.port
        host = (parts.hostname or "").encode("idna")
    except ValueError:  # of the port, of brackets, or of a host's name
        raise InterplayError(
            f"'{shown}' is no address: write http://HOST:PORT with a port from 1 to 65535."
        ) from None
    if parts.scheme.lower() not in _SCHEMES or not host or port == 0 or " " in shown:
        raise InterplayError(
            f"'{shown}' is no address of a Milvus server: write http://HOST:19530 or https://HOST, or name a folder."
        )
    return parts


def index_of(client: Any, settings: ServerSettings) -> Any:
    """The index of a collection on a server, as Milvus takes it."""
    index = client.prepare_index_params()
    index.add_index("embedding", index_type=settings.index, metric_type="IP", params=dict(settings.building))
    return index

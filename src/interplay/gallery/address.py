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


_WORDS = re.compile(r"([A-Za-z_]+)=([0-9]+)")


@dataclass(frozen=True)
class ServerSettings:
    """How a Milvus server is asked; a folder of Milvus Lite is in this process and needs none of it.

    Attributes:
        timeout: seconds until one call to a Milvus server is given up; connecting has at most 5 of them.
        index: the index of a gallery that is made on a server: HNSW is fast on millions of entries and may miss a few;
            FLAT compares every entry, so that a search is exact; IVF_FLAT and other kinds of Milvus are taken too. A
            gallery keeps its index.
        index_parameters: of that index, such as 'M=32 efConstruction=400'; by default what suits its kind.
        search_parameters: how thoroughly a search looks, such as 'ef=256' with HNSW or 'nprobe=64' with IVF_FLAT; by
            default what suits the index.
        consistency: what a search on a server waits for: Strong sees all that was written before, and takes a fifth of
            a second; Bounded, Session and Eventually may not yet, and are fast.
        shards: of a gallery that is made on a server: how many nodes may write to it at a time.
        replicas: how often a server keeps a gallery in memory, each on nodes of its own.
        ca: PEM file of the authority that a server's https certificate is signed by, where this machine does
            not know it.
    """

    timeout: float = 60.0
    index: str = "HNSW"
    index_parameters: str = ""
    search_parameters: str = ""
    consistency: Literal["Strong", "Bounded", "Session", "Eventually"] = "Strong"
    shards: int = 1
    replicas: int = 1
    ca: str = ""

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
        for name in ("index_parameters", "search_parameters"):
            _numbers(name, getattr(self, name))
        for name, most in (("shards", 64), ("replicas", 1024)):
            if not 1 <= getattr(self, name) <= most:
                raise InterplayError(f"{name} must be from 1 to {most:,}, not {getattr(self, name)}.")
        if self.ca and not Path(self.ca).is_file():
            raise InterplayError(f"ca must be a PEM file of certificates; there is no file '{self.ca}'.")

    @property
    def loading(self) -> Mapping[str, int]:
        """How a server takes a collection into memory."""
        return {"replica_number": self.replicas}

    @property
    def encryption(self) -> Mapping[str, str]:
        """What an https connection trusts, beside what the machine does."""
        return {"server_pem_path": self.ca} if self.ca else {}

    def index_for(self, client: Any, known: Mapping[str, str]) -> Any:
        """The index of a collection on a server, as Milvus takes it.

        Args:
            known: kind and parameters of the index that the gallery has; empty where it has none yet.
        """
        kind, index = known.get("index_type", self.index), client.prepare_index_params()
        params = {name: value for name, value in known.items() if name in _PARAMETERS} or self._building(kind)
        index.add_index("embedding", index_type=kind, metric_type="IP", params=dict(params))
        return index

    def _building(self, kind: str) -> Mapping[str, int]:
        """What Milvus wants to know to build an index of a kind."""
        usual = {"nlist": 128} if kind.startswith("IVF") else {}
        if kind.startswith("HNSW"):
            usual = {"M": 16, "efConstruction": 200}
        return {**usual, **_numbers("index_parameters", self.index_parameters)}

    def looking(self, kind: str, k: int) -> Mapping[str, int]:
        """How thoroughly an index of a kind is searched for k entries; nothing in Milvus Lite, which has none."""
        usual = {"nprobe": 32} if kind.startswith("IVF") else {}
        if kind.startswith("HNSW"):
            usual = {"ef": max(128, 2 * k)}
        return {**usual, **_numbers("search_parameters", self.search_parameters)} if kind else {}


_PARAMETERS = ("M", "efConstruction", "nlist", "nbits", "m", "search_list", "with_raw_data")
"""Parameters of Milvus' indexes among what it says of one."""


def _numbers(name: str, words: str) -> dict[str, int]:
    """Parameters as they are written, 'M=16 efConstruction=200'.

    Raises:
        InterplayError: they are written otherwise.
    """
    found = [_WORDS.fullmatch(word) for word in words.split()]
    if not all(found):
        raise InterplayError(f"{name} must be written as 'M=16 efConstruction=200', not '{words[:60]}'.")
    return {match[1]: int(match[2]) for match in found if match}


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

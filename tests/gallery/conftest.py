"""Galleries in a Milvus Lite folder, behind an address as a server's would be, and (slow) on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from milvus_lite.adapter.grpc.server import start_server_in_thread
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from pymilvus import MilvusClient

from interplay.gallery.gallery import Gallery
from tests.gallery.fake import Fake, make_pictures
from tests.gallery.milvus_server import Server

Opener = Callable[..., Gallery]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that speaks Milvus' protocol: Milvus Lite's own.

    An upsert replaces the row there, as it does in Milvus; Milvus Lite's own merges the two.
    """
    monkeypatch.setattr(MilvusServicer, "Upsert", MilvusServicer.Insert)
    server, database, port = start_server_in_thread(str(tmp_path / "server"))
    yield f"http://127.0.0.1:{port}"
    server.stop(grace=1).wait()
    database.close()


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Milvus server."""
    try:
        server = Server(tmp_path_factory.mktemp("milvus"))
    except OSError as problem:
        pytest.skip(str(problem))
    yield server
    server.stop()


@pytest.fixture
def real_address(real: Server) -> Iterator[str]:
    """The address of a Milvus server without galleries."""
    yield real.address
    client = MilvusClient(real.address, dedicated=True)
    for name in client.list_collections():
        for alias in client.list_aliases(name)["aliases"]:
            client.drop_alias(alias)
        client.drop_collection(name)
    client.close()


PLACES = ["lite", "server", pytest.param("real", marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
"""A folder, an address that Milvus Lite answers, and one that Milvus does."""


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """Where a gallery can be made."""
    fixtures = {"server": "server", "real": "real_address"}
    found: str | Path = tmp_path / "gallery.db"
    if request.param in fixtures:
        found = request.getfixturevalue(fixtures[request.param])
    return found


@pytest.fixture
def opened(place: str | Path) -> Iterator[Opener]:
    """A function that opens a gallery, always at the same place, and closes it at the end."""
    galleries: list[Gallery] = []

    def opened(retriever: Fake, **options: Any) -> Gallery:
        galleries.append(Gallery.open(retriever, place, **options))
        return galleries[-1]

    yield opened
    for gallery in galleries:
        gallery.close()


@pytest.fixture
def retriever() -> Fake:
    return Fake()


@pytest.fixture
def gallery(opened: Opener, retriever: Fake) -> Gallery:
    """An empty one."""
    return opened(retriever)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Twelve picture files."""
    return make_pictures(tmp_path / "pictures", 12)

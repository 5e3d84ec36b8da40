"""Galleries in a Milvus Lite folder, and behind an address as a server's would be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from milvus_lite.adapter.grpc.server import start_server_in_thread
from milvus_lite.adapter.grpc.servicer import MilvusServicer

from interplay.gallery.gallery import Gallery
from tests.gallery.fake import Fake, make_pictures

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


@pytest.fixture(params=["lite", "server"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """A function that opens a gallery, always at the same place, and closes it at the end."""
    uri = request.getfixturevalue("server") if request.param == "server" else tmp_path / "gallery.db"
    galleries: list[Gallery] = []

    def opened(retriever: Fake, **options: Any) -> Gallery:
        galleries.append(Gallery.open(retriever, uri, **options))
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

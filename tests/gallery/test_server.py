"""A gallery on a real Milvus server: what only one has. The tests of every gallery run on it, too (`conftest`)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from interplay.errors import InterplayError
from interplay.gallery.address import Address, ServerSettings
from interplay.gallery.entry import Entry, GalleryCard
from interplay.gallery.gallery import Gallery
from interplay.gallery.items import key_of
from interplay.gallery.store import Store
from tests.gallery.fake import Fake, make_pictures
from tests.gallery.milvus_server import Server
from tests.gallery.test_gallery import TEXTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def fill(gallery: Gallery, pictures: list[Path]) -> None:
    gallery.add_images(
        pictures, [{"price": 3 * at, "brand": "xyz"[at % 3]} for at in range(12)], progress=False
    )
    gallery.add_texts(TEXTS, progress=False)


def test_an_index_that_milvus_does_not_know(real: Server) -> None:
    with pytest.raises(InterplayError, match="cannot be opened"):
        Gallery.open(Fake(), real.address, "odd", settings=ServerSettings(index="NO_SUCH"))


@pytest.mark.parametrize("index", ["HNSW", "IVF_FLAT", "AUTOINDEX"])
def test_another_index_finds_the_best(real: Server, tmp_path: Path, index: str) -> None:
    retriever, pictures = Fake(), make_pictures(tmp_path, 12)
    settings = ServerSettings(index=index, consistency="Strong")
    with Gallery.open(retriever, real.address, f"with_{index}", settings=settings) as gallery:
        fill(gallery, pictures)
        assert [hit.source for hit in gallery.search(pictures[4], k=1)] == [str(pictures[4])]
        assert len(gallery.search("cat", k=50)) == 12


def test_an_open_gallery_outlives_its_server(real: Server, tmp_path: Path) -> None:
    retriever, pictures = Fake(), make_pictures(tmp_path, 12)
    settings = ServerSettings(timeout=30.0)
    with Gallery.open(retriever, real.address, "kept", settings=settings) as gallery:
        fill(gallery, pictures)
        before = gallery.search("cat", k=20)
        real.stop()
        with pytest.raises(InterplayError, match=rf"Milvus at {real.address} cannot") as caught:
            gallery.count()
        assert len(str(caught.value)) < 400
        real.start()
        assert gallery.search("cat", k=20) == before
        gallery._store._connection.client.release_collection("kept")
        assert gallery.search("cat", k=20) == before
        assert gallery.add_texts(["more"], progress=False).added == 1
        gallery._store._connection.client.release_collection("kept")
        assert gallery.count() == 18


class Interrupted:
    """A retriever that has the server killed in the middle of its work, and started again meanwhile."""

    def __init__(self, server: Server) -> None:
        self.retriever = Fake()
        self.server = server
        self.left = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.retriever, name)

    def encode(self, *arguments: Any, **options: Any) -> Tensor:
        self.left -= 1
        if self.left == 0:
            self.server.kill()
        return self.retriever.encode(*arguments, **options)


def again(server: Server, call: Callable[[], object]) -> None:
    """A call in whose middle the server is killed, and the same call once the server is there again."""
    began = time.monotonic()
    with pytest.raises(InterplayError, match=rf"Milvus at {server.address} cannot"):
        call()
    assert time.monotonic() - began < 60
    server.start()
    call()


def test_a_server_that_is_killed_in_the_middle(real: Server) -> None:
    interrupted = Interrupted(real)
    texts = [f"text number {number}" for number in range(60)]
    settings = ServerSettings(timeout=10.0)
    with Gallery.open(interrupted, real.address, "killed", settings=settings) as gallery:
        interrupted.left = 4
        again(real, lambda: gallery.add_texts(texts, [{"n": 1}] * 60, batch_size=10, progress=False))
        assert gallery.count() == 60
        interrupted.retriever.prompts.update(even="2", odd="2")
        interrupted.left = 4
        again(real, lambda: gallery.refresh(batch_size=10, progress=False))
        entries = [one for block in gallery._store.scan(metadata=True, embeddings=True) for one in block]
        assert sorted(entry.source for entry in entries) == sorted(texts)
        assert gallery.count() == 60
        for entry in entries:
            assert (entry.version, entry.metadata) == ("2", {"n": 1})
            _, expected = interrupted.retriever.one("text", entry.source)
            np.testing.assert_array_equal(entry.embedding, expected)
        assert gallery.waiting() == 0


def test_a_token_over_tls(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    settings = ServerSettings(timeout=20.0, ca=str(certificate))
    options = ["--tls-mode", "1", "--server-pem-path", str(certificate), "--server-key-path", str(key)]
    options += ["--authorization-enabled", "true"]
    server = Server(tmp_path, options, "https", "root:Milvus", settings)
    try:
        with Gallery.open(Fake(), server.address, token="root:Milvus", settings=settings) as gallery:
            gallery.add_texts(TEXTS, progress=False)
            assert len(gallery.search("cat", find="text")) == len(TEXTS)
        for place, token, how in (
            (server.address, "root:wrong", settings),
            (server.address, None, settings),
            (server.address, "root:Milvus", ServerSettings(timeout=20.0)),  # who signed it is not known
            (server.address.replace("https", "http"), "root:Milvus", settings),
        ):
            began = time.monotonic()
            with pytest.raises(InterplayError, match="cannot be") as caught:
                Gallery.open(Fake(), place, token=token, settings=how)
            assert time.monotonic() - began < 30
            assert "Milvus" not in str(caught.value).replace("Milvus at", "")
            assert "wrong" not in str(caught.value)
    finally:
        server.stop()


def test_vectors_are_found_by_the_usual_index(real: Server) -> None:
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(100, 32))
    vectors = centres[draw.integers(100, size=6000)] + 0.5 * draw.normal(size=(6000, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    card = GalleryCard("b" * 64, "one", 32)
    store = Store.open(Address.of(real.address), "many", card, ServerSettings(consistency="Bounded"))
    try:
        rows = [
            Entry(key_of("image", str(at)), "image", str(at), "", "1", vector, vector)
            for at, vector in enumerate(vectors)
        ]
        for start in range(0, 6000, 500):
            store.upsert(rows[start : start + 500])
        store.settle()
        found = 0
        for query in vectors[:100]:
            best = set(np.argsort(-(vectors @ query))[:10].tolist())
            found += len(best & {int(entry.source) for entry, _ in store.search(query, 10, "image", None)})
        assert found >= 950
    finally:
        store.close()

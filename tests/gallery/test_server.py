"""A gallery on a real Milvus server, where a test machine has one.

`INTERPLAY_TEST_MILVUS` names the program `milvus-server` of the package `milvus`, which brings its own binaries (a
virtual environment of its own keeps them apart).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from interplay.errors import InterplayError
from interplay.gallery.address import ServerSettings
from interplay.gallery.gallery import Gallery
from tests.gallery.fake import Fake, make_pictures
from tests.gallery.test_filters import HOSTILE, narrows
from tests.gallery.test_gallery import TEXTS, ranking

PROGRAM = os.environ.get("INTERPLAY_TEST_MILVUS", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PROGRAM, reason="INTERPLAY_TEST_MILVUS names no server"),
]


class Server:
    """A Milvus server in a process of its own, which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it, once its port is free: it would take another one otherwise."""
        while not self._is_free():
            time.sleep(1)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "--data", str(self.folder / "data"), "--proxy-port", str(self.port)],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + 240
        while True:
            try:
                Gallery.open(Fake(), self.address, "ready", settings=ServerSettings(timeout=20.0)).close()
                return
            except InterplayError:
                assert time.monotonic() < deadline
                assert self.process.poll() is None
                time.sleep(2)

    def _is_free(self) -> bool:
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", self.port))
            return True
        return False

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("milvus"))
    yield server
    server.stop()


def fill(gallery: Gallery, pictures: list[Path]) -> None:
    gallery.add_images(
        pictures, [{"price": 3 * at, "brand": "xyz"[at % 3]} for at in range(12)], progress=False
    )
    gallery.add_texts(TEXTS, progress=False)


def test_it_works_as_a_folder_does(real: Server, tmp_path: Path) -> None:
    retriever, pictures = Fake(), make_pictures(tmp_path, 12)
    with Gallery.open(retriever, real.address, "whole") as gallery:
        fill(gallery, pictures)
        assert gallery.count() == 17
        expected = ranking(retriever, ("text", "a dog"), [("image", path) for path in pictures])
        hits = gallery.search("a dog", k=12)
        assert [hit.source for hit in hits] == [source for source, _, _ in expected]
        cheap = gallery.search("cat", where="price < 20 and brand == 'x'")
        assert sorted(hit.metadata["price"] for hit in cheap) == [0, 9, 18]
        with pytest.raises(InterplayError, match="Did you mean 'price'"):
            gallery.search("cat", where="prise < 20")
        for where in HOSTILE:
            assert narrows(gallery, where), where
        report = gallery.add_images(pictures[:2], [{"n": 1}, {}], ids=["a", ""], progress=False)
        assert (report.added, report.present, gallery.count()) == (1, 1, 17)
        assert [hit.metadata for hit in gallery.search("cat", where="_id == 'a'")] == [{"n": 1}]
        gallery.add_images(pictures[:1], [{"m": 2}], progress=False)
        assert [hit.metadata for hit in gallery.search("cat", where="_id == 'a'")] == [{"m": 2}]
        assert gallery.waiting() == 0
        retriever.prompts.update(even="2", odd="2")
        assert gallery.waiting() == gallery.refresh(progress=False).reencoded == 17
        assert gallery.waiting() == 0
        assert gallery.remove(["cat"], ids=["a"]) == 2
        pictures[3].unlink()
        assert gallery.prune() == (str(pictures[3]),)
        assert gallery.count() == 14
    with pytest.raises(InterplayError, match="Did you mean 'whole'"):
        Gallery.open(retriever, real.address, "hole", create=False)
    with pytest.raises(InterplayError, match="cannot be opened"):
        Gallery.open(retriever, real.address, "odd", settings=ServerSettings(index="NO_SUCH"))


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
        gallery._store._client.release_collection("kept")
        assert gallery.search("cat", k=20) == before
        assert gallery.add_texts(["more"], progress=False).added == 1
        gallery._store._client.release_collection("kept")
        assert gallery.count() == 18

"""A gallery on a real Milvus server: what only one has. The tests of every gallery run on it, too (`conftest`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from interplay.errors import InterplayError
from interplay.gallery.address import ServerSettings
from interplay.gallery.gallery import Gallery
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

"""What a gallery refuses: one clear sentence each, in a folder and through a server's address."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from milvus_lite.adapter.grpc.server import start_server_in_thread

from interplay.errors import InterplayError
from interplay.gallery import calls, entry
from interplay.gallery import connection as gallery_connection
from interplay.gallery.add import Skipped
from interplay.gallery.address import Address, ServerSettings
from interplay.gallery.gallery import Gallery
from tests.gallery.conftest import Opener
from tests.gallery.fake import Fake

TEXTS = ["cat", "a dog", "green apple pie"]


@pytest.mark.parametrize("where", ["price <", "((", "price == 'x", "]"])
def test_a_filter_that_milvus_does_not_understand(
    gallery: Gallery, pictures: list[Path], where: str, capfd: pytest.CaptureFixture[str]
) -> None:
    gallery.add_images(pictures[:2], progress=False)
    with pytest.raises(InterplayError) as caught:
        gallery.search("cat", where=where)
    assert f"he filter '{where}'" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_searched(gallery: Gallery, pictures: list[Path]) -> None:
    with pytest.raises(InterplayError, match="has no images yet"):
        gallery.search("cat")
    with pytest.raises(InterplayError, match="has no images yet"):
        gallery.search("cat", where="price < 3")
    gallery.add_texts(TEXTS, progress=False)
    with pytest.raises(InterplayError, match="has no images yet"):
        gallery.search("cat")
    for k in (0, -1, 2.5, True, 16_385, 10**5000):
        with pytest.raises(InterplayError, match="k must be a whole number from 1 to 16,384"):
            gallery.search("cat", k=k, find="text")  # type: ignore[arg-type]
    for options in ({"by": "sound"}, {"find": "sound"}):
        with pytest.raises(InterplayError, match="'sound' is no side"):
            gallery.search("cat", **options)  # type: ignore[arg-type]
    with pytest.raises(InterplayError, match="empty"):
        gallery.search(" ", find="text")
    with pytest.raises(InterplayError, match="not an image"):
        gallery.search(b"nothing", find="text")
    with pytest.raises(InterplayError, match="by a int"):
        gallery.search(5, find="text")  # type: ignore[arg-type]
    with pytest.raises(InterplayError, match="must be a string"):
        gallery.search(pictures[0], by="text", find="text")


def test_an_unreadable_picture_is_named_or_skipped(
    gallery: Gallery, retriever: Fake, pictures: list[Path], tmp_path: Path
) -> None:
    broken, empty, gone = tmp_path / "broken.png", tmp_path / "empty.png", tmp_path / "gone.png"
    broken.write_bytes(pictures[4].read_bytes()[:50])
    twin = tmp_path / "twin.png"
    shutil.copy(broken, twin)
    empty.touch()
    paths = [*pictures[:5], broken, empty, gone, twin, *pictures[5:]]
    for path in (broken, empty, gone):
        with pytest.raises(InterplayError, match=rf"{path.name}: the .*on_bad='skip'"):
            gallery.add_images([*pictures[:2], path], batch_size=2, progress=False)
    assert gallery.count() == 2
    report = gallery.add_images(paths, batch_size=4, on_bad="skip", progress=False)
    assert report.added == 10
    assert report.present == 2
    assert sorted(skipped.source for skipped in report.skipped) == sorted(
        map(str, (broken, empty, gone, twin))
    )
    assert Skipped(str(empty), "the file is empty") in report.skipped
    assert gallery.count() == 12


def test_texts_that_cannot_be_added(gallery: Gallery) -> None:
    bad = ["", " \n", "a" * 70_000, "\udcff"]
    for text in bad:
        with pytest.raises(InterplayError, match=r"the text is (empty|longer than 65,535 bytes)"):
            gallery.add_texts([text], progress=False)
    report = gallery.add_texts([*bad, "good"], on_bad="skip", progress=False)
    assert (report.added, len(report.skipped)) == (1, 4)
    assert gallery.remove(bad) == 0


@pytest.mark.parametrize(
    ("slip", "named"),
    [
        (lambda gallery, place: Gallery.open(Fake(), 5), "uri"),  # type: ignore[arg-type]
        (lambda gallery, place: Gallery.open(Fake(), None), "uri"),  # type: ignore[arg-type]
        (lambda gallery, place: Gallery.open(Fake(), b"x"), "uri"),  # type: ignore[arg-type]
        (lambda gallery, place: Gallery.open(Fake(), place, 5), "collection"),  # type: ignore[arg-type]
        (lambda gallery, place: Gallery.open(Fake(), place, token=5), "token"),  # type: ignore[arg-type]
        (lambda gallery, place: Gallery.open(Fake(), place, settings={"timeout": 3}), "settings"),  # type: ignore[arg-type]
        (lambda gallery, place: gallery.add_texts(["x"], batch_size="3"), "batch_size"),
        (lambda gallery, place: gallery.refresh(batch_size="3"), "batch_size"),
        (lambda gallery, place: gallery.add_texts(["x", "y"], ids="ab"), "ids"),
        (lambda gallery, place: gallery.remove(None), "remove"),
        (lambda gallery, place: gallery.search_many(None), "search_many"),
    ],
)
def test_a_wrong_type_is_named(gallery: Gallery, tmp_path: Path, slip: Any, named: str) -> None:
    with pytest.raises(InterplayError, match=named):
        slip(gallery, tmp_path / "other.db")
    assert not (tmp_path / "other.db").exists()


def test_slips_in_what_is_added(gallery: Gallery, pictures: list[Path]) -> None:
    with pytest.raises(InterplayError, match="takes a list of texts"):
        gallery.add_texts("cat")
    with pytest.raises(InterplayError, match="takes a list of paths"):
        gallery.add_images(pictures[0])  # type: ignore[arg-type]
    with pytest.raises(InterplayError, match="takes a list of sources"):
        gallery.remove("cat")
    with pytest.raises(InterplayError, match="must be a string, not a int"):
        gallery.add_texts([3])  # type: ignore[list-item]
    with pytest.raises(InterplayError, match="by their paths, not a bytes"):
        gallery.add_images([b"bytes"])  # type: ignore[list-item]
    with pytest.raises(InterplayError, match="batch_size must be at least 1"):
        gallery.add_texts(["cat"], batch_size=0)
    with pytest.raises(InterplayError, match="on_bad must be raise or skip"):
        gallery.add_texts(["cat"], on_bad="ignore")  # type: ignore[arg-type]
    assert gallery.count() == 0


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ([], "got 1 items, 0 sets of metadata"),
        ([{"route": 1}], "Item 1: the gallery has a column 'route' of its own"),
        ([{"my price": 1}], "'my price' cannot name a metadata column"),
        ([{"_x": 1}], "'_x' cannot name a metadata column"),
        ([{3: 1}], "'3' cannot name a metadata column"),
        ([{"price": float("nan")}], "the value of 'price' cannot be kept"),
        ([{"price": 2**63}], "the value of 'price' cannot be kept"),
        ([{"price": -(2**63) - 1}], "the value of 'price' cannot be kept"),
        ([{"deep": [{"a": [2**63]}]}], "the value of 'deep' cannot be kept"),
        ([{"brand": "\ud800"}], "the value of 'brand' cannot be kept"),
        ([{"deep": {"\ud800": 1}}], "the value of 'deep' cannot be kept"),
        ([{"brand": "x" * 70_000}], "longer than 65,535"),
        ([{"price": object()}], "metadata cannot be kept"),
    ],
)
def test_metadata_that_cannot_be_kept(gallery: Gallery, metadata: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InterplayError, match=message):
        gallery.add_texts(["cat"], metadata)
    assert gallery.count() == 0


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Fake(identity="two"), "another retriever .one, here two."),
        (Fake(backbone_digest="c" * 64), "another backbone .bbbbbbbbbbbb, here cccccccccccc."),
        (Fake(joint=8), "another embedding width .16, here 8."),
    ],
)
def test_a_gallery_of_something_else_is_refused(
    opened: Opener, retriever: Fake, other: Fake, message: str
) -> None:
    opened(retriever).close()
    with pytest.raises(InterplayError, match=message):
        opened(other)
    assert opened(other, collection="another").count() == 0


def test_a_gallery_of_another_format_is_refused(
    opened: Opener, retriever: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(entry.GalleryCard.__init__, "__defaults__", (99,))
        opened(retriever).close()
    with pytest.raises(InterplayError, match="has format 99; this version of interplay reads 1"):
        opened(retriever)


def test_a_collection_that_is_no_gallery_is_refused(server: str, retriever: Fake) -> None:
    from pymilvus import MilvusClient

    client = MilvusClient(server)
    client.create_collection("theirs", dimension=4)
    client.close()
    with pytest.raises(InterplayError, match="is not an interplay gallery"):
        Gallery.open(retriever, server, "theirs")
    with pytest.raises(InterplayError, match="'no name' cannot name a collection"):
        Gallery.open(retriever, server, "no name")


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://no.such.host.invalid", "tcp://127.0.0.1:9/db"])
def test_an_address_that_does_not_answer(
    retriever: Fake, uri: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery_connection, "_CONNECT", 1.0)
    with pytest.raises(InterplayError, match=r"cannot be reached: .*Is it running") as caught:
        Gallery.open(retriever, uri)
    assert len(str(caught.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "uri",
    [
        "http://",
        "http://:19530",
        "ftp://127.0.0.1",
        "://127.0.0.1",
        "http://127.0.0.1:0",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:-1",
        "http://127.0.0.1:port",
        "http://[::1",
        "http://a b",
        "http://\udcff",
        "http://" + "a" * 70 + ".com",
        "http://host\n",
        "localhost:19530",
        "127.0.0.1:19530",
        "",
        " ",
        "a\0b",
    ],
)
@pytest.mark.parametrize("login", ["", "root:Milvus123@"])
def test_what_is_no_address(retriever: Fake, uri: str, login: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    uri = uri.replace("://", f"://{login}")
    with pytest.raises(InterplayError, match=r"address|place") as caught:
        Gallery.open(retriever, uri)
    message = str(caught.value)
    assert "Milvus123" not in message
    assert len(message) < 400
    assert message.isprintable()
    assert not list(tmp_path.iterdir())


def test_no_message_shows_a_password(retriever: Fake, capfd: pytest.CaptureFixture[str]) -> None:
    for uri, token in (("http://root:Milvus123@127.0.0.1:9", None), ("http://127.0.0.1:9", "root:Milvus123")):
        with pytest.raises(InterplayError, match=r"Milvus at http://127\.0\.0\.1:9 cannot") as caught:
            Gallery.open(retriever, uri, token=token, settings=ServerSettings(timeout=1.0))
        assert "Milvus123" not in str(caught.value)
        assert len(str(caught.value)) < 400
    assert "Milvus123" not in repr(Address.of("http://root:Milvus123@host"))
    assert Address.of("http://root:Milvus123@host:1/db").shown == "http://host:1/db"
    with pytest.raises(InterplayError, match="other than ASCII"):
        Gallery.open(retriever, "http://127.0.0.1:9", token="ü")
    assert capfd.readouterr() == ("", "")


def test_settings_of_a_server() -> None:
    for wrong in (
        {"timeout": 0},
        {"timeout": float("nan")},
        {"consistency": "Weak"},
        {"index": "flat index"},
        {"index_parameters": "M: 16"},
        {"search_parameters": "ef=many"},
        {"shards": 0},
        {"replicas": -1},
        {"ca": "nowhere.pem"},
    ):
        with pytest.raises(InterplayError, match=next(iter(wrong))):
            ServerSettings(**wrong)  # type: ignore[arg-type]
    assert ServerSettings().looking("HNSW", 100) == {"ef": 200}
    chosen = ServerSettings(search_parameters="ef=300 other=1")
    assert chosen.looking("HNSW", 10) == {"ef": 300, "other": 1}
    assert chosen.looking("", 10) == {}


def test_a_mistyped_collection_is_not_created(opened: Opener, retriever: Fake) -> None:
    opened(retriever).close()
    with pytest.raises(
        InterplayError, match=r"no collection .* called 'interplai'. Did you mean 'interplay'"
    ):
        opened(retriever, collection="interplai", create=False)
    with pytest.raises(InterplayError, match="no collection"):
        opened(retriever, collection="interplai", create=False)


def test_a_folder_that_is_not_there_is_not_created(retriever: Fake, tmp_path: Path) -> None:
    with pytest.raises(InterplayError, match="There is no gallery"):
        Gallery.open(retriever, tmp_path / "gallery.db", create=False)
    assert not list(tmp_path.iterdir())


def test_a_server_that_keeps_silent(
    retriever: Fake, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery_connection, "_CONNECT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(InterplayError, match="cannot be reached"):
            Gallery.open(retriever, f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - began < 10
    assert capfd.readouterr() == ("", "")


def test_a_server_that_hangs_up() -> None:
    """With HTTP/2's GOAWAY, code INTERNAL_ERROR, which gRPC itself would print."""
    frames = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]) + bytes([0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2])
    program = (
        "import sys\n"
        "from interplay import Gallery\n"
        "from interplay.errors import InterplayError\n"
        "from interplay.gallery import store\n"
        "from tests.gallery.fake import Fake\n"
        "store._CONNECT = 1.0\n"
        "try:\n"
        "    Gallery.open(Fake(), sys.argv[1])\n"
        "except InterplayError as problem:\n"
        "    print(problem)\n"
    )

    def hang_up() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = connections.enter_context(server.accept()[0])
                connection.sendall(frames)

    with contextlib.ExitStack() as connections, socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=hang_up, daemon=True).start()
        run = subprocess.run(
            [sys.executable, "-c", program, f"http://127.0.0.1:{server.getsockname()[1]}"],
            env={name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert (run.returncode, run.stderr) == (0, "")
    assert "cannot be reached" in run.stdout


def test_threads_leave_the_loggers_as_they_were() -> None:
    logger = logging.getLogger("pymilvus")
    before = logger.level
    barrier = threading.Barrier(2)

    def first() -> None:
        with calls.calling("here", "answer"):
            barrier.wait()
            barrier.wait()

    thread = threading.Thread(target=first)
    thread.start()
    barrier.wait()
    with calls.calling("here", "answer"):
        barrier.wait()
        thread.join()
        assert logger.level == logging.CRITICAL
    assert logger.level == before


def test_a_server_that_goes_away(
    tmp_path: Path, retriever: Fake, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, database, port = start_server_in_thread(str(tmp_path / "server"))
    settings = ServerSettings(timeout=1.0)
    gallery = Gallery.open(retriever, f"http://127.0.0.1:{port}", settings=settings)
    gallery.add_texts(TEXTS, progress=False)
    server.stop(grace=0).wait()
    database.close()
    began = time.monotonic()
    for call in (gallery.count, lambda: gallery.search("cat", find="text"), lambda: gallery.remove(["cat"])):
        with pytest.raises(InterplayError, match=r"Milvus at http://127\.0\.0\.1") as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1
    gallery.close()
    assert time.monotonic() - began < 15
    assert capfd.readouterr() == ("", "")


def test_a_closed_gallery_says_so(gallery: Gallery) -> None:
    gallery.close()
    gallery.close()
    with pytest.raises(InterplayError, match="is closed"):
        gallery.count()
    with pytest.raises(InterplayError, match="is closed"):
        gallery.add_texts(["cat"], progress=False)

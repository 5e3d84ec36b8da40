"""The versions of a gallery: readers see what was before a refresh or what is after it, and writers lose nothing."""

from __future__ import annotations

import contextlib
import itertools
import threading
from pathlib import Path

import pytest

from interplay.errors import InterplayError
from interplay.gallery.address import ServerSettings
from interplay.gallery.gallery import Gallery
from interplay.gallery.refresh import refresh
from tests.gallery.conftest import PLACES, Opener
from tests.gallery.fake import Fake, vector

TEXTS = [f"text number {number}" for number in range(60)]


class Readers:
    """Threads that search all the time.

    Attributes:
        searches: how many they have done.
        wrong: answers that were not those of one version.
    """

    def __init__(self, galleries: list[Gallery]) -> None:
        self.searches = 0
        self.wrong: list[str] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(one,)) for one in galleries]

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _read(self, gallery: Gallery) -> None:
        query = vector("a query")
        while not self._end.is_set():
            try:
                hits = gallery._store.search(query, len(TEXTS) + 100, "text", None)
            except InterplayError as problem:
                self.wrong.append(str(problem))
                return
            self.searches += 1
            versions = {entry.version for entry, _ in hits}
            scores = [
                float(vector(entry.source, entry.route, entry.version) @ query) - score
                for entry, score in hits
            ]
            if len(versions) != 1 or len(hits) != len(TEXTS) or max(map(abs, scores)) > 1e-5:
                self.wrong.append(f"{len(hits)} hits of the versions {versions}, scores off by {scores[:3]}")


def refresh_under_search(gallery: Gallery, retriever: Fake, readers: list[Gallery], times: int) -> None:
    """Refresh a gallery again and again while others search it: nobody sees anything but one version."""
    gallery.add_texts(TEXTS, progress=False)
    with Readers(readers) as reading:
        for number in range(times):
            retriever.prompts.update(even=f"v{number}", odd=f"v{number}")
            assert gallery.refresh(progress=False).reencoded == len(TEXTS)
            assert not reading.wrong, reading.wrong[0]
    assert reading.searches > times
    assert gallery.count() == len(TEXTS)
    assert gallery.waiting() == 0
    assert len(gallery._store.versions.all()) == 1


def test_readers_see_old_or_new_in_a_folder(tmp_path: Path) -> None:
    retriever = Fake()
    with Gallery.open(retriever, tmp_path / "gallery.db") as gallery:
        refresh_under_search(gallery, retriever, [gallery, gallery], 10)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_readers_see_old_or_new_on_a_server(real_address: str) -> None:
    retriever, fast = Fake(), ServerSettings(consistency="Bounded")
    with contextlib.ExitStack() as open_:
        gallery = open_.enter_context(Gallery.open(retriever, real_address))
        readers = [
            open_.enter_context(Gallery.open(Fake(), real_address, settings=how)) for how in (fast, None)
        ]
        refresh_under_search(gallery, retriever, readers, 200)


# what answers as a server here is Milvus Lite without the lock that a gallery keeps around it
@pytest.mark.parametrize("place", [PLACES[0], PLACES[2]], indirect=True)
def test_what_is_written_during_refreshes_is_kept(opened: Opener, place: str | Path, retriever: Fake) -> None:
    gallery = opened(retriever)
    gallery.add_texts(TEXTS, [{"n": 0}] * len(TEXTS), progress=False)
    # a folder is open once: threads of its process share it
    writer = Gallery(Fake(), gallery._store) if isinstance(place, Path) else opened(Fake())
    reported: list[str] = []
    end = threading.Event()

    def write() -> None:
        for number in itertools.count():
            if end.is_set():
                return
            text = f"later text {number}"
            writer.add_texts([text, TEXTS[number % 30]], [{"n": number + 1}] * 2, progress=False)
            assert writer.remove([TEXTS[30 + number]] if number < 30 else []) == (number < 30)
            reported.append(text)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(4):
            retriever.prompts.update(even=f"v{number}", odd=f"v{number}")
            refresh(retriever, gallery._store, batch_size=16, progress=False)
    finally:
        end.set()
        thread.join()
    done = len(reported)
    assert done > 3
    entries = {entry.source: entry for block in gallery._store.scan(metadata=True) for entry in block}
    assert set(entries) == {*reported, *TEXTS[:30], *TEXTS[30 + min(done, 30) :]}
    assert gallery.count() == len(entries)
    for number in range(max(0, done - 30), done):
        assert entries[TEXTS[number % 30]].metadata == {"n": number + 1}
        assert entries[reported[number]].metadata == {"n": number + 1}
    versions = {entry.version for entry in entries.values()}
    assert versions == {"v3"} or gallery._store.state != retriever.state()
    refresh(retriever, gallery._store, batch_size=16, progress=False)
    assert gallery._store.state == retriever.state()
    assert {entry.version for block in gallery._store.scan() for entry in block} == {"v3"}


def test_a_gallery_of_before_there_were_versions(
    opened: Opener, retriever: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = opened(retriever)
    gallery.add_texts(TEXTS, progress=False)
    client = gallery._store._connection.client
    client.drop_alias("interplay")
    client.rename_collection("interplay__v1", "interplay")
    gallery.close()
    gallery = opened(retriever)
    assert gallery._store.versions.all() == ["interplay"]
    assert gallery.count() == len(TEXTS)
    retriever.prompts.update(even="2", odd="2")
    assert gallery.refresh(progress=False).reencoded == len(TEXTS)
    assert gallery._store.versions.all() == ["interplay__v1"]
    gallery.close()
    assert opened(retriever, create=False).count() == len(TEXTS)


def test_a_kill_before_the_alias_was_made(opened: Opener, retriever: Fake) -> None:
    gallery = opened(retriever)
    gallery.add_texts(TEXTS, progress=False)
    gallery._store._connection.client.drop_alias("interplay")
    gallery.close()
    assert opened(retriever, create=False).count() == len(TEXTS)

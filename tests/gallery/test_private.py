"""A gallery's folder is all there is of it: nothing listens, and what was removed or encoded anew is in no file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from interplay.gallery.gallery import Gallery
from interplay.gallery.versions import Versions
from tests.gallery.fake import Fake, snapshot

LISTENING = """
import os, sys
from interplay import Gallery
from tests.gallery.fake import Fake

with Gallery.open(Fake(), sys.argv[1]) as gallery:
    gallery.add_texts(["cat"], progress=False)
    assert len(gallery.search("cat", find="text")) == 1
    own = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            own.add(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    for table, state, column, inode in (("tcp", "0A", 3, 9), ("tcp6", "0A", 3, 9), ("unix", "00010000", 3, 6)):
        with open(f"/proc/self/net/{table}") as file:
            for row in map(str.split, file):
                if row[column] == state and f"socket:[{row[inode]}]" in own:
                    print(table, row)
"""


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="reads Linux's list of sockets")
def test_an_open_gallery_listens_nowhere(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LISTENING, str(tmp_path / "gallery.db")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def every_byte(place: Path) -> bytes:
    """What all files of a folder hold, as they are and, of Parquet files, unpacked too."""
    found = []
    for path in sorted(place.rglob("*")):
        if path.is_file():
            found += [str(path).encode(), path.read_bytes()]
        if path.suffix == ".parquet":
            table = parquet.read_table(path)
            for name in table.column_names:
                for value in table[name].to_pylist():
                    numbers = isinstance(value, list)
                    found.append(
                        np.asarray(value, dtype=np.float32).tobytes() if numbers else str(value).encode()
                    )
    return b"\0".join(found)


def test_what_was_removed_is_in_no_file(tmp_path: Path) -> None:
    place = tmp_path / "gallery.db"
    with Gallery.open(Fake(), place) as gallery:
        gallery.add_texts(
            ["keep this", "a secret word"], [{"note": "kept"}, {"note": "hush"}], progress=False
        )
        gallery.add_texts(["another"], [{"note": "whisper"}], ids=["mine"], progress=False)
    rows = snapshot(Fake(), place)
    secret = next(row for row in rows.values() if row[1] == "a secret word")
    for trace in (b"a secret word", b"hush", b"whisper", secret[5]):
        assert trace in every_byte(place)
    with Gallery.open(Fake(), place) as gallery:
        assert gallery.remove(["a secret word"]) == 1
        gallery.add_texts(["another"], [{"note": "loud"}], ids=["mine"], progress=False)
    left = every_byte(place)
    for trace in (b"secret", b"hush", b"whisper", secret[4], secret[5]):
        assert trace not in left
    assert b"keep this" in left
    after = snapshot(Fake(), place)
    gone = next(name for name, row in rows.items() if row is secret)
    assert gone.encode() not in left
    assert {row[1]: row[6] for row in after.values()} == {
        "keep this": {"note": "kept"},
        "another": {"note": "loud"},
    }


def test_what_was_encoded_anew_is_in_no_file(tmp_path: Path) -> None:
    place, retriever = tmp_path / "gallery.db", Fake()
    with Gallery.open(retriever, place) as gallery:
        for at in range(3):
            gallery.add_texts([f"text {at} {n}" for n in range(5)], progress=False)
    before = snapshot(retriever, place)
    retriever.prompts.update(even="2", odd="2")
    with Gallery.open(retriever, place) as gallery:
        gallery.refresh(progress=False)
        learned = snapshot_of(gallery, retriever)
        assert len(learned) == 15
    left = every_byte(place)
    assert not [row for row in before.values() if row[5] in left]
    retriever.prompts.update(even="1", odd="1")
    with Gallery.open(retriever, place) as gallery:
        gallery.refresh(progress=False)
    assert snapshot(retriever, place) == before
    left = every_byte(place)
    assert not [vector for vector in learned if vector in left]


def snapshot_of(gallery: Gallery, retriever: Fake) -> list[bytes]:
    """The embeddings of an open gallery."""
    hits = gallery.search("anything", k=100, find="text")
    return [retriever.one("text", hit.source)[1].tobytes() for hit in hits]


def test_a_refresh_that_was_killed_before_it_dropped_what_was_before_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, retriever = tmp_path / "gallery.db", Fake()
    with Gallery.open(retriever, place) as gallery:
        gallery.add_texts(["cat", "dog"], progress=False)
    before = snapshot(retriever, place)
    retriever.prompts.update(even="2", odd="2")
    with Gallery.open(retriever, place) as gallery, monkeypatch.context() as patch:
        patch.setattr(Versions, "drop_others", lambda *_: None)
        gallery.refresh(progress=False)
    assert [row for row in before.values() if row[5] in every_byte(place)]
    with Gallery.open(retriever, place) as gallery:
        assert gallery.refresh(progress=False).reencoded == 0
    assert not [row for row in before.values() if row[5] in every_byte(place)]


def test_what_is_removed_is_not_in_a_refresh_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, retriever = tmp_path / "gallery.db", Fake()
    with Gallery.open(retriever, place) as gallery:
        gallery.add_texts(["a cat of ours", "dog"], progress=False)
        retriever.prompts.update(even="2", odd="2")
        with monkeypatch.context() as patch:
            patch.setattr(Versions, "switch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                gallery.refresh(progress=False)
        assert len(gallery._store.versions.all()) == 2
        assert gallery.remove(["a cat of ours"]) == 1
    assert b"a cat of ours" not in every_byte(place)
    with Gallery.open(retriever, place) as gallery:
        assert gallery.refresh(progress=False).reencoded == gallery.count() == 1

"""Milvus Lite folders: half-done work that a kill leaves, damage, and other things that are no gallery."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import milvus_lite.storage.wal as wal
import pytest

from interplay.errors import InterplayError
from interplay.gallery.gallery import Gallery
from interplay.gallery.store import Store
from tests.gallery.fake import Fake, snapshot

TEXTS = ["cat", "dog", "green apple pie"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A closed gallery of three texts, in two data files."""
    place = tmp_path / "gallery.db"
    with Gallery.open(Fake(), place) as gallery:
        gallery.add_texts(TEXTS[:2], progress=False)
        gallery.add_texts(TEXTS[2:], progress=False)
    return place


def inside(place: Path) -> Path:
    return place / "collections" / "interplay__v1"


def test_a_log_whose_data_file_is_written_already_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the two: Milvus Lite alone would give every one of these entries twice."""
    place, log = tmp_path / "gallery.db", tmp_path / "log"
    with Gallery.open(Fake(), place) as gallery:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "settle", lambda store: None)
            gallery.add_texts(TEXTS[:2], progress=False)
        shutil.copytree(inside(place) / "wal", log)
        gallery.add_texts(TEXTS[2:], progress=False)
        expected = [hit.source for hit in gallery.search("cat", find="text")]
    before = snapshot(Fake(), place)
    shutil.copytree(log, inside(place) / "wal", dirs_exist_ok=True)
    assert list((inside(place) / "wal").glob("*.arrow"))
    assert snapshot(Fake(), place) == before
    shutil.copytree(log, inside(place) / "wal", dirs_exist_ok=True)
    with Gallery.open(Fake(), place) as gallery:
        assert gallery.count() == 3
        assert [hit.source for hit in gallery.search("cat", find="text")] == expected


def test_no_file_is_written_in_place(place: Path) -> None:
    """Milvus Lite would write index files so (`.idx`), and not open half of one."""
    assert data_file(place).exists()
    assert not list(place.rglob("*idx*"))


def test_a_collection_that_was_never_finished_is_begun_again(tmp_path: Path) -> None:
    place = tmp_path / "gallery.db"
    inside(place).mkdir(parents=True)
    (inside(place) / "schema.json.tmp").write_text('{"collection_na')
    with Gallery.open(Fake(), place) as gallery:
        gallery.add_texts(TEXTS, progress=False)
        assert gallery.count() == 3


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def data_file(place: Path) -> Path:
    return sorted(inside(place).glob("partitions/*/data/*.parquet"))[-1]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda place: cut(inside(place) / "manifest.json"), "manifest.json"),
        (lambda place: (inside(place) / "manifest.json").unlink(), "manifest.json"),
        (lambda place: (inside(place) / "manifest.json").write_text("[]"), "manifest.json"),
        (lambda place: cut(inside(place) / "schema.json"), "schema.json"),
        (lambda place: (inside(place) / "schema.json").unlink(), "schema.json"),
        (lambda place: cut(data_file(place)), "parquet"),
        (lambda place: data_file(place).write_bytes(b""), "parquet"),
        (lambda place: data_file(place).unlink(), "parquet"),
    ],
)
def test_a_damaged_gallery_is_refused_and_left_alone(
    place: Path, damage: Callable[[Path], None], named: str
) -> None:
    damage(place)
    files = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    with pytest.raises(InterplayError, match=rf"damaged \(.*{named} is missing or cut off\)"):
        Gallery.open(Fake(), place)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == files


def test_a_flipped_byte_is_told(place: Path) -> None:
    """Wherever it is: in a file's data it would be searched by, elsewhere it could not be read."""
    file = data_file(place)
    whole = file.read_bytes()
    for at in range(0, len(whole), len(whole) // 40):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        for _ in range(2):
            with pytest.raises(
                InterplayError, match=r"damaged \(data_.* (is not what was written|cut off)\)"
            ):
                Gallery.open(Fake(), place)
    file.write_bytes(whole)
    with Gallery.open(Fake(), place) as gallery:
        assert gallery.count() == 3


def test_what_was_killed_or_is_older_has_no_checksums(place: Path) -> None:
    (inside(place) / "checksums.json").unlink()
    with Gallery.open(Fake(), place) as gallery:
        assert gallery.count() == 3
        assert not (inside(place) / "checksums.json").exists()
    for nothing in ("[]", "{", "null", "[" * 100_000):
        (inside(place) / "checksums.json").write_text(nothing)
        with Gallery.open(Fake(), place) as gallery:
            assert gallery.count() == 3


def test_what_something_else_has_changed_since_is_not_compared(place: Path) -> None:
    """An older version, say, which leaves the checksums as they are: its manifest is another one."""
    sums, manifest = inside(place) / "checksums.json", inside(place) / "manifest.json"
    kept = json.loads(sums.read_text())
    sums.write_text(json.dumps({name: value if name == manifest.name else 0 for name, value in kept.items()}))
    with pytest.raises(InterplayError, match="is not what was written"):
        Gallery.open(Fake(), place)
    manifest.write_text(manifest.read_text() + " ")
    with Gallery.open(Fake(), place) as gallery:
        assert gallery.count() == 3


def test_what_is_no_gallery_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file.db"
    file.write_bytes(b"SQLite format 3\0")
    with pytest.raises(InterplayError, match=r"is a file, no Milvus Lite gallery"):
        Gallery.open(Fake(), file)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter.txt").touch()
    with pytest.raises(InterplayError, match="folder of something else"):
        Gallery.open(Fake(), tmp_path / "folder")
    with pytest.raises(InterplayError, match="cannot be opened"):
        Gallery.open(Fake(), file / "below.db")
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["letter.txt"]


def test_a_gallery_is_open_once_at_a_time(place: Path) -> None:
    with Gallery.open(Fake(), place), pytest.raises(InterplayError, match="open already"):
        Gallery.open(Fake(), place)
    with Gallery.open(Fake(), place) as gallery:
        assert gallery.count() == 3


def test_what_could_not_be_written_does_not_spoil_what_comes_after(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up in the middle of a record."""

    def full(log: wal.WAL, record: object) -> None:
        raise OSError(28, "No space left on device")

    gallery = Gallery.open(Fake(), place)
    with monkeypatch.context() as patch:
        patch.setattr(wal.WAL, "write_insert", full)
        with pytest.raises(InterplayError, match=r"No space left on device.*open it again"):
            gallery.add_texts(["more"], progress=False)
    with pytest.raises(InterplayError, match="is closed"):
        gallery.count()
    with Gallery.open(Fake(), place) as gallery:
        assert gallery.add_texts(["more"], progress=False).added == 1


def test_a_program_that_does_not_close_its_gallery_ends_quietly(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from interplay.gallery.gallery import Gallery\n"
        "from tests.gallery.fake import Fake\n"
        "gallery = Gallery.open(Fake(), sys.argv[1])\n"
        "print(gallery.add_texts(['cat'], progress=False).added)\n"
    )
    place = tmp_path / "gallery.db"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(place)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "1\n", "")
    assert len(snapshot(Fake(), place)) == 1

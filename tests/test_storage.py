"""The storage that the caches share: right or absent, whatever becomes of its files."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import filelock
import pytest

from interplay import storage
from interplay.storage import Storage

UNIT = 6


def blocks(numbers: range) -> dict[bytes, bytes]:
    """Some of one to four units, by their digests."""
    found = (random.Random(number).randbytes(UNIT * (1 + number % 4)) for number in numbers)
    return {hashlib.sha256(block).digest(): block for block in found}


def opened(folder: Path, shard_bytes: int = 1000, max_bytes: int = 10**6) -> Storage:
    return Storage(folder, "blocks", UNIT, shard_bytes, max_bytes)


def keep(into: Storage, wanted: dict[bytes, bytes]) -> None:
    with into.writing():
        into.append(wanted)


def used(folder: Path) -> list[int]:
    """Bytes of the shards."""
    return [path.stat().st_size for path in sorted(folder.glob("*.blocks"))]


def test_what_is_kept_is_found_again(tmp_path: Path) -> None:
    reader, wanted = opened(tmp_path), blocks(range(20))
    keep(opened(tmp_path), wanted)
    assert len(reader) == 0
    reader.refresh()
    for one in (reader, opened(tmp_path)):
        assert len(one) == 20
        assert all(one.get(key) == block for key, block in wanted.items())
        assert one.get(bytes(32)) is None
    keep(reader, wanted)
    assert sum(used(tmp_path)) == sum(map(len, wanted.values()))


def test_a_full_shard_is_followed_by_another_and_the_oldest_is_given_up(tmp_path: Path) -> None:
    large = 40 * UNIT
    for start in range(0, 60, 5):
        wanted = blocks(range(start, start + 5))
        one = opened(tmp_path, shard_bytes=8 * UNIT, max_bytes=large)
        keep(one, wanted)
        assert all(one.get(key) == block for key, block in wanted.items())
        assert max(used(tmp_path)) <= 8 * UNIT
        assert sum(used(tmp_path)) <= large
    assert 0 < len(opened(tmp_path)) < 60


def test_a_block_larger_than_a_shard_has_one_of_its_own(tmp_path: Path) -> None:
    wanted = blocks(range(3, 16, 4))
    keep(opened(tmp_path, shard_bytes=UNIT), wanted)
    assert used(tmp_path) == [4 * UNIT] * 4
    assert all(opened(tmp_path).get(key) == block for key, block in wanted.items())


def test_damage_leaves_blocks_right_or_absent_and_is_mended(tmp_path: Path) -> None:
    draw, wanted = random.Random(0), blocks(range(30))
    for _ in range(150):
        keep(opened(tmp_path, shard_bytes=200), wanted)
        files = [file for file in sorted(tmp_path.glob("0*")) if file.stat().st_size]
        for file in draw.sample(files, min(2, len(files))):
            data = bytearray(file.read_bytes())
            at = draw.randrange(len(data))
            if draw.random() < 0.5:
                del data[at:]
            else:
                data[at] ^= 1 << draw.randrange(8)
            file.write_bytes(data)
        damaged = opened(tmp_path, shard_bytes=200)
        assert len(damaged) == sum(key in damaged for key in wanted)
        found = {key: damaged.get(key) for key in wanted}
        assert all(block is None or block == wanted[key] for key, block in found.items())
        keep(damaged, wanted)
        assert all(damaged.get(key) == block for key, block in wanted.items())


def test_a_writer_that_is_killed_before_the_records_leaves_unused_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = blocks(range(4)), blocks(range(4, 9))
    with monkeypatch.context() as patch:
        patch.setattr(storage.Log, "append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            keep(opened(tmp_path), first)
    path = tmp_path / "000000.blocks"
    path.write_bytes(path.read_bytes() + b"half")
    keep(opened(tmp_path), second)
    again = opened(tmp_path)
    assert len(again) == 5
    assert all(again.get(key) == block for key, block in second.items())
    assert sum(used(tmp_path)) == sum(map(len, [*first.values(), *second.values()]))


def test_writers_wait_for_one_another(tmp_path: Path) -> None:
    lock = tmp_path / "elsewhere"
    one = Storage(tmp_path / "blocks", "blocks", UNIT, 100, lock=lock)
    with one.writing(), pytest.raises(filelock.Timeout):
        filelock.FileLock(lock).acquire(timeout=0)
    filelock.FileLock(lock).acquire(timeout=0).lock.release()

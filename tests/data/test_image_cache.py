from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import signal
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from conftest import encoded, picture

from interplay.data import image_cache
from interplay.data.image_cache import ImageCache
from interplay.data.schema import PairTable
from interplay.errors import InterplayError
from interplay.towers.preprocessing import to_square

SIZE = 12
FEATURES = datasets.Features({"image": datasets.Image(decode=False), "text": datasets.Value("string")})


def table(images: list[dict[str, object]]) -> PairTable:
    rows = datasets.Dataset.from_dict({"image": images, "text": ["x"] * len(images)}, features=FEATURES)
    return PairTable("test", "pairs", (), rows)


def in_memory(count: int) -> PairTable:
    return table([{"bytes": encoded(picture(seed)), "path": None} for seed in range(count)])


def expected(count: int) -> np.ndarray:
    return np.stack([to_square(picture(seed), SIZE) for seed in range(count)])


def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(image_cache, "decode", refuse)


def test_kept_pictures_are_right_and_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = in_memory(6)
    rows = [3, 0, 3, 5, 1, 2, 4]
    first = ImageCache(tmp_path, SIZE).get_many(pairs, rows)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, expected(6)[rows])
    no_decoding(monkeypatch)
    again = ImageCache(tmp_path, SIZE)
    assert len(again) == 6
    np.testing.assert_array_equal(again.get_many(pairs, rows), first)
    assert again.get_many(pairs, []).shape == (0, 3, SIZE, SIZE)


def test_a_cache_from_before_there_was_a_storage_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records had a slot of 64 bits, where the storage has the first unit and how many more there are."""
    folder = tmp_path / f"{SIZE}-v1"
    folder.mkdir()
    index, pixels = b"", expected(3)
    for slot in range(3):
        digest = hashlib.sha256(encoded(picture(slot))).digest()
        record = struct.pack("<32sQI", digest, slot, zlib.crc32(pixels[slot].tobytes()))
        index += record + zlib.crc32(record).to_bytes(4, "little")
    (folder / "000000.index").write_bytes(index)
    (folder / "000000.pixels").write_bytes(pixels.tobytes())
    no_decoding(monkeypatch)
    np.testing.assert_array_equal(
        ImageCache(tmp_path, SIZE).get_many(in_memory(3), [2, 0, 1]), pixels[[2, 0, 1]]
    )


def test_sizes_do_not_mix(tmp_path: Path) -> None:
    pairs = in_memory(1)
    assert ImageCache(tmp_path, 8).get_many(pairs, [0]).shape == (1, 3, 8, 8)
    assert ImageCache(tmp_path, 9).get_many(pairs, [0]).shape == (1, 3, 9, 9)


def test_files_are_read_once_and_a_changed_file_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(0)))
    pairs = table([{"path": str(path), "bytes": None}])
    ImageCache(tmp_path / "cache", SIZE).get_many(pairs, [0])
    with monkeypatch.context() as patch:
        patch.setattr(image_cache, "read_bytes", lambda *_: pytest.fail("read again"))
        np.testing.assert_array_equal(ImageCache(tmp_path / "cache", SIZE).get_many(pairs, [0]), expected(1))
    path.write_bytes(encoded(picture(1)))
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(ImageCache(tmp_path / "cache", SIZE).get_many(pairs, [0]), expected(2)[1:])


def test_an_open_cache_sees_what_another_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = in_memory(2)
    reader = ImageCache(tmp_path, SIZE)
    ImageCache(tmp_path, SIZE).get_many(pairs, [0, 1])
    no_decoding(monkeypatch)
    np.testing.assert_array_equal(reader.get_many(pairs, [1, 0]), expected(2)[::-1])


def test_damaged_files_never_give_a_wrong_picture(tmp_path: Path) -> None:
    """Whatever is cut off or overwritten, the next reader returns the right pixels and repairs the cache."""
    draw = random.Random(0)
    pairs, right = in_memory(8), expected(8)
    for _ in range(60):
        ImageCache(tmp_path, SIZE, max_bytes=40 * 3 * SIZE * SIZE).get_many(pairs, draw.sample(range(8), 5))
        files = [file for file in (tmp_path / f"{SIZE}-v1").iterdir() if file.stat().st_size]
        for file in draw.sample(files, min(2, len(files))):
            data = bytearray(file.read_bytes())
            if draw.random() < 0.5:
                del data[draw.randrange(len(data)) :]
            else:
                at = draw.randrange(len(data))
                data[at] ^= 1 << draw.randrange(8)
            file.write_bytes(data)
        rows = draw.sample(range(8), 6)
        np.testing.assert_array_equal(ImageCache(tmp_path, SIZE).get_many(pairs, rows), right[rows])


def test_the_bound_is_kept_by_giving_up_the_oldest(tmp_path: Path) -> None:
    picture_bytes = 3 * SIZE * SIZE
    pairs, right = in_memory(40), expected(40)
    small = ImageCache(tmp_path, SIZE, max_bytes=16 * picture_bytes)
    for start in range(0, 40, 5):
        rows = list(range(start, start + 5))
        np.testing.assert_array_equal(small.get_many(pairs, rows), right[rows])
        used = sum(file.stat().st_size for file in small.folder.glob("*.pixels"))
        assert used <= 16 * picture_bytes
    np.testing.assert_array_equal(small.get_many(pairs, range(40)), right)
    np.testing.assert_array_equal(ImageCache(tmp_path, SIZE).get_many(pairs, range(40)), right)


def test_a_cache_too_small_and_a_folder_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InterplayError, match="cannot hold two pictures"):
        ImageCache(tmp_path, 224, max_bytes=1000)
    (tmp_path / "file").write_text("")
    with pytest.raises(InterplayError, match=r"cannot be used.*INTERPLAY_CACHE"):
        ImageCache(tmp_path / "file", SIZE)


def test_a_full_disk_is_said_and_leaves_the_cache_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = in_memory(2)
    cache = ImageCache(tmp_path, SIZE)
    cache.get_many(pairs, [0])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(image_cache.os, "fsync", full)
        with pytest.raises(InterplayError, match="No space left on device"):
            cache.get_many(pairs, [1])
    np.testing.assert_array_equal(ImageCache(tmp_path, SIZE).get_many(pairs, [0, 1]), expected(2))


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(InterplayError, match="test, row '0'"):
        ImageCache(tmp_path, SIZE).get_many(table([{"bytes": b"junk", "path": None}]), [0])
    with pytest.raises(InterplayError, match=r"test, row '0'.*gone\.png"):
        ImageCache(tmp_path, SIZE).get_many(table([{"bytes": None, "path": "gone.png"}]), [0])


def _fill(folder: Path, seed: int) -> None:
    draw = random.Random(seed)
    pairs = in_memory(30)
    for _ in range(100_000):
        cache = ImageCache(folder, SIZE, max_bytes=20 * 3 * SIZE * SIZE)
        cache.get_many(pairs, draw.sample(range(30), 4))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_two_writers_and_kill_9(tmp_path: Path) -> None:
    """Two processes write at once and are killed in the middle: what is left is right."""
    fork = multiprocessing.get_context("fork")  # the other ways import torch again, for seconds
    writers = [fork.Process(target=_fill, args=(tmp_path, seed)) for seed in range(2)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/000001.index")) and time.monotonic() < deadline:
        time.sleep(0.05)
    for writer in writers:
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    assert list(tmp_path.glob("*/*.index"))
    np.testing.assert_array_equal(ImageCache(tmp_path, SIZE).get_many(in_memory(30), range(30)), expected(30))


@pytest.mark.slow
def test_reading_is_five_times_as_fast_as_decoding(tmp_path: Path) -> None:
    photos = [encoded(picture(seed, (500, 375)), "JPEG") for seed in range(32)]
    pairs = table([{"bytes": photo, "path": None} for photo in photos])
    cache = ImageCache(tmp_path, 224)
    cache.get_many(pairs, range(32))

    def fastest(work: Callable[[], object]) -> float:
        """Seconds, the best of five: other programs may be running."""
        times = []
        for _ in range(5):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return min(times)

    decoding = fastest(lambda: [to_square(pairs.image(row), 224) for row in range(32)])
    reading = fastest(lambda: cache.get_many(pairs, range(32)))
    print(f"decoding {decoding / 32 * 1e3:.2f} ms, reading {reading / 32 * 1e3:.2f} ms a picture")
    assert decoding >= 5 * reading

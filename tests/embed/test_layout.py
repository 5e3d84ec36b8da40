"""What is written into a folder of embeddings is what is read, or it is told that it is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from interplay.embeddings import Manifest, Record, finished, read_embeddings, write_partition
from interplay.errors import InterplayError

ROWS, JOINT = 3, 4


def manifest(retriever: str = "") -> Manifest:
    return Manifest("tiny", "b" * 32, "p" * 32, JOINT, ("image", "text"), retriever)


def write(folder: Path, made: Manifest, number: int = 0) -> None:
    """A partition whose arrays count up, the second picture unreadable."""
    made.write(folder)
    columns = {
        "key": ["a", "b", "ä"],
        "image_path": ["/p/a.png", "/p/b.png", "/p/ä.png"],
        "image_error": [None, "cut off", None],
        "caption": ["one", "two", "three"],
        "stamp": ["1", "2", "3"],
    }
    arrays = {
        kind: np.full((ROWS, JOINT), at + number, dtype=np.float32) for at, kind in enumerate(made.kept)
    }
    write_partition(folder, Record(number, "a … ä", ROWS, 1), columns, arrays)


def test_a_partition_is_read_as_it_was_written(tmp_path: Path) -> None:
    for number in (0, 1):
        write(tmp_path, manifest(), number)
    found = read_embeddings(tmp_path)
    assert found.manifest == manifest()
    assert len(found) == 2 * ROWS
    assert (tmp_path / "img_emb" / "img_emb_0.npy").is_file()
    assert (tmp_path / "metadata" / "metadata_1.parquet").is_file()
    for number, part in enumerate(found.parts()):
        assert part.record.number == number
        assert part.rows["image_error"].to_pylist() == [None, "cut off", None]
        assert part.rows["text_route"].to_pylist() == [None] * ROWS
        assert np.array_equal(part.vectors["text"], np.full((ROWS, JOINT), 1 + number))
        assert part.keys["image"].shape == (ROWS, JOINT)


def test_an_adapter_keeps_the_keys_beside_the_vectors(tmp_path: Path) -> None:
    write(tmp_path, manifest("someone"))
    (part,) = read_embeddings(tmp_path).parts()
    assert {side: float(array[0, 0]) for side, array in part.keys.items()} == {"image": 2, "text": 3}


@pytest.mark.parametrize(
    "file",
    [
        "img_emb/img_emb_0.npy",
        "text_emb/text_emb_0.npy",
        "metadata/metadata_0.parquet",
        "partitions/partition_0.json",
    ],
)
def test_a_flipped_byte_is_told_whatever_file_it_is_in(tmp_path: Path, file: str) -> None:
    write(tmp_path, manifest())
    data = bytearray((tmp_path / file).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / file).write_bytes(data)
    with pytest.raises(InterplayError, match=f"{Path(file).name} is damaged"):
        list(read_embeddings(tmp_path).parts())


def test_without_its_record_a_partition_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, manifest())
    (tmp_path / "partitions" / "partition_0.json").unlink()
    assert finished(tmp_path) == []
    assert len(read_embeddings(tmp_path)) == 0


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"format": 99}'])
def test_a_manifest_that_cannot_be_read_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, "utf-8")
    with pytest.raises(InterplayError, match=r"manifest\.json is damaged|newer interplay"):
        read_embeddings(tmp_path)


def test_a_folder_without_embeddings_is_told(tmp_path: Path) -> None:
    with pytest.raises(InterplayError, match="holds no embeddings"):
        read_embeddings(tmp_path)

"""Pictures in every shape that programs hold them in."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import encoded, picture

from interplay.data.images import decode, fault, read_bytes
from interplay.data.picture_sources import picture_list, text_list
from interplay.errors import InterplayError

PIXELS = np.asarray(picture(3))  # (14, 20, 3)


class Somewhere(os.PathLike[str]):
    """A path of somebody else's library."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


EXACT: dict[str, Callable[[], object]] = {
    "bytearray": lambda: bytearray(encoded(picture(3))),
    "memoryview": lambda: memoryview(encoded(picture(3))),
    "file in memory": lambda: io.BytesIO(encoded(picture(3))),
    "array": lambda: PIXELS,
    "channels in front": lambda: PIXELS.transpose(2, 0, 1),
    "floats": lambda: PIXELS.astype(np.float64) / 255,
    "wide integers": lambda: PIXELS.astype(np.int64),
    "16 bits": lambda: PIXELS.astype(np.uint16) * 257,
    "tensor": lambda: torch.from_numpy(PIXELS.transpose(2, 0, 1).copy()),
    "tensor of floats": lambda: torch.from_numpy(PIXELS.transpose(2, 0, 1) / 255).requires_grad_(),
    "opaque": lambda: np.concatenate([PIXELS, np.full((14, 20, 1), 255, np.uint8)], axis=2),
}


@pytest.mark.parametrize("kind", EXACT)
def test_every_kind_gives_the_same_picture(kind: str) -> None:
    np.testing.assert_array_equal(np.asarray(decode(EXACT[kind](), "here")), PIXELS)


def test_open_files_and_paths_of_other_libraries(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(3)))
    np.testing.assert_array_equal(np.asarray(decode(Somewhere(tmp_path / "a.png"), "here")), PIXELS)
    with tempfile.NamedTemporaryFile() as wrapped, open(tmp_path / "a.png", "rb") as file:
        wrapped.write(encoded(picture(3)))
        wrapped.seek(0)
        for opened in (file, wrapped):
            np.testing.assert_array_equal(np.asarray(decode(opened, "here")), PIXELS)


def test_grey_and_black_and_white() -> None:
    grey = PIXELS[..., 0]
    for same in (grey, grey[..., None], grey[None], torch.from_numpy(grey.copy())):
        np.testing.assert_array_equal(np.asarray(decode(same, "here"))[..., 1], grey)
    np.testing.assert_array_equal(np.asarray(decode(grey > 99, "here"))[..., 1], (grey > 99) * 255)


def test_where_both_ends_could_be_channels_arrays_and_tensors_keep_their_custom() -> None:
    square = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    np.testing.assert_array_equal(np.asarray(decode(square, "here")), square)
    np.testing.assert_array_equal(
        np.asarray(decode(torch.from_numpy(square), "here")), square.transpose(1, 2, 0)
    )


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (7, "not of the type int"),
        (None, "not nothing"),
        ([1, 2], "not of the type list"),
        ({"image": "a.png"}, "not a mapping of image"),
        ({"bytes": 7}, "not of the type int"),
        (np.zeros((2, 2, 2, 2, 2)), "no picture"),
        (np.zeros((5, 5, 5), np.uint8), r"no axis of 1, 3 or 4 channels"),
        (np.zeros((0, 4), np.uint8), "no picture"),
        (np.full((4, 4), 255.0), "from 0 to 1"),
        (np.full((4, 4), np.nan), "from 0 to 1"),
        (np.full((4, 4), 256), "int64 is no picture"),
        (np.full((4, 4), "x"), "is no picture"),
        (io.StringIO("text"), "open it with 'rb'"),
        ("a\0b.png", "zero byte"),
        ("\ud800.png", "half of a character"),
    ],
)
def test_what_is_none_is_said_in_one_sentence(source: object, reason: str) -> None:
    with pytest.raises(InterplayError, match=f"^row 7: .*{reason}"):
        decode(source, "row 7")  # type: ignore[arg-type]


def test_a_closed_file() -> None:
    file = io.BytesIO(b"x")
    file.close()
    assert "cannot be read" in (fault(file) or "")


@pytest.mark.timeout(20)
def test_pipes_devices_and_folders_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path, what in (
        (tmp_path / "pipe.png", "a pipe"),
        (Path("/dev/zero"), "a pipe"),
        (tmp_path, "a folder"),
    ):
        assert what in (fault(path) or "")
        with pytest.raises(InterplayError, match=what):
            read_bytes({"bytes": None, "path": str(path)}, "row 7")


def test_one_or_several() -> None:
    for one in (
        "a.png",
        Path("a.png"),
        b"x",
        picture(0),
        PIXELS,
        torch.zeros(3, 4, 4),
        io.BytesIO(b"x"),
        {"path": "a"},
    ):
        assert len(picture_list(one, "images")) == 1
    assert len(picture_list(np.stack([PIXELS, PIXELS]), "images")) == 2
    assert len(picture_list(torch.zeros(5, 3, 4, 4), "images")) == 5
    assert picture_list((name for name in "ab"), "images") == ["a", "b"]
    assert text_list("one text", "texts") == ["one text"]
    assert text_list(iter(("a", "b")), "texts") == ["a", "b"]
    assert text_list(np.array(["a", "b"]), "texts") == ["a", "b"]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (7, "^texts takes a text or several, not something of the type int"),
        (b"x", "not something of the type bytes"),
        (None, "not nothing"),
        (["a", 7], "number 2 is not a text but of the type int"),
        (["a", " "], "number 2 is an empty text"),
        (["\ud800"], "number 1 holds half of a character"),
    ],
)
def test_what_are_no_texts(texts: object, reason: str) -> None:
    with pytest.raises(InterplayError, match=reason):
        text_list(texts, "texts")  # type: ignore[arg-type]
    with pytest.raises(InterplayError, match=r"^images takes a picture .*not something of the type int"):
        picture_list(7, "images")  # type: ignore[arg-type]

"""Pictures in every shape that programs hold them in, as one of those that `images.decode` reads."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from interplay.errors import InterplayError, wrong_type


@runtime_checkable
class Readable(Protocol):
    """An open file."""

    def read(self, size: int = -1, /) -> Any:
        """Its bytes from where it stands."""


PlainSource: TypeAlias = bytes | str | Path | Image.Image
"""A picture as `images.decode` reads it: a file's bytes or path, or a Pillow image."""

ImageSource: TypeAlias = (
    PlainSource
    | Mapping[str, Any]
    | os.PathLike[str]
    | bytearray
    | memoryview
    | npt.NDArray[Any]
    | torch.Tensor
    | Readable
)
"""Whatever a picture may be given as."""
Images: TypeAlias = ImageSource | Iterable[ImageSource]
"""One picture or several."""
Words: TypeAlias = str | Iterable[str]
"""One text or several."""

_KINDS = "a path, bytes, a Pillow image, an array, a tensor or a file opened with 'rb'"
_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}
_ROW_OF_A_COLUMN = {"bytes", "path"}


class Unusable(Exception):
    """Why a picture cannot be used, as the second half of a sentence."""


def plain(source: ImageSource) -> PlainSource:
    """A picture of any kind as one that can be decoded; an open file is read to its end.

    A mapping is a row of a `datasets` image column, `{"bytes": …, "path": …}`: the bytes count, or else the path.

    Arrays and tensors hold 8-bit values, 16-bit ones (uint16), truth values, or floats from 0 to 1, as (height,
    width) or with 1, 3 or 4 channels last (as in NumPy) or first (as in PyTorch): whichever end fits. Where
    both have, an array's channels are the last axis and a tensor's the first.

    Raises:
        Unusable: it is none of these.
    """
    if isinstance(source, (str, Path, bytes, Image.Image)):
        return source
    if isinstance(source, Mapping):
        if not _ROW_OF_A_COLUMN.issuperset(source):
            raise Unusable(f"a picture is {_KINDS}, not a mapping of {', '.join(map(str, source)):.60}")
        return plain(source["bytes"] if source.get("bytes") is not None else source.get("path") or "")
    if isinstance(source, (bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, torch.Tensor):
        tensor = source.detach().cpu()
        return _from_array(
            (tensor.float() if tensor.is_floating_point() else tensor).numpy(), channels_first=True
        )
    if isinstance(source, np.ndarray):
        return _from_array(source, channels_first=False)
    if isinstance(source, os.PathLike):
        return os.fspath(source)
    if isinstance(source, Readable):
        return _from_file(source)
    raise Unusable(f"a picture is {_KINDS}, not {_kind(source)}")


def picture_list(images: Images, argument: str) -> list[ImageSource]:
    """One picture or several, of any kind and from any iterable, as a list; open files are read here.

    Args:
        images: an array or tensor of four axes holds several.
        argument: what the caller calls it, for the message.

    Raises:
        InterplayError: it is neither a picture nor a collection, or an open file cannot be read.
    """
    pictures = _listed(images, argument)
    for at, picture in enumerate(pictures):
        if isinstance(picture, Readable):
            try:
                pictures[at] = _from_file(picture)
            except Unusable as problem:
                raise InterplayError(f"{argument}, number {at + 1}: {problem}.") from None
    return pictures


def _listed(images: Images, argument: str) -> list[ImageSource]:
    if isinstance(images, (np.ndarray, torch.Tensor)):
        several = images.ndim == 4 or (isinstance(images, np.ndarray) and images.dtype == object)
        return list(images) if several else [images]
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image, Mapping, Readable)):
        return [images]
    if isinstance(images, Iterable):
        return list(images)
    raise wrong_type(argument, f"a picture ({_KINDS}) or several", images)


def text_list(texts: Words, argument: str) -> list[str]:
    """One text or several, from any iterable, as a list.

    Args:
        argument: what the caller calls it, for the message.

    Raises:
        InterplayError: it is no text and no collection, or one of its members is no text, is empty, or holds half of a
            character.
    """
    if isinstance(texts, str):
        return [*_texts([texts], argument)]
    if not isinstance(texts, Iterable) or isinstance(texts, (bytes, bytearray, memoryview, Mapping)):
        raise wrong_type(argument, "a text or several", texts)
    return [*_texts(texts, argument)]


def _texts(texts: Iterable[Any], argument: str) -> Iterable[str]:
    for at, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise InterplayError(f"{argument}: number {at} is not a text but {_kind(text)}.")
        if not text.strip():
            raise InterplayError(f"{argument}: number {at} is an empty text.")
        if not encodable(text):
            raise InterplayError(f"{argument}: number {at} holds half of a character (a lone surrogate).")
        yield str(text)


def encodable(text: str) -> bool:
    """Whether a text is Unicode: halves of characters (lone surrogates) are not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def regular_file(path: str | Path) -> Path:
    """A path that can be opened without waiting: of a file, not of a pipe, device or folder.

    Raises:
        Unusable: there is no such file, or it is of another kind.
    """
    name = str(path)
    if not name:
        raise Unusable("the image is missing")
    if "\0" in name or not encodable(name):
        raise Unusable("the path of the image holds a zero byte or half of a character")
    try:
        mode = os.stat(name).st_mode
    except OSError as problem:
        raise Unusable(f"the image file '{path}' cannot be read ({problem.strerror or problem})") from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
        raise Unusable(f"the image file '{path}' cannot be read (it is {what})")
    return Path(name)


def _from_file(file: Readable) -> bytes:
    try:
        data = file.read()
    except (OSError, ValueError) as problem:  # closed files raise ValueError
        raise Unusable(f"the open file cannot be read ({problem})") from None
    if not isinstance(data, bytes):
        raise Unusable("the file was opened as text; open it with 'rb'")
    if not data:
        raise Unusable("the open file is at its end, or empty")
    return data


def _from_array(pixels: npt.NDArray[Any], *, channels_first: bool) -> Image.Image:
    if pixels.ndim == 3:
        pixels = _channels_last(pixels, channels_first)
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise Unusable(
            f"an array of the shape {pixels.shape} is no picture: give (height, width), with 1, 3 or 4 channels or none"
        )
    values = _eight_bits(pixels)
    return Image.fromarray(values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values)


def _channels_last(pixels: npt.NDArray[Any], channels_first: bool) -> npt.NDArray[Any]:
    first, last = pixels.shape[0] in _CHANNELS, pixels.shape[2] in _CHANNELS
    if not first and not last:
        raise Unusable(f"an array of the shape {pixels.shape} has no axis of 1, 3 or 4 channels")
    return pixels.transpose(1, 2, 0) if first and (channels_first or not last) else pixels


def _eight_bits(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """uint8 values of an array of numbers."""
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype == np.uint16:
        return np.round(pixels / 257).astype(np.uint8)
    if pixels.dtype.kind == "f":
        if not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN is in no interval
            raise Unusable("an array of floats holds values from 0 to 1; give 0 to 255 as uint8")
        return np.round(pixels * 255).astype(np.uint8)
    if pixels.dtype.kind in "iu" and pixels.min() >= 0 and pixels.max() <= 255:
        return pixels.astype(np.uint8)
    raise Unusable(f"an array of {pixels.dtype} is no picture: give uint8, or floats from 0 to 1")


def _kind(value: Any) -> str:
    """The type of a value, in words."""
    return "nothing (None)" if value is None else f"of the type {type(value).__name__}"

"""Pictures of requests: from base64, a data URI or a permitted address to what an image tower reads."""

from __future__ import annotations

import base64
import binascii
import io
import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from interplay.data.images import decode
from interplay.errors import InterplayError
from interplay.service.faults import Unusable
from interplay.service.settings import ServiceSettings
from interplay.towers.preprocessing import Square, to_square

Pixels = npt.NDArray[np.uint8]
_DATA_URI = re.compile(r"data:image/[\w.+-]+(?:;[\w.+-]+=[\w.+-]+)*;base64,", re.ASCII)
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_THUMBNAIL = 256
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""What is decoded; Pillow knows others, some of which run programs or read other files."""


class Fetches(Protocol):
    """What fetches pictures by their addresses."""

    def __call__(self, address: str, where: str) -> bytes:
        """The bytes behind an address; raises `Unusable`."""


@dataclass(frozen=True)
class Pictures:
    """Reads the pictures of requests within a service's limits.

    Attributes:
        settings: the limits.
        fetch: for addresses.
    """

    settings: ServiceSettings
    fetch: Fetches

    def bytes_of(self, source: str | bytes, where: str) -> bytes:
        """The bytes of a picture's file.

        Args:
            source: base64, a data URI, an address where addresses are fetched, or the bytes themselves.
            where: which part of the request it is.

        Raises:
            Unusable: it is none of these, or cannot be fetched.
        """
        if isinstance(source, bytes):
            return source
        if head := _DATA_URI.match(source):
            return _decoded(source[head.end() :], where)
        if source.startswith("data:"):
            raise Unusable(f"{where} is no data URI of a picture: write data:image/png;base64,… .", where)
        if _ADDRESS.match(source):
            return self.fetch(source, where)
        return _decoded(source, where)

    def pixels(self, source: str | bytes, where: str, square: Square) -> Pixels:
        """A picture as a tower reads it: uint8, (3, size, size).

        Args:
            source: as `bytes_of` takes it.

        Raises:
            Unusable: also where it is no picture, cut off, too large or too small.
        """
        content = self.bytes_of(source, where)
        self._check_header(content, where)
        try:
            return to_square(decode(content, where, self.settings.most_pixels), square)
        except InterplayError as problem:
            raise Unusable(str(problem), where) from None

    def thumbnail(self, content: bytes) -> bytes:
        """A picture as a JPEG of at most 256 × 256 pixels.

        Raises:
            Unusable: it cannot be decoded within the limits.
        """
        self._check_header(content, "The picture")
        try:
            image = decode(content, "The picture", self.settings.most_pixels)
        except InterplayError as problem:
            raise Unusable(str(problem)) from None
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=85)
        return file.getvalue()

    def _check_header(self, content: bytes, where: str) -> None:
        """Refuse by format and size what would cost much to decode."""
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
        except Exception as problem:  # a damaged header can raise nearly anything in a decoder
            large = isinstance(problem, Image.DecompressionBombError | Image.DecompressionBombWarning)
            what = (
                f"has more than {self.settings.most_pixels:,} pixels" if large else "is no readable picture"
            )
            raise Unusable(f"{where} {what}: send PNG, JPEG, WebP, GIF or BMP.", where) from None
        if width * height > self.settings.most_pixels:
            raise Unusable(
                f"{where} has {width} x {height} pixels, more than {self.settings.most_pixels:,}: make it smaller.",
                where,
            )
        if min(width, height) < self.settings.least_edge:
            raise Unusable(
                f"{where} has {width} x {height} pixels: each edge needs {self.settings.least_edge}.", where
            )


def is_key(text: str) -> bool:
    """Whether a text can be the key of an entry: 64 hexadecimal digits."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def is_picture(source: str) -> bool:
    """Whether a text is the data URI of a picture."""
    return source.startswith("data:image/")


def _decoded(text: str, where: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Unusable(f"{where} is no base64 of a picture: write data:image/png;base64,… .", where) from None

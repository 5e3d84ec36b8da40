"""Pictures from anywhere, decoded safely."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from interplay.data.picture_sources import ImageSource, Unusable, plain, regular_file
from interplay.errors import InterplayError

__all__ = ["MAX_PIXELS", "ImageSource", "decode", "decoded", "fault", "read_bytes", "source_name"]

MAX_PIXELS = 89_478_485
"""The default limit for one picture: Pillow's own, 256 MiB of RGB."""


def decode(source: ImageSource, where: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes one picture to RGB as a person would see it.

    The EXIF orientation is applied; transparency is laid on white; 16-bit greyscale is scaled to 8 bits (not
    clipped); of an animation the first frame is taken.

    Args:
        source: the bytes of a file, its path, an open file, a Pillow image, an array, a tensor, or a row of a
            `datasets` image column (`{"bytes": …, "path": …}`); see `picture_sources.plain`.
        where: what an error message calls it (the file and row).
        max_pixels: larger pictures are refused before they are decoded.

    Raises:
        InterplayError: the file is missing, truncated, not a picture, or larger than `max_pixels`.
    """
    try:
        return decoded(source, max_pixels)
    except Unusable as problem:
        raise InterplayError(f"{where}: {problem}. Replace the picture or leave the row out.") from None


def fault(source: ImageSource, max_pixels: int = MAX_PIXELS) -> str | None:
    """Why `decode` would refuse this picture, or None when it would not: decodes it once."""
    try:
        decoded(source, max_pixels)
    except Unusable as problem:
        return str(problem)
    return None


def read_bytes(source: Mapping[str, Any], where: str) -> bytes:
    """The original bytes of a row of an image column.

    Raises:
        InterplayError: it has neither bytes nor a readable file.
    """
    if source.get("bytes") is not None:
        return bytes(source["bytes"])
    try:
        return regular_file(source.get("path") or "").read_bytes()
    except OSError as problem:
        raise InterplayError(
            f"{where}: the image file '{source.get('path')}' cannot be read ({problem.strerror or problem})."
        ) from None
    except Unusable as problem:
        raise InterplayError(f"{where}: {problem}.") from None


def source_name(source: ImageSource, number: int) -> str:
    """What a message calls a picture: its path, or else its number."""
    return str(source) if isinstance(source, (str, Path)) else f"image {number}"


def decoded(source: ImageSource, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """What `decode` gives; raises `Unusable` where it would name a picture that cannot be used."""
    source = plain(source)
    if isinstance(source, Image.Image):
        return _to_rgb(source, max_pixels)
    if isinstance(source, bytes):
        if not source:
            raise Unusable("the image is empty (0 bytes)")
        return _read(io.BytesIO(source), max_pixels)
    if not source:
        raise Unusable("the image is missing")
    try:
        with open(regular_file(source), "rb") as file:
            return _read(file, max_pixels)
    except OSError as problem:
        raise Unusable(f"the image file '{source}' cannot be read ({problem.strerror or problem})") from None


def _read(file: Any, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(file)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unusable(f"the image has more than {max_pixels:,} pixels") from None
    except UnidentifiedImageError:
        raise Unusable("the file is not an image of a known format") from None
    except Exception as problem:  # a damaged header can raise nearly anything in a decoder
        raise Unusable(f"the image cannot be read ({problem})") from None
    with image:
        return _to_rgb(image, max_pixels)


def _to_rgb(image: Image.Image, max_pixels: int) -> Image.Image:
    if image.width * image.height > max_pixels:
        raise Unusable(f"the image has {image.width} x {image.height} pixels, more than {max_pixels:,}")
    try:
        image.load()
        upright = _eight_bit(ImageOps.exif_transpose(image))
        if upright.has_transparency_data:
            rgba = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return upright.convert("RGB")
    except Unusable:
        raise
    except Exception as problem:  # a damaged body can raise nearly anything in a decoder
        raise Unusable(f"the image is broken or cut off ({problem})") from None


def _eight_bit(image: Image.Image) -> Image.Image:
    """Greyscale of 16 bits scaled to 8; other 8-bit modes as they are."""
    if not image.mode.startswith(("I", "F")):
        return image
    pixels = np.asarray(image)
    if image.mode == "F" or pixels.min() < 0 or pixels.max() > 65535:
        raise Unusable(f"the pixels have the type '{image.mode}'; save the image with 8 or 16 bits a channel")
    return Image.fromarray(np.round(pixels / 257).astype(np.uint8))

"""Pictures from anywhere, decoded safely, and cut to the square that a CLIP image tower takes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from interplay.data.picture_sources import ImageSource, Unusable, plain, regular_file
from interplay.errors import InterplayError

__all__ = ["MAX_PIXELS", "ImageSource", "decode", "fault", "read_bytes", "source_name", "to_square"]

MAX_PIXELS = 89_478_485
"""The default limit for one picture: Pillow's own, 256 MiB of RGB."""

_LONGEST = 64  # an edge beyond so many times the other one is cut before resizing


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
        return _decode(source, max_pixels)
    except Unusable as problem:
        raise InterplayError(f"{where}: {problem}. Replace the picture or leave the row out.") from None


def fault(source: ImageSource, max_pixels: int = MAX_PIXELS) -> str | None:
    """Why `decode` would refuse this picture, or None when it would not: decodes it once."""
    try:
        _decode(source, max_pixels)
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


def to_square(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """Resizes the shortest edge to `size` (bicubic) and cuts out the centre, as `CLIPImageProcessor` does.

    Bit for bit what `transformers`' Pillow CLIP processor makes without rescaling and normalising. Only a
    picture more than 64 times as long as wide is cut to 64 before (its borders may differ by a rounding): one
    of 1 × 80,000,000 pixels would otherwise grow without bound.

    Args:
        image: RGB, any size.
        size: the edge of the result in pixels.

    Returns:
        uint8, (3, size, size).
    """
    width, height = image.size
    short = min(width, height)
    if max(width, height) > _LONGEST * short:
        width, height = min(width, _LONGEST * short), min(height, _LONGEST * short)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    width, height = (
        (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    )
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    left, top = (width - size) // 2, (height - size) // 2
    return np.ascontiguousarray(pixels[top : top + size, left : left + size].transpose(2, 0, 1))


def _decode(source: ImageSource, max_pixels: int) -> Image.Image:
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

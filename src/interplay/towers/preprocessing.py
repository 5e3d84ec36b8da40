"""From a decoded picture to what an image tower reads: the square cut, and the pixels' mean and deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from interplay.errors import InterplayError, brief

_LONGEST = 64  # an edge longer than this multiple of the other one is cut before resizing
_TOLD = 100  # characters of what another library says of its error
_GREY_LEVELS = 8  # torchvision's resizing differs from Pillow's by rounding; other rules differ by a hundred


@dataclass(frozen=True)
class Square:
    """How a picture of any size becomes the square that an image tower reads.

    Attributes:
        size: edge of the square in pixels; it is cut out of the centre of the resized picture.
        resize: what the shorter edge becomes, at least `size`, or (height, width) for both edges; None: `size`.
        resample: the filter of the resizing, as Pillow numbers them; by default bicubic.
    """

    size: int
    resize: int | tuple[int, int] | None = None
    resample: int = int(Image.Resampling.BICUBIC)

    @property
    def label(self) -> str:
        """A name for folders and digests: `224`, or `224-256-2` where it is not CLIP's own rule."""
        if self == Square(self.size):
            return str(self.size)
        edges = self.resize if isinstance(self.resize, tuple) else (self.resize or self.size,)
        return f"{self.size}-{'x'.join(map(str, edges))}-{self.resample}"

    def edges(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) after resizing."""
        if isinstance(self.resize, tuple):
            return self.resize[1], self.resize[0]
        edge = self.resize or self.size
        if width <= height:
            return edge, int(edge * height / width)
        return int(edge * width / height), edge


@dataclass(frozen=True)
class Normalisation:
    """(pixels / divisor - mean) / deviation, a channel each; by default CLIP's.

    Attributes:
        mean, deviation: of the channels red, green and blue.
        divisor: what bytes are divided by first.
    """

    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    deviation: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    divisor: float = 255.0


CLIP_PIXELS = Normalisation()


def to_square(image: Image.Image, square: Square | int) -> npt.NDArray[np.uint8]:
    """Resizes a picture and cuts out the centre, as the image processors of `transformers` do.

    Bit for bit what their Pillow backend makes without rescaling and normalising. Only a picture more than 64 times
    as long as wide is cut to 64 before (its borders may differ by a rounding): one of 1 × 80,000,000 pixels would
    otherwise grow without bound.

    Args:
        image: RGB, any size.
        square: the rule, or only the edge of the result in pixels.

    Returns:
        uint8, (3, size, size).
    """
    rule = Square(square) if isinstance(square, int) else square
    width, height = image.size
    short = min(width, height)
    if max(width, height) > _LONGEST * short and not isinstance(rule.resize, tuple):
        width, height = min(width, _LONGEST * short), min(height, _LONGEST * short)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    width, height = rule.edges(width, height)
    pixels = np.asarray(image.resize((width, height), Image.Resampling(rule.resample)))
    left, top = (width - rule.size) // 2, (height - rule.size) // 2
    return np.ascontiguousarray(pixels[top : top + rule.size, left : left + rule.size].transpose(2, 0, 1))


def rules_of(processor: Any, size: int, name: str) -> tuple[Square, Normalisation]:
    """What an image processor of `transformers` does to a picture.

    Read from its settings, and then compared with the processor itself on one picture.

    Args:
        processor: as `AutoImageProcessor` loads it, with the Pillow or the torchvision backend.
        size: edge in pixels of the square that the tower reads.
        name: of the backbone, for messages.

    Raises:
        InterplayError: it does something that has no place here, or its square is not the tower's.
    """
    settings = processor.to_dict()
    try:
        square, normalisation = _square(settings, size), normalisation_of(settings)
        _check(processor, square, normalisation)
    except _Unsupported as problem:
        raise InterplayError(
            f"The backbone '{name}' cannot be used: its image processor {problem}."
        ) from None
    except Exception as error:  # values of the wrong kind can raise nearly anything, in the processor too
        raise InterplayError(
            f"The backbone '{name}' cannot be used: the settings of its image processor do not make sense "
            f"({brief(str(error), _TOLD)})."
        ) from error
    return square, normalisation


class _Unsupported(Exception):
    """What an image processor does that has no place here, as the second half of a sentence."""


def _square(settings: Mapping[str, Any], size: int) -> Square:
    if not settings.get("do_resize"):
        raise _Unsupported("does not resize pictures")
    if settings.get("do_pad"):
        raise _Unsupported("pads pictures")
    given = dict(settings["size"])
    resize: int | tuple[int, int]
    if set(given) == {"shortest_edge"}:
        resize = smallest = int(given["shortest_edge"])
    elif set(given) == {"height", "width"}:
        resize = int(given["height"]), int(given["width"])
        smallest = min(resize)
    else:
        raise _Unsupported(f"resizes pictures to {given}, neither a shorter edge nor height and width")
    if settings.get("do_center_crop"):
        fits = dict(settings["crop_size"]) == {"height": size, "width": size} and smallest >= size
    else:
        fits = resize == (size, size)
    if not fits:
        raise _Unsupported(f"does not make the square of {size} x {size} pixels that its image tower reads")
    return Square(size, None if resize == size else resize, int(settings["resample"]))


def normalisation_of(settings: Mapping[str, Any]) -> Normalisation:
    """What the settings of an image processor say of the pixels."""
    divisor = round(1 / settings["rescale_factor"], 9) if settings.get("do_rescale") else 1.0
    if not settings.get("do_normalize"):
        return Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), divisor)
    mean, deviation = (_three(settings[key]) for key in ("image_mean", "image_std"))
    return Normalisation(mean, deviation, divisor)


def _three(value: Any) -> tuple[float, float, float]:
    red, green, blue = [value] * 3 if isinstance(value, (int, float)) else value
    return float(red), float(green), float(blue)


def _check(processor: Any, square: Square, normalisation: Normalisation) -> None:
    """Whether the processor makes the same of one picture of coloured blots as the rules do."""
    blots = np.random.default_rng(0).integers(
        0, 256, (square.size // 3 + 1, square.size // 8 + 2, 3), dtype=np.uint8
    )
    image = Image.fromarray(blots).resize((blots.shape[1] * 4, blots.shape[0] * 4), Image.Resampling.BICUBIC)
    mean, deviation = (
        np.reshape(three, (3, 1, 1)) for three in (normalisation.mean, normalisation.deviation)
    )
    with np.errstate(all="ignore"):  # a deviation of 0 gives no numbers, which agree with nothing
        levels = (np.asarray(processor(image)["pixel_values"][0]) * deviation + mean) * normalisation.divisor
    ours = to_square(image, square)
    if levels.shape != ours.shape or not np.abs(levels - ours).max() <= _GREY_LEVELS:
        raise _Unsupported("makes something else of a picture than its size, crop, filter and statistics say")

"""Pictures of 96 × 96 pixels: icons from SVG, glyphs of the fonts that come with matplotlib, digits of scikit-learn."""

from __future__ import annotations

import io
import re
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import resvg_py
from PIL import Image, ImageDraw, ImageFont

PIXELS = 96
COLOURS = {
    "red": "#d32f2f",
    "orange": "#f57c00",
    "yellow": "#fbc02d",
    "green": "#388e3c",
    "blue": "#1976d2",
    "purple": "#7b1fa2",
    "brown": "#5d4037",
    "black": "#1a1a1a",
}


def icon(svg: str, colour: str = "#1a1a1a") -> bytes:
    """An SVG as a PNG, centred on a white square; `colour` is its current colour."""
    size = re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', svg)
    wide = size is None or float(size[1]) >= float(size[2])
    png = resvg_py.svg_to_bytes(
        svg_string=svg.replace("currentColor", colour),
        skip_system_fonts=True,
        width=PIXELS if wide else None,
        height=None if wide else PIXELS,
    )
    return png_bytes(centred(Image.open(io.BytesIO(bytes(png))).convert("RGBA")))


def centred(drawing: Image.Image) -> Image.Image:
    """A drawing with transparency, shrunk where it is larger, on a white square."""
    drawing.thumbnail((PIXELS, PIXELS), Image.Resampling.BICUBIC)
    canvas = Image.new("RGBA", (PIXELS, PIXELS), "white")
    place = ((PIXELS - drawing.width) // 2, (PIXELS - drawing.height) // 2)
    canvas.alpha_composite(drawing, place)
    return canvas.convert("RGB")


def glyph(
    letter: str, font: str, colour: str = "black", size: int = 64, turn: float = 0.0, back: str = "white"
) -> Image.Image:
    """One letter in the middle of a square.

    Args:
        font: a file of matplotlib's, without its ending.
        size: in pixels.
        turn: degrees, to the left.
        back: the colour behind it.
    """
    canvas = Image.new("RGB", (PIXELS, PIXELS), back)
    middle = (PIXELS / 2, PIXELS / 2)
    ImageDraw.Draw(canvas).text(middle, letter, fill=colour, font=_font(font, size), anchor="mm")
    return canvas.rotate(turn, Image.Resampling.BICUBIC, fillcolor=back)


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size)


def digit(values: np.ndarray) -> bytes:
    """One of scikit-learn's digits, 8 × 8 values from 0 to 16, black on white."""
    grey = (255 - values * 255 / 16).astype(np.uint8)
    return png_bytes(Image.fromarray(grey).resize((PIXELS, PIXELS), Image.Resampling.BICUBIC).convert("RGB"))


def speckled(picture: Image.Image, share: float, generator: np.random.Generator) -> Image.Image:
    """`share` of the pixels in random greys."""
    pixels = np.asarray(picture).copy()
    hit = generator.random(pixels.shape[:2]) < share
    pixels[hit] = generator.integers(0, 256, size=(int(hit.sum()), 1))
    return Image.fromarray(pixels)


def png_bytes(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    target = io.BytesIO()
    picture.save(target, "PNG")
    return target.getvalue()

"""Objects as they are drawn into scenes: OpenMoji pictures, their drawings in one colour, and plain shapes."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from functools import cache, cached_property
from xml.etree import ElementTree

import numpy as np
import resvg_py
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from interplay.data.pictures import openmoji_svgs
from interplay.data.scenes.objects import COLOURS
from interplay.data.scenes.scene import PIXELS, Placed, Scene

_SVG = "http://www.w3.org/2000/svg"
_LINES = {"line", "line-supplement"}  # the groups of OpenMoji's black version
_THICKER = 5  # pixels of the window that makes lines of 2.7 pixels about 6.7 wide
_TINT = 0.4  # how strongly the inside of a glyph is coloured
_FAINT = 24  # of 255; what is fainter counts as margin
_CURTAIN, _FOLD, _FOLDS = "#8d939e", "#6f7682", 6


class Sprites:
    """Draws scenes; each object is rendered once in each of its two ways, when it is first needed.

    Args:
        codes: of all OpenMoji pictures that may occur; empty ones, which shapes have, do not count.
    """

    def __init__(self, codes: Iterable[str]) -> None:
        self._codes = [code for code in codes if code]
        self.picture = cache(self._picture)
        self.glyph = cache(self._glyph)

    @cached_property
    def _svgs(self) -> dict[str, str]:
        return openmoji_svgs(self._codes)

    def _picture(self, code: str) -> Image.Image:
        """An OpenMoji picture in natural colours, RGBA, without the empty margin."""
        return _trimmed(_rendered(self._svgs[code]))

    def _glyph(self, name: str, code: str) -> Image.Image:
        """The drawing of an object in one colour as a mask, without the empty margin.

        Lines are drawn thicker than in OpenMoji's black version and the inside is tinted, so that the colour can be
        seen at 25 pixels; shapes are solid.
        """
        if not code:
            return _trimmed(_rendered(shape_svg(name)).getchannel("A"))
        lines = (
            _rendered(_only_lines(self._svgs[code])).getchannel("A").filter(ImageFilter.MaxFilter(_THICKER))
        )
        inside = _rendered(self._svgs[code]).getchannel("A").point(lambda alpha: round(alpha * _TINT))
        return _trimmed(ImageChops.lighter(lines, inside))

    def draw(self, scene: Scene) -> Image.Image:
        """A scene, RGB, 96 × 96."""
        canvas = Image.new("RGB", (PIXELS, PIXELS), "white")
        for placed in scene.objects:
            self._paste(canvas, placed)
        if scene.curtain is not None:
            left, top, right, bottom = scene.curtain
            pen = ImageDraw.Draw(canvas)
            pen.rectangle((left, top, right - 1, bottom - 1), fill=_CURTAIN)
            for fold in range(1, _FOLDS):
                at = left + (right - left) * fold // _FOLDS
                pen.line((at, top, at, bottom - 1), fill=_FOLD)
        return canvas

    def png(self, scene: Scene) -> bytes:
        """The same as the bytes of a PNG file."""
        buffer = io.BytesIO()
        self.draw(scene).save(buffer, "PNG")
        return buffer.getvalue()

    def _paste(self, canvas: Image.Image, placed: Placed) -> None:
        left, top, right, bottom = placed.box
        size = right - left, bottom - top
        if placed.colour:
            mask = self.glyph(placed.thing.name, placed.thing.code).resize(size, Image.Resampling.LANCZOS)
            canvas.paste(COLOURS[placed.colour], (left, top, right, bottom), mask)
        else:
            picture = self.picture(placed.thing.code).resize(size, Image.Resampling.LANCZOS)
            canvas.paste(picture, (left, top), picture)


def shape_svg(name: str) -> str:
    """A plain shape in black on nothing.

    Raises:
        KeyError: there is no such shape.
    """
    return f'<svg xmlns="{_SVG}" viewBox="0 0 72 72">{_SHAPES[name]}</svg>'


def _rendered(svg: str) -> Image.Image:
    png = resvg_py.svg_to_bytes(svg_string=svg, width=PIXELS, height=PIXELS, skip_system_fonts=True)
    return Image.open(io.BytesIO(png)).convert("RGBA")


def _trimmed(image: Image.Image) -> Image.Image:
    alpha = image.getchannel("A") if image.mode == "RGBA" else image
    seen = np.asarray(alpha) >= _FAINT
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))


def _only_lines(svg: str) -> str:
    """An OpenMoji drawing without its coloured parts."""
    root = ElementTree.fromstring(svg)
    for part in [part for part in root if part.tag == f"{{{_SVG}}}g" and part.get("id") not in _LINES]:
        root.remove(part)
    return ElementTree.tostring(root, encoding="unicode")


def _polygon(*corners: tuple[float, float]) -> str:
    return f'<polygon points="{" ".join(f"{x:.2f},{y:.2f}" for x, y in corners)}"/>'


def _regular(corners: int, *radii: float) -> str:
    """A polygon whose corners lie at equal angles on circles of the given radii in turn, the first one on top."""
    angles = [2 * math.pi * at / corners - math.pi / 2 for at in range(corners)]
    return _polygon(
        *(
            (36 + radii[at % len(radii)] * math.cos(angle), 36 + radii[at % len(radii)] * math.sin(angle))
            for at, angle in enumerate(angles)
        )
    )


_SHAPES = {
    "circle": '<circle cx="36" cy="36" r="30"/>',
    "square": '<rect x="8" y="8" width="56" height="56"/>',
    "triangle": _polygon((36, 8), (68, 64), (4, 64)),
    "star": _regular(10, 32, 13),
    "heart": '<path d="M36 64 C8 44 4 30 4 22 C4 6 28 4 36 20 C44 4 68 6 68 22 C68 30 64 44 36 64 Z"/>',
    "diamond": _polygon((36, 4), (60, 36), (36, 68), (12, 36)),
    "cross": '<path d="M26 6 H46 V26 H66 V46 H46 V66 H26 V46 H6 V26 H26 Z"/>',
    "crescent": '<path d="M48 6 A32 32 0 1 0 48 66 A26 32 0 0 1 48 6 Z"/>',
    "arrow": _polygon((4, 26), (38, 26), (38, 8), (68, 36), (38, 64), (38, 46), (4, 46)),
    "ring": '<circle cx="36" cy="36" r="24" fill="none" stroke="#000" stroke-width="13"/>',
    "pentagon": _regular(5, 32),
    "hexagon": _regular(6, 32),
}

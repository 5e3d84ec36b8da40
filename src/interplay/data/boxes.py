"""Boxes in data: [left, top, right, bottom] in pixels of the undecoded picture, right and bottom just outside.

The origin is the left upper corner; pixel 0 reaches from 0 to 1, so a box of one pixel is [x, y, x + 1, y + 1].
"""

from __future__ import annotations

import math
from typing import Any

from interplay.data.checks import shown

_OVERHANG = 1.0
"""Pixels that a box may reach beyond its picture, as annotations rounded to tenths do; they are cut off."""


def box_fault(box: Any, width: int, height: int) -> str:
    """Why a box cannot be used, as the second half of a sentence; empty where it can.

    Args:
        box: as it was found.
        width, height: of its picture, in pixels.
    """
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(_number(edge) for edge in box):
        return f"the box is not four numbers [left, top, right, bottom] but {shown(box)}"
    left, top, right, bottom = box
    words = f"the box {[round(edge, 2) for edge in box]}"
    if not all(math.isfinite(edge) for edge in box):
        return f"the box holds what is no number: {shown(list(box))}"
    if right < left or bottom < top:
        return f"{words} ends before it begins: its order is left, top, right, bottom"
    if right == left or bottom == top:
        return f"{words} is empty"
    if max(box) <= 1 and min(box) >= 0 and min(width, height) > 1:
        return (
            f"{words} seems to be in shares of the picture: boxes are in pixels (times {width} and {height})"
        )
    if min(left, top) < -_OVERHANG or right > width + _OVERHANG or bottom > height + _OVERHANG:
        return f"{words} reaches beyond its picture of {width} × {height} pixels"
    if min(right, bottom) <= 0 or left >= width or top >= height:
        return f"{words} lies outside of its picture of {width} × {height} pixels"
    return ""


def inside(box: list[float], width: int, height: int) -> list[float]:
    """A box that can be used, without what reaches beyond its picture."""
    left, top, right, bottom = (float(edge) for edge in box)
    return [max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))]


def _number(edge: Any) -> bool:
    return isinstance(edge, (int, float)) and not isinstance(edge, bool)

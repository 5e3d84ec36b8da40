"""One scene as it will be drawn, and blocks of scenes and texts that are balanced within themselves."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from interplay.data.scenes.objects import Thing
from interplay.data.splits import unit_hash

PIXELS = 96
"""Width and height of a scene."""
_SIZES = (0.7, 0.94)  # of the cell, the longer side of an object
_WORDS = 2**53

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the scene, from its left upper corner; right and bottom lie just outside."""

T = TypeVar("T")


@dataclass(frozen=True)
class Placed:
    """An object in a scene.

    Args:
        thing: which.
        colour: of its glyph; empty for its OpenMoji picture in natural colours.
        square: left, top and edge of the square in the middle of which it stands, as large as fits.
    """

    thing: Thing
    colour: str
    square: tuple[int, int, int]

    @property
    def box(self) -> Box:
        """Where it is drawn: what its drawing without the empty margin covers."""
        left, top, edge = self.square
        width, height = self.thing.glyph if self.colour else self.thing.picture
        scale = edge / max(width, height)
        wide, high = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = left + (edge - wide) // 2, top + (edge - high) // 2
        return left, top, left + wide, top + high

    @property
    def words(self) -> str:
        """`red house`, or `house` in natural colours."""
        return f"{self.colour} {self.thing.name}".strip()

    def coloured(self, colour: str) -> Placed:
        """The same object at the same place in another colour."""
        return replace(self, colour=colour)


@dataclass(frozen=True)
class Scene:
    """Objects on white; the `curtain` hides a part of it that is not known."""

    objects: tuple[Placed, ...]
    curtain: Box | None = None


@dataclass(frozen=True)
class Said:
    """A text that is put to one of a block's scenes, and what is right to answer."""

    text: str
    label: str


@dataclass(frozen=True)
class Block:
    """Scenes and texts that balance each other.

    Args:
        scenes: two or more.
        said: for each scene its texts, for every scene equally many.
        case: what kind of question it is, for figures by kind; empty where a task has only one.
    """

    scenes: tuple[Scene, ...]
    said: tuple[tuple[Said, ...], ...]
    case: str = ""


class Dice:
    """Draws that depend on a key alone, the same with every version of Python: only `random()` is used of it."""

    def __init__(self, key: str) -> None:
        self._random = random.Random(int(unit_hash(key) * _WORDS)).random

    def between(self, low: float, high: float) -> float:
        """A number from `low` to just below `high`."""
        return low + (high - low) * self._random()

    def below(self, end: int) -> int:
        """A whole number from 0 to `end` - 1."""
        return int(self._random() * end)

    def one(self, of: Sequence[T]) -> T:
        """A member."""
        return of[self.below(len(of))]

    def some(self, of: Sequence[T], count: int) -> list[T]:
        """Different members, in an order that is drawn too."""
        left = list(of)
        return [left.pop(self.below(len(left))) for _ in range(count)]


def cell(row: int, column: int, side: int) -> Box:
    """One cell of a grid of `side` × `side`."""
    edge = PIXELS // side
    return column * edge, row * edge, (column + 1) * edge, (row + 1) * edge


def square_in(box: Box, dice: Dice) -> tuple[int, int, int]:
    """A square of 70 to 94 % of a cell's width somewhere in it, as left, top and edge."""
    width = box[2] - box[0]
    edge = int(width * dice.between(*_SIZES))
    return box[0] + dice.below(width - edge + 1), box[1] + dice.below(width - edge + 1), edge


def squares(count: int, dice: Dice) -> list[tuple[int, int, int]]:
    """Squares for `count` objects, each in a cell of its own of the smallest square grid that holds them."""
    side = next(side for side in range(1, count + 1) if side * side >= count)
    cells = [cell(at // side, at % side, side) for at in range(side * side)]
    return [square_in(box, dice) for box in dice.some(cells, count)]


def quadruple(
    scenes: tuple[Scene, Scene], texts: tuple[str, str], labels: tuple[str, str], case: str = ""
) -> Block:
    """A Winoground quadruple: each text holds of the scene at its own place and not of the other.

    Thrush et al., 2022, "Winoground: probing vision and language models for visio-linguistic compositionality"
    (arXiv:2204.03162).

    Args:
        scenes, texts: two each.
        labels: of what holds, and of what does not.
        case: as in `Block`.
    """
    first, second = texts
    yes, no = labels
    return Block(scenes, ((Said(first, yes), Said(second, no)), (Said(first, no), Said(second, yes))), case)

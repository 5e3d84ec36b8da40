"""What scenes are made of: objects with short names, eight colours, and which of both go together in which split."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, get_args

from interplay.data.splits import SPLITS, Split, unit_hash

Kind = Literal["animal", "food", "thing", "shape"]
Size = tuple[int, int]
"""Width and height in pixels, where the whole OpenMoji picture has 96 × 96."""

COLOURS = {
    "red": "#d62027",
    "orange": "#f58a0b",
    "yellow": "#edc700",
    "green": "#239b3a",
    "blue": "#1c5fd4",
    "purple": "#8a35c6",
    "pink": "#f573b9",
    "black": "#161616",
}
"""The colours of glyphs and shapes, by the word for them."""

GROUPS = 4
"""The number of groups into which objects are dealt; they decide which combinations are held out of training."""
_HELD_OUT: dict[Split, tuple[int, ...]] = {"train": (0, 1), "validation": (2,), "test": (3,)}


@dataclass(frozen=True)
class Thing:
    """One object that can be drawn.

    Args:
        name: what texts call it, one or two words.
        kind: an animal, something to eat or drink, another thing of OpenMoji's, or a plain shape.
        code: of its OpenMoji picture; empty for shapes.
        glyph: how large its one-coloured drawing is without the empty margin.
        picture: the same of its OpenMoji picture; (0, 0) for shapes, which have none.
        group: from 0 to 3; every kind is dealt evenly into the four by a hash of the names.
    """

    name: str
    kind: Kind
    code: str
    glyph: Size
    picture: Size
    group: int


@cache
def things() -> tuple[Thing, ...]:
    """All 224 objects, in the order of `objects.csv`."""
    text = (resources.files("interplay.data.scenes") / "objects.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    kinds: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    place: dict[str, int] = {}
    for kind in kinds:
        names = sorted((row["name"] for row in rows if row["kind"] == kind), key=unit_hash)
        place |= {name: at % GROUPS for at, name in enumerate(names)}
    return tuple(
        Thing(
            name=row["name"],
            kind=kinds[row["kind"]],
            code=row["code"],
            glyph=(int(row["glyph_width"]), int(row["glyph_height"])),
            picture=(int(row["picture_width"]), int(row["picture_height"])),
            group=place[row["name"]],
        )
        for row in rows
    )


@cache
def group(number: int) -> tuple[Thing, ...]:
    """The objects of one group."""
    return tuple(thing for thing in things() if thing.group == number)


@cache
def colours_of(number: int, split: Split) -> tuple[str, ...]:
    """The colours in which the objects of a group are drawn and spoken of in a split.

    Four for train, two for validation, two for test, and none in two of them: that the house is red, truly or falsely,
    is said and shown in one split only. The groups are shifted against each other, so that every colour is in every
    split, and objects of one group share their colours.
    """
    pairs = [tuple(COLOURS)[at : at + 2] for at in range(0, len(COLOURS), 2)]
    return tuple(colour for slot in _HELD_OUT[split] for colour in pairs[(number + slot) % GROUPS])


def split_of_colour(thing: Thing, colour: str) -> Split:
    """The split in which this object may have this colour."""
    return next(split for split in SPLITS if colour in colours_of(thing.group, split))


def split_of_groups(first: int, second: int) -> Split:
    """The split of what joins an object of one group with one of another."""
    return next(split for split in SPLITS if (second - first) % GROUPS in _HELD_OUT[split])


def with_article(words: str) -> str:
    """`a red house`, `an orange key`."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"

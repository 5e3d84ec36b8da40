"""`scenes/where`: which object is where?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from interplay.data.scenes.objects import Thing, things
from interplay.data.scenes.scene import Block, Dice, Placed, Scene, cell, quadruple, square_in
from interplay.data.splits import Split, split_at, unit_hash

LABELS = ("true", "false")
TRAIN, VALIDATION = 0.6, 0.1  # of the pairs of objects; the rest is test
_RELATIONS = (("left of", "right of"), ("above", "below"))


def split_of_pair(one: Thing, other: Thing) -> Split:
    """The split in which two objects are seen together."""
    return split_at(unit_hash(f"scenes/where {' '.join(sorted((one.name, other.name)))}"), TRAIN, VALIDATION)


def where(split: Split) -> Iterator[Block]:
    """Quadruples of a scene and the same with places swapped, a sentence and its swap.

    Two objects in natural colours, no two in more than one block; left and right or above and below in turn. Across
    that direction their places are drawn, so that two objects side by side may stand at different heights.
    """
    pictured = [thing for thing in things() if thing.code]
    pairs = [pair for pair in combinations(pictured, 2) if split_of_pair(*pair) == split]
    keys = {f"scenes/where places {one.name}, {other.name}": (one, other) for one, other in pairs}
    for number, key in enumerate(sorted(keys, key=unit_hash)):
        dice = Dice(key)
        first, second = dice.some(keys[key], 2)
        words = _RELATIONS[number % 2]
        across = dice.below(2), dice.below(2)
        cells = [(row, along) if number % 2 == 0 else (along, row) for along, row in enumerate(across)]
        front, back = (square_in(cell(*at, side=2), dice) for at in cells)
        scenes = (
            Scene((Placed(first, "", front), Placed(second, "", back))),
            Scene((Placed(second, "", front), Placed(first, "", back))),
        )
        said = dice.below(2)
        texts = tuple(
            f"the {a.name} is {words[said]} the {b.name}" for a, b in ((first, second), (second, first))
        )
        holds = (texts[0], texts[1]) if said == 0 else (texts[1], texts[0])
        yield quadruple(scenes, holds, LABELS, words[said])

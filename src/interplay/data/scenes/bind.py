"""`scenes/bind`: which object has which colour?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from interplay.data.scenes.objects import GROUPS, colours_of, group, with_article
from interplay.data.scenes.scene import Block, Dice, Placed, Scene, quadruple, squares
from interplay.data.splits import Split, unit_hash

LABELS = ("true", "false")


def bind(split: Split) -> Iterator[Block]:
    """Quadruples of a scene and the same with colours swapped, a sentence and its swap.

    Two objects of one group and two of the colours that the group has in the split make one block, none twice; their
    order is by a hash.
    """
    pairs = [
        (one, other, colours)
        for number in range(GROUPS)
        for one, other in combinations(group(number), 2)
        for colours in combinations(colours_of(number, split), 2)
    ]
    keys = {
        f"scenes/bind {one.name}, {other.name}, {' and '.join(colours)}": (one, other, colours)
        for one, other, colours in pairs
    }
    for key in sorted(keys, key=unit_hash):
        dice = Dice(key)
        one, other, colours = keys[key]
        first, second = dice.some((one, other), 2)
        red, blue = dice.some(colours, 2)
        left, right = squares(2, dice)
        scenes = tuple(
            Scene((Placed(first, mine, left), Placed(second, its, right)))
            for mine, its in ((red, blue), (blue, red))
        )
        texts = tuple(
            f"{with_article(f'{mine} {first.name}')} and {with_article(f'{its} {second.name}')}"
            for mine, its in ((red, blue), (blue, red))
        )
        yield quadruple((scenes[0], scenes[1]), (texts[0], texts[1]), LABELS)

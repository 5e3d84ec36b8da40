"""`scenes/confound`: are the pictured and the named one of one kind? A control that needs no interaction of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from interplay.data.scenes.objects import GROUPS, Kind, Thing, group, split_of_groups, with_article
from interplay.data.scenes.scene import Block, Dice, Placed, Scene, quadruple, squares
from interplay.data.splits import Split

LABELS = ("same", "different")
_KINDS: tuple[Kind, Kind] = ("animal", "food")


def confound(split: Split) -> Iterator[Block]:
    """Quadruples of a picture of an animal and one of a food, a text about an animal and one about a food.

    The label is the exclusive or of two classes, that of the picture and that of the text: changing either changes it,
    as with the confounders on both sides of Kiela et al., 2020, "The hateful memes challenge" (arXiv:2005.04790). Which
    object is named beside which picture goes by their groups, so no pairing of test is in train. Endless; the number
    of a block is part of what decides it.
    """
    joined = [
        (shown, named)
        for shown in range(GROUPS)
        for named in range(GROUPS)
        if split_of_groups(shown, named) == split
    ]
    for number in count():
        dice = Dice(f"scenes/confound {split} {number}")
        shown, named = dice.one(joined)
        pictures = [
            Scene((Placed(dice.one(_of_kind(kind, shown)), "", squares(1, dice)[0]),)) for kind in _KINDS
        ]
        texts = [with_article(dice.one(_of_kind(kind, named)).name) for kind in _KINDS]
        yield quadruple((pictures[0], pictures[1]), (texts[0], texts[1]), LABELS)


def _of_kind(kind: Kind, number: int) -> list[Thing]:
    return [thing for thing in group(number) if thing.kind == kind]

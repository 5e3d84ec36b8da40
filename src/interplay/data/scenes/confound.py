"""`scenes/confound`: has what is named the colour of what is shown? A control that a product of both vectors solves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from interplay.data.scenes.objects import GROUPS, group, split_of_groups, with_article
from interplay.data.scenes.scene import Block, Dice, Placed, Scene, quadruple, squares
from interplay.data.splits import Split

LABELS = ("same", "different")
COLOURS = ("red", "blue")


def confound(split: Split) -> Iterator[Block]:
    """Quadruples of a picture in red and one in blue, a text that names something red and one something blue.

    The label is the exclusive or of two classes, that of the picture and that of the text: changing either changes it,
    as with the confounders on both sides of Kiela et al., 2020, "The hateful memes challenge" (arXiv:2005.04790). Which
    objects have the colours does not matter. Which object is named beside which picture goes by their groups, so that
    no pairing of test is in train. Endless; the number of a block is part of what decides it.
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
            Scene((Placed(dice.one(group(shown)), colour, squares(1, dice)[0]),)) for colour in COLOURS
        ]
        texts = [with_article(f"{colour} {dice.one(group(named)).name}") for colour in COLOURS]
        yield quadruple((pictures[0], pictures[1]), (texts[0], texts[1]), LABELS)

"""`scenes/pick`: one fact about one of several objects."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from interplay.data.scenes.objects import GROUPS, Thing, colours_of, group, things
from interplay.data.scenes.scene import Block, Dice, Placed, Scene, quadruple, squares
from interplay.data.splits import Split

LABELS = ("true", "false")
COUNTS = (1, 2, 4, 6, 9)
"""Objects in a scene, in turn."""


def pick(split: Split) -> Iterator[Block]:
    """Quadruples of two scenes in which one object differs in colour, and the two sentences that give it a colour.

    In every other round of the five sizes the colour is swapped with another object's (case `swapped`: both scenes have
    the same names and colours), in the others no further object has either colour (case `recoloured`); scenes of one
    object are all of the latter kind. Endless; the number of a block is part of what decides it.
    """
    for number in count():
        dice = Dice(f"scenes/pick {split} {number}")
        size = COUNTS[number % len(COUNTS)]
        swapped = size > 1 and number // len(COUNTS) % 2 == 0
        home = dice.below(GROUPS)
        asked, other = dice.some(group(home), 2)
        red, blue = dice.some(colours_of(home, split), 2)
        facts = [(asked, red), *([(other, blue)] if swapped else [])]
        while len(facts) < size:
            fact = _further(dice, split)
            if fact[1] not in (red, blue) and all(fact[0] != thing for thing, _ in facts):
                facts.append(fact)
        places = squares(size, dice)
        first = tuple(Placed(thing, colour, at) for (thing, colour), at in zip(facts, places, strict=True))
        changed = [first[0].coloured(blue), *([first[1].coloured(red)] if swapped else [])]
        scenes = (Scene(first), Scene((*changed, *first[len(changed) :])))
        texts = (f"the {asked.name} is {red}", f"the {asked.name} is {blue}")
        yield quadruple(scenes, texts, LABELS, "swapped" if swapped else "recoloured")


def _further(dice: Dice, split: Split) -> tuple[Thing, str]:
    """Any object in a colour that it has in this split."""
    thing = dice.one(things())
    return thing, dice.one(colours_of(thing.group, split))

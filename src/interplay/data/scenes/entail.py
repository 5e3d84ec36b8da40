"""`scenes/entail`: a fact that is shown, contradicted, or hidden."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from interplay.data.scenes.objects import GROUPS, colours_of, group
from interplay.data.scenes.scene import Block, Dice, Placed, Said, Scene, cell, square_in
from interplay.data.splits import Split

LABELS = ("entailment", "neutral", "contradiction")


def entail(split: Split) -> Iterator[Block]:
    """Four scenes of three objects and a curtain, four hypotheses; each is put to three scenes, once under each label.

    Four objects a, b, c, d of one group and two of its colours, p and q; the hypotheses are "the a is p", "the b is q",
    "the c is p", "the d is q". Scene i shows object i in its hypothesis' colour (entailment), the next one in the
    other colour (contradiction), not the one after that, where the curtain hangs (neutral), and the last in the colour
    that the scene lacks; so both colours are in every scene, and what separates entailment from contradiction is the
    binding. Endless; the number of a block is part of what decides it.
    """
    for number in count():
        dice = Dice(f"scenes/entail {split} {number}")
        home = dice.below(GROUPS)
        objects = dice.some(group(home), 4)
        colours = dice.some(colours_of(home, split), 2)
        claims = [f"the {thing.name} is {colours[at % 2]}" for at, thing in enumerate(objects)]
        scenes = []
        for at in range(4):
            cells = dice.some([cell(row, column, 2) for row in range(2) for column in range(2)], 4)
            shown = [(at, at % 2), (at + 1, at % 2), (at + 3, (at + 1) % 2)]
            placed = [
                Placed(objects[which % 4], colours[colour], square_in(box, dice))
                for (which, colour), box in zip(shown, cells, strict=False)
            ]
            scenes.append(Scene(tuple(placed), curtain=cells[3]))
        said = tuple(
            (
                Said(claims[at], "entailment"),
                Said(claims[(at + 1) % 4], "contradiction"),
                Said(claims[(at + 2) % 4], "neutral"),
            )
            for at in range(4)
        )
        yield Block(tuple(scenes), said)

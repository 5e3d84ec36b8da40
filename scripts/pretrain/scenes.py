"""Scenes of one to four objects with captions that name them in any order, beside single pictures.

The captions are those of a bag of words on purpose: nothing in a batch asks which object has which colour or place.
What the scene tasks of the library hold out of training is never shown or said here: an object in a colour of the other
splits, two objects side by side that `scenes/where` keeps for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from augment import MEAN, STD, augment, jitter_colour, outlines, premultiplied
from data import Batch, PictureSet
from torch import Tensor
from torch.nn import functional as F

from interplay.data.scenes.objects import COLOURS, Thing, colours_of, things, with_article
from interplay.data.scenes.where import split_of_pair

SIDE = 96
SINGLE = 0.35
"""Share of a batch that is single pictures, as `tiny` saw them."""
KNOWN = 0.5
"""Share of the objects of scenes that are among those with a short name of the scene tasks."""
SPEECH_TOKENS = 32
_MONOCHROME = {"fluent-emoji-high-contrast", "emojione-monotone", "game-icons"}
_ACTIONS = "icon-park"  # most of its names are those of commands
_TINT = 0.4
_MAX_WORDS = 2


@dataclass(frozen=True)
class Shown:
    """One object of a scene: the number of its picture, its name and colour, and where: left, top, edge in pixels."""

    picture: int
    name: str
    colour: str
    square: tuple[int, int, int]
    thing: Thing | None

    @property
    def words(self) -> str:
        """`red house`, or `house` in natural colours."""
        return f"{self.colour} {self.name}".strip()


@cache
def _things_by_name() -> dict[tuple[str, ...], Thing]:
    return {tuple(thing.name.split()): thing for thing in things()}


def named(text: str) -> list[Thing]:
    """The objects of the scene tasks whose names are words of a text."""
    words = text.lower().replace(",", " ").replace(":", " ").split()
    runs = [tuple(words[at : at + length]) for length in (1, 2) for at in range(len(words) - length + 1)]
    return [_things_by_name()[run] for run in runs if run in _things_by_name()]


def allowed_colours(text: str) -> list[str]:
    """The colours in which something of this name may be drawn: those that training may see of all objects it names."""
    free = set(COLOURS)
    for thing in named(text):
        free &= set(colours_of(thing.group, "train"))
    return [colour for colour in COLOURS if colour in free]


def is_held_out(text: str) -> bool:
    """Whether a text says a colour and an object that are together in another split only, as `red apple` may."""
    said = [colour for colour in COLOURS if colour in text.lower().split()]
    return any(colour not in allowed_colours(text) for colour in said)


class SceneSet(PictureSet):
    """Pictures and the scenes that are made of them."""

    def __init__(self, cache_folder: Path) -> None:
        super().__init__(cache_folder, leave_out=is_held_out)
        by_code = {f"emoji:{thing.code}": thing for thing in things() if thing.code}
        self.known: list[tuple[Thing, np.ndarray]] = []
        self.others: list[np.ndarray] = []
        for group in ("emoji", "icons"):
            for numbers, _ in self.groups[group]:
                entry = self.index[numbers[0]]
                if (thing := by_code.get(entry["concept"])) is not None and group == "emoji":
                    self.known.append((thing, numbers))
                elif entry["source"] != _ACTIONS and _is_name(entry["label"]):
                    self.others.append(numbers)
        self._bounds: dict[int, tuple[int, int, int, int]] = {}

    def scene_batch(
        self, size: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, Batch]:
        """Pictures that are ready for the tower, (size, 3, 96, 96), and the batch that says what they show."""
        single = round(size * SINGLE)
        one = self.batch(single, rng)
        scenes = [self._scene(rng) for _ in range(size - single)]
        background = torch.rand(len(scenes), 3, 1, 1, generator=generator)
        background[torch.rand(len(scenes), generator=generator) < 0.8] = 1.0
        drawn = torch.stack([self._draw(scene, generator) for scene in scenes])
        drawn = (drawn[:, :3] + (1 - drawn[:, 3:]) * background).clamp(0, 1)
        images = torch.cat([augment(one.pictures, SIDE, generator), (drawn - MEAN) / STD])
        concepts = np.concatenate([one.concepts, -1 - np.arange(len(scenes))])
        captions = [*one.captions, *(caption(scene, rng) for scene in scenes)]
        return images, Batch(one.pictures, concepts, captions, max(one.max_tokens, SPEECH_TOKENS))

    def _scene(self, rng: np.random.Generator) -> list[Shown]:
        """One to four objects, all in one of eight colours or all in their own."""
        coloured = rng.random() < 0.55
        count = int(rng.integers(1, 5))
        smallest = 1 if count == 1 else 2
        side = smallest if rng.random() < 0.7 else int(rng.integers(smallest, 4))
        cells = rng.permutation(side * side)[:count]
        shown: list[Shown] = []
        for at in cells:
            found = None
            while found is None:
                found = self._object(coloured, _square(int(at), side, rng), shown, rng)
            shown.append(found)
        return shown

    def _object(
        self, coloured: bool, square: tuple[int, int, int], beside: list[Shown], rng: np.random.Generator
    ) -> Shown | None:
        """An object that may stand in this scene, or None where the draw has to be repeated."""
        thing: Thing | None = None
        if rng.random() < KNOWN:
            thing, numbers = self.known[rng.integers(len(self.known))]
        else:
            numbers = self.others[rng.integers(len(self.others))]
        number = int(numbers[rng.integers(len(numbers))])
        name = thing.name if thing is not None and rng.random() < 0.7 else self.index[number]["label"]
        colour = ""
        if coloured:
            free = allowed_colours(f"{name} {thing.name if thing else ''}")
            if not free or any(word in COLOURS for word in name.split()):
                return None
            colour = free[rng.integers(len(free))]
        elif is_held_out(name) or any(
            thing and other.thing and (thing == other.thing or split_of_pair(thing, other.thing) != "train")
            for other in beside
        ):
            return None
        return Shown(number, name, colour, square, thing)

    def _draw(self, scene: list[Shown], generator: torch.Generator) -> Tensor:
        """A scene as (4, 96, 96), colours times coverage."""
        canvas = torch.zeros(4, SIDE, SIDE)
        for one in scene:
            pixels = self._pixels(one, generator)
            left, top, edge = one.square
            high, wide = pixels.shape[1:]
            left, top = left + (edge - wide) // 2, top + (edge - high) // 2
            part = canvas[:, top : top + high, left : left + wide]
            part.copy_(pixels + part * (1 - pixels[3:]))
        return canvas

    def _pixels(self, one: Shown, generator: torch.Generator) -> Tensor:
        """An object as large as its square, without its margin; in one colour, its lines and a tint inside."""
        left, top, right, bottom = self._bound(one.picture)
        pixels = premultiplied(torch.from_numpy(self.pixels[[one.picture]]))
        if one.colour:
            mask = pixels[:, 3:]
            if self.index[one.picture]["source"] not in _MONOCHROME:
                mask = torch.maximum(outlines(pixels), _TINT * mask)
            pixels = torch.cat([_ink(one.colour, generator) * mask, mask], dim=1)
        else:
            pixels = jitter_colour(pixels, generator, grey=0.0)
        scale = one.square[2] / max(right - left, bottom - top)
        size = [max(1, round((bottom - top) * scale)), max(1, round((right - left) * scale))]
        return F.interpolate(pixels[..., top:bottom, left:right], size=size, mode="bilinear", antialias=True)[
            0
        ]

    def _bound(self, number: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of what can be seen of a picture."""
        if number not in self._bounds:
            seen = self.pixels[number][..., 3] >= 24
            rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
            self._bounds[number] = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        return self._bounds[number]


def _is_name(label: str) -> bool:
    return len(label.split()) <= _MAX_WORDS and label.replace(" ", "").replace("-", "").isalpha()


def _square(at: int, side: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """A square of 65 to 96 % of a cell somewhere in it."""
    cell = SIDE // side
    edge = int(cell * rng.uniform(0.65, 0.96))
    left, top = (int(rng.integers(cell - edge + 1)) for _ in range(2))
    return at % side * cell + left, at // side * cell + top, edge


def _ink(colour: str, generator: torch.Generator) -> Tensor:
    """A colour, a little off, as (1, 3, 1, 1)."""
    exact = torch.tensor([int(COLOURS[colour][at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return (exact + 0.05 * torch.randn(3, generator=generator)).clamp(0, 1).view(1, 3, 1, 1)


def caption(scene: list[Shown], rng: np.random.Generator) -> str:
    """What a scene shows, all of it or a part, in any order."""
    said = [scene[at] for at in rng.permutation(len(scene))]
    if rng.random() < 0.35:
        said = said[: rng.integers(1, len(said) + 1)]
    draw = rng.random()
    if len(said) == 1 and said[0].colour and draw < 0.4:
        return f"the {said[0].name} is {said[0].colour}"
    if len(scene) == len(said) == 2 and draw < 0.2:
        return f"the {said[0].words} is {_place(*said)} the {said[1].words}"
    words = [one.words if draw < 0.35 else with_article(one.words) for one in said]
    if len(words) == 1 or draw > 0.9:
        return ", ".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _place(one: Shown, other: Shown) -> str:
    """Where the first one stands, seen from the second."""
    across, down = one.square[0] - other.square[0], one.square[1] - other.square[1]
    if abs(across) >= abs(down):
        return "left of" if across < 0 else "right of"
    return "above" if down < 0 else "below"

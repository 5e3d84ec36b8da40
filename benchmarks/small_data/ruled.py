"""Sets that are made by a rule, so that counting proves whether picture, text or only both decide."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import matplotlib
import numpy as np
from fontTools.ttLib import TTFont  # matplotlib needs it too
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from benchmarks.small_data.drafts import Draft, Made, with_splits, with_wrong_labels
from benchmarks.small_data.emoji_sets import emoji_picture, some_emoji
from benchmarks.small_data.pictures import COLOURS, PIXELS, digit, glyph, png_bytes, speckled
from interplay.data.splits import unit_hash

_FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif"),
    *("DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol"),
    *("cmr10", "cmss10", "cmtt10", "cmti10", "cmb10"),
)
_SCRIPTS = {"latin": 160, "greek": 90, "cyrillic": 90, "armenian": 45, "georgian": 24, "hebrew": 16}
_SHAPES = ("circle", "square", "triangle", "star", "cross")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def glyph_colours(name: str) -> Made:
    """A glyph in one of 8 colours, its Unicode name → the colour; each glyph is drawn once in each."""
    letters = sorted(_letters("DejaVuSans", ("L", "S")), key=lambda letter: unit_hash(f"{name} {letter}"))
    rows = [
        Draft(
            f"{ord(letter):x} {colour}",
            (unicodedata.name(letter).lower(),),
            (colour,),
            family=letter,
            picture_fact=colour,
            text_fact=letter,
        )
        for letter in letters[:100]
        for colour in COLOURS
    ]

    def draw(picture: str) -> bytes:
        code, colour = picture.split()
        return png_bytes(glyph(chr(int(code, 16)), "DejaVuSans", COLOURS[colour]))

    return Made(with_splits(name, rows), draw)


def glyph_scripts(name: str) -> Made:
    """A letter, the day when it was written → its script; unbalanced, and the day says nothing."""
    rows = []
    for script, most in _SCRIPTS.items():
        letters = [
            letter
            for letter in _letters("DejaVuSans", ("L",))
            if unicodedata.name(letter).startswith(f"{script.upper()} ")
        ]
        letters.sort(key=lambda letter: unit_hash(f"{name} {letter}"))
        for place, letter in enumerate(letters[:most]):
            day = _DAYS[place % len(_DAYS)]
            text = f"a letter that was written on a {day}"
            rows.append(
                Draft(
                    f"{ord(letter):x}",
                    (text,),
                    (script,),
                    letter,
                    script,
                    picture_fact=script,
                    text_fact=day,
                )
            )
    return Made(
        with_splits(name, rows), lambda picture: png_bytes(glyph(chr(int(picture, 16)), "DejaVuSans"))
    )


def letter_hints(name: str) -> Made:
    """A Latin letter in one of 15 fonts, turned and speckled, and a hint at it → which of 26."""
    rows = []
    for letter in "abcdefghijklmnopqrstuvwxyz":
        kind = "vowel" if letter in "aeiou" else "consonant"
        hint = f"a {kind} of the {'first' if letter <= 'm' else 'second'} half of the alphabet"
        for number, (font, case) in enumerate(itertools.product(_FONTS, ("upper", "lower"))):
            shown = getattr(letter, case)()
            picture = f"{letter}{number} {shown} {font}"
            rows.append(
                Draft(picture, (hint,), (letter,), picture, letter, picture_fact=letter, text_fact=hint)
            )

    def draw(picture: str) -> bytes:
        _, shown, font = picture.split()
        generator = np.random.default_rng(int(unit_hash(f"{name} {picture}") * 2**32))
        size, turn = int(generator.integers(44, 72)), float(generator.uniform(-25, 25))
        return png_bytes(speckled(glyph(shown, font, size=size, turn=turn), 0.15, generator))

    return Made(with_splits(name, rows), draw)


def digit_questions(name: str) -> Made:
    """A handwritten digit and a question → yes or no; of each picture every question and its opposite are asked."""
    questions: dict[str, Callable[[int], bool]] = {
        "is it an even number": lambda value: value % 2 == 0,
        "is it an odd number": lambda value: value % 2 == 1,
        "is it greater than four": lambda value: value > 4,
        "is it less than five": lambda value: value < 5,
    }
    rows = [
        Draft(
            number,
            (question,),
            ("yes" if holds(value) else "no",),
            number,
            str(value),
            picture_fact=number,
            text_fact=question,
        )
        for number, value in _digits(name, 30)
        for question, holds in questions.items()
    ]
    return Made(with_splits(name, rows), _draw_digit)


def digits_wrong(name: str) -> Made:
    """A handwritten digit, a text that says nothing → which of 10; 10 % of train and validation are wrong."""
    rows = [
        Draft(
            number,
            (f"a number noted on a {_DAYS[place % 7]}",),
            (str(value),),
            number,
            str(value),
            picture_fact=number,
            text_fact=str(place % 7),
        )
        for place, (number, value) in enumerate(_digits(name, 140))
    ]
    return Made(with_wrong_labels(name, with_splits(name, rows, (26, 6, 68)), 0.1), _draw_digit)


def shapes_match(name: str) -> Made:
    """A coloured shape and a description → right or what is wrong; each picture and each text is under each."""
    rows = []
    combinations = list(itertools.product(range(len(COLOURS)), range(len(_SHAPES))))
    colours = tuple(COLOURS)
    for number, (colour, shape) in itertools.product(range(50), combinations):
        picture = f"{number} {colours[colour]} {_SHAPES[shape]}"
        other_colour = (colour + 1 + number % (len(colours) - 1)) % len(colours)
        other_shape = (shape + 1 + number % (len(_SHAPES) - 1)) % len(_SHAPES)
        told = {
            "right": (colour, shape),
            "wrong colour": (other_colour, shape),
            "wrong shape": (colour, other_shape),
        }
        for label, (a, b) in told.items():
            text = f"a {colours[a]} {_SHAPES[b]}"
            rows.append(
                Draft(
                    picture,
                    (text,),
                    (label,),
                    picture,
                    picture_fact=picture.split(" ", 1)[1],
                    text_fact=text,
                )
            )

    def draw(picture: str) -> bytes:
        _, colour, shape = picture.split()
        generator = np.random.default_rng(int(unit_hash(f"{name} {picture}") * 2**32))
        radius = int(generator.integers(14, 30))
        middle = generator.integers(radius + 2, PIXELS - radius - 2, size=2)
        canvas = Image.new("RGB", (PIXELS, PIXELS), "white")
        _draw_shape(ImageDraw.Draw(canvas), shape, (int(middle[0]), int(middle[1])), radius, COLOURS[colour])
        return png_bytes(canvas)

    return Made(with_splits(name, rows), draw)


def shapes_order(name: str) -> Made:
    """Two shapes and a sentence on which is left → true or false; each picture and each sentence is under both."""
    rows = []
    for number, (left, right) in itertools.product(range(24), itertools.permutations(_SHAPES, 2)):
        if left > right:
            continue
        family = f"{number} {left} {right}"
        texts = (
            f"the {left} is to the left of the {right}",
            f"the {right} is to the left of the {left}",
        )
        for order, (picture, text) in enumerate(itertools.product((0, 1), repeat=2)):
            shapes = f"{left} {right}" if picture == 0 else f"{right} {left}"
            label = "true" if order in (0, 3) else "false"
            rows.append(
                Draft(
                    f"{number} {shapes}",
                    (texts[text],),
                    (label,),
                    family,
                    picture_fact=shapes,
                    text_fact=texts[text],
                )
            )

    def draw(picture: str) -> bytes:
        number, left, right = picture.split()
        pair = " ".join(sorted((left, right)))
        generator = np.random.default_rng(int(unit_hash(f"{name} {number} {pair}") * 2**32))
        canvas = Image.new("RGB", (PIXELS, PIXELS), "white")
        for shape, x in ((left, 26), (right, 70)):
            colour = COLOURS[tuple(COLOURS)[int(generator.integers(len(COLOURS)))]]
            place = (x, int(generator.integers(24, 72)))
            _draw_shape(ImageDraw.Draw(canvas), shape, place, 18, colour)
        return png_bytes(canvas)

    return Made(with_splits(name, rows, (30, 8, 62)), draw)


def stickers(name: str) -> Made:
    """An emoji with a red or green sticker, for a member or a guest → what it costs: each says half of it."""
    costs = {
        ("red", "member"): "half price",
        ("red", "guest"): "full price",
        ("green", "member"): "free",
        ("green", "guest"): "on request",
    }
    said = {"member": "a {} for a member of the club", "guest": "a {} for a guest of the hotel"}
    rows = [
        Draft(
            f"{one.code} {colour}",
            (said[who].format(one.name),),
            (cost,),
            one.code,
            picture_fact=colour,
            text_fact=who,
        )
        for one in some_emoji(name, 200)
        for (colour, who), cost in costs.items()
    ]

    def draw(picture: str) -> bytes:
        code, colour = picture.split()
        canvas = emoji_picture(code)
        ImageDraw.Draw(canvas).ellipse((64, 4, 92, 32), fill=COLOURS[colour], outline="white", width=2)
        return png_bytes(canvas)

    return Made(with_splits(name, rows, (36, 9, 55)), draw)


_LIKED = {
    "good": "wonderful lovely excellent great charming perfect delightful superb brilliant pleasant",
    "bad": "terrible awful broken disappointing ugly horrible useless rotten dreadful annoying",
    "plain": "ordinary average usual typical common standard regular fair unremarkable plain",
}


def reviews(name: str) -> Made:
    """A sentence with two adjectives, an emoji → what its writer thinks; each emoji is under each."""
    rows = []
    for one in some_emoji(name, 160):
        for label, listed in _LIKED.items():
            adjectives = listed.split()
            first, other = (
                int(unit_hash(f"{name} {which} {one.code} {label}") * count)
                for which, count in (("first", len(adjectives)), ("second", len(adjectives) - 1))
            )
            second = (first + 1 + other) % len(adjectives)
            text = f"the {one.name} was {adjectives[first]} and {adjectives[second]}"
            rows.append(Draft(one.code, (text,), (label,), one.code, picture_fact=one.code, text_fact=label))
    return Made(with_splits(name, rows, (30, 8, 62)), lambda code: png_bytes(emoji_picture(code)))


_PROBLEMS = {
    "billing": (
        "i was charged twice for it",
        "the invoice shows a wrong amount",
        "my refund has not arrived",
        "the credit card was declined",
    ),
    "delivery": (
        "the parcel never came",
        "the driver left it at a wrong door",
        "it arrived two weeks late",
        "the tracking page shows nothing",
    ),
    "repair": (
        "the screen is cracked",
        "it does not turn on any more",
        "a screw is loose and it rattles",
        "the battery is dead after an hour",
    ),
    "account": (
        "i forgot my password",
        "somebody changed my email address",
        "the login page locks me out",
        "i want to close my profile",
    ),
    "advice": (
        "which size should i take",
        "is there one for children",
        "does it fit an older model",
        "can it be used outdoors",
    ),
    "praise": (
        "your staff was very kind",
        "thank you for the quick help",
        "i will tell all my friends",
        "this was the best shop ever",
    ),
}
_FILLERS = (
    "i have been a customer of yours for many years now",
    "my neighbour told me to write to you about it",
    "it was raining the whole day when i noticed",
    "the picture shows what i bought last month",
    "please excuse that this letter is rather long",
    "we usually come to the shop in the old town on saturdays",
    "my sister has the same one in another colour",
    "i look forward to hearing from you soon",
    "the weather was lovely and we had coffee in the garden",
    "as you may remember we met at the fair in spring",
)


def complaints(name: str) -> Made:
    """A letter of about 50 words of which one sentence matters, an emoji → the department; each emoji is under each."""
    rows = []
    for one in some_emoji(name, 200):
        for label, problems in _PROBLEMS.items():
            generator = np.random.default_rng(int(unit_hash(f"{name} words {one.code} {label}") * 2**32))
            sentences = [_FILLERS[number] for number in generator.permutation(len(_FILLERS))[:5]]
            problem = problems[int(generator.integers(len(problems)))]
            sentences.insert(int(generator.integers(3)), problem)  # where tiny still reads
            text = ". ".join([f"about the {one.name}", *sentences])
            rows.append(Draft(one.code, (text,), (label,), one.code, picture_fact=one.code, text_fact=label))
    return Made(with_splits(name, rows, (30, 8, 62)), lambda code: png_bytes(emoji_picture(code)))


@cache
def _letters(font: str, categories: tuple[str, ...]) -> tuple[str, ...]:
    """The characters that a font has, of some general categories, with a Unicode name."""
    with TTFont(f"{matplotlib.get_data_path()}/fonts/ttf/{font}.ttf") as opened:
        letters = map(chr, sorted(opened.getBestCmap()))
        return tuple(
            letter
            for letter in letters
            if unicodedata.category(letter).startswith(categories) and unicodedata.name(letter, "") != ""
        )


def _digits(name: str, each: int) -> Sequence[tuple[str, int]]:
    """Numbers of scikit-learn's digits with their values, equally many of each value."""
    values = _handwritten().target
    order = sorted(range(len(values)), key=lambda number: unit_hash(f"{name} {number}"))
    return [
        (str(number), value)
        for value in range(10)
        for number in [one for one in order if values[one] == value][:each]
    ]


@cache
def _handwritten() -> Any:
    return load_digits()


def _draw_digit(number: str) -> bytes:
    return digit(_handwritten().images[int(number)])


def _draw_shape(
    pen: ImageDraw.ImageDraw, shape: str, middle: tuple[int, int], radius: int, colour: str
) -> None:
    x, y = middle
    if shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    elif shape == "cross":
        third = radius // 3
        pen.rectangle((x - radius, y - third, x + radius, y + third), fill=colour)
        pen.rectangle((x - third, y - radius, x + third, y + radius), fill=colour)
    else:
        corners, inner = {"square": (4, 1.0), "triangle": (3, 1.0), "star": (5, 0.4)}[shape]
        pen.polygon(_corners(middle, radius, corners, inner), fill=colour)


def _corners(middle: tuple[int, int], radius: int, corners: int, inner: float) -> list[tuple[float, float]]:
    """A regular polygon, or with `inner` below 1 a star."""
    steps = corners if inner == 1 else 2 * corners
    turn = np.pi / 4 if corners == 4 else np.pi / 2
    points = []
    for step in range(steps):
        reach = radius * (inner if steps > corners and step % 2 else 1)
        angle = turn + 2 * np.pi * step / steps
        points.append((middle[0] + reach * np.cos(angle), middle[1] - reach * np.sin(angle)))
    return points

"""OpenMoji: the library's own tasks as rows of a set, and emoji as pictures of other sets."""

from __future__ import annotations

import io
from collections import Counter
from functools import cache

from PIL import Image

from benchmarks.small_data.drafts import Draft, Made, drawn, with_splits
from benchmarks.small_data.pictures import PIXELS, centred
from interplay.data.emoji import Emoji, all_emoji
from interplay.data.openmoji import attribute_rows, continual_rows, relation_rows, subgroup_rows
from interplay.data.pictures import openmoji_pictures
from interplay.data.splits import unit_hash

_TASKS = {
    "subgroup": subgroup_rows,
    "attributes": attribute_rows,
    "relation": relation_rows,
    "continual": continual_rows,
}


def task(name: str, which: str) -> Made:
    """`openmoji/WHICH` with its own splits; hypotheses of `relation` and pictures say what counting can prove."""
    rows = [
        Draft(
            row.emoji.code,
            (row.text,),
            row.labels,
            row.emoji.family,
            split=row.emoji.split,
            task=row.emoji.category if which == "continual" else "",
            picture_fact=row.emoji.code if which == "relation" else "",
            text_fact=row.text if which == "relation" else "",
        )
        for row in _TASKS[which](_drawn_emoji())
    ]
    return Made(rows, _png)


def few(name: str) -> Made:
    """Emoji and their names → one of 4 categories; 60 rows to learn from, many to test on."""
    rows = _by_category(("Animals & Nature", "Food & Drink", "Objects", "Travel & Places"))
    families = drawn(name, rows, lambda row: row.labels[0], most=65)
    return Made(with_splits(name, families, (12, 3, 50)), _png)


def many_classes(name: str) -> Made:
    """Emoji and their category → which of the 60 largest sub-categories; the text only narrows it down."""
    rows = subgroup_rows(_drawn_emoji())
    largest = [key for key, _ in Counter(row.labels[0] for row in rows).most_common(60)]
    drafts = [
        Draft(
            row.emoji.code,
            (f"an emoji that is one of {row.emoji.category.lower()}",),
            row.labels,
            row.emoji.family,
            split=row.emoji.split,
            picture_fact=row.labels[0],
            text_fact=row.emoji.category,
        )
        for row in rows
        if row.labels[0] in largest
    ]
    return Made(drawn(name, drafts, lambda row: f"{row.split} {row.labels[0]}", most=14), _png)


def small_stream(name: str) -> Made:
    """Pictures and names of 6 sub-categories as tasks, 40 pairs each at most."""
    chosen = (
        "animal-mammal",
        "food-prepared",
        "clothing",
        "transport-ground",
        "household",
        "sport",
    )
    rows = [
        Draft(one.code, (one.name, *one.paraphrases), (), one.code, one.subcategory, task=one.subcategory)
        for one in _drawn_emoji()
        if one.subcategory in chosen
    ]
    return Made(with_splits(name, drawn(name, rows, lambda row: row.task, most=40), (50, 10, 40)), _png)


def some_emoji(name: str, count: int) -> list[Emoji]:
    """Emoji of things, by a hash of the set's name."""
    things = ("Animals & Nature", "Food & Drink", "Objects", "Travel & Places", "Activities")
    emoji = [one for one in _drawn_emoji() if one.category in things]
    return sorted(emoji, key=lambda one: unit_hash(f"{name} {one.code}"))[:count]


def emoji_picture(code: str) -> Image.Image:
    """The picture of one emoji."""
    picture = Image.open(io.BytesIO(_png(code))).convert("RGBA")
    return centred(picture.resize((PIXELS, PIXELS)))


def _by_category(categories: tuple[str, ...]) -> list[Draft]:
    return [
        Draft(one.code, (one.name,), (one.category.lower(),), one.family, one.category)
        for one in _drawn_emoji()
        if one.category in categories
    ]


def _drawn_emoji() -> list[Emoji]:
    return [one for one in all_emoji() if one.code in _pictures()]


def _png(code: str) -> bytes:
    return _pictures()[code]


@cache
def _pictures() -> dict[str, bytes]:
    return openmoji_pictures([one.code for one in all_emoji()])

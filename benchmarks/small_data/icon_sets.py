"""Icon sets by category and by tag, and as streams whose tasks are the categories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

from benchmarks.small_data.drafts import Draft, Made, drawn, with_splits, with_wrong_labels
from benchmarks.small_data.packages import Icon, devicon, font_awesome, iconify, phosphor, tabler
from benchmarks.small_data.pictures import COLOURS, icon
from interplay.data.splits import unit_hash

_SOURCES: dict[str, Callable[[], list[Icon]]] = {
    "streamline": lambda: iconify("streamline-emojis"),
    "ultimate": lambda: iconify("streamline-ultimate-color"),
    "remix": lambda: iconify("ri", "line"),
    "health": lambda: iconify("healthicons"),
    "tabler": tabler,
    "phosphor": phosphor,
    "font awesome": font_awesome,
    "devicon": devicon,
}


def by_category(
    name: str, source: str, most: int = 10_000, least: int = 10, classes: int = 60, wrong: float = 0.0
) -> Made:
    """An icon and its name → its (first) category.

    Args:
        most, least: icons of a category; smaller categories are left out.
        classes: how many of the largest to take.
        wrong: share of wrong labels among those that are learned from.
    """
    rows = [_row(one, (one.name,), one.categories[:1], one.categories[0]) for one in _icons(source)]
    largest = [key for key, _ in Counter(row.labels[0] for row in rows).most_common(classes)]
    rows = [row for row in rows if row.labels[0] in largest]
    rows = with_splits(name, drawn(name, rows, lambda row: row.labels[0], most, least))
    return Made(with_wrong_labels(name, rows, wrong), _draw(source))


def by_terms(name: str, source: str) -> Made:
    """An icon and all the terms that it is searched by, a long text → its first category, of the rare first.

    The category that fewest icons have is taken, so that 'humanitarian', which a quarter of all are too, is not the
    label of most.
    """
    icons = _icons(source)
    size = Counter(category for one in icons for category in one.categories)
    rows = [
        _row(one, (", ".join((one.name, *one.tags)),), (rarest,), rarest)
        for one in icons
        for rarest in [min(one.categories, key=lambda category: (size[category], category))]
    ]
    return Made(
        with_splits(name, drawn(name, rows, lambda row: row.labels[0], most=30, least=10)), _draw(source)
    )


def several_categories(name: str, source: str) -> Made:
    """An icon and its name → all its categories."""
    rows = [_row(one, (one.name,), one.categories, one.categories[0]) for one in _icons(source)]
    return Made(with_splits(name, rows), _draw(source))


def several_tags(name: str, source: str, tags: int, rows: int) -> Made:
    """An icon and its name without the words of its labels → those of the commonest tags that it has."""
    icons = _icons(source)
    common = [tag for tag, _ in Counter(tag for one in icons for tag in one.tags).most_common(tags)]
    found = []
    for one in icons:
        labels = tuple(sorted(set(one.tags) & set(common)))
        left = " ".join(word for word in one.name.split() if word not in common)
        if labels:
            found.append(_row(one, (left or "an icon",), labels, labels[0]))
    found.sort(key=lambda row: unit_hash(f"{name} {row.picture}"))
    return Made(with_splits(name, found[:rows], (24, 6, 70)), _draw(source))


def one_tag_or_other(name: str, source: str, one: str, other: str) -> Made:
    """A logo and its name → which of two tags it has."""
    rows = [
        _row(logo, (logo.name,), tuple({one, other} & set(logo.tags)), "")
        for logo in _icons(source)
        if len({one, other} & set(logo.tags)) == 1
    ]
    return Made(with_splits(name, rows, (50, 10, 40)), _draw(source))


def stream(
    name: str, source: str, tasks: int, most: int, least: int = 12, terms: int = 0, coloured: bool = False
) -> Made:
    """Icons and their names; the largest categories are the tasks.

    Args:
        tasks: how many.
        most, least: icons of a task.
        terms: further captions of each icon, from its tags.
        coloured: a colour for each icon, by a hash, that its name tells too.
    """
    seen: set[str] = set()
    rows = []
    for one in _icons(source):
        if one.name not in seen:
            seen.add(one.name)
            colour = _colour(one.key) if coloured else ""
            text = f"{colour} {one.name}".strip()
            captions = tuple(dict.fromkeys((text, *one.tags[:terms])))
            rows.append(_row(one, captions, (), one.categories[0], task=one.categories[0]))
    largest = [key for key, _ in Counter(row.task for row in rows).most_common(tasks)]
    rows = [row for row in rows if row.task in largest]
    kept = with_splits(name, drawn(name, rows, lambda row: row.task, most, least), (50, 10, 40))
    return Made(kept, _draw(source, coloured))


def _row(one: Icon, texts: Sequence[str], labels: tuple[str, ...], stratum: str, task: str = "") -> Draft:
    return Draft(one.key, tuple(texts), labels, one.name, stratum, task=task)


def _draw(source: str, coloured: bool = False) -> Callable[[str], bytes]:
    def draw(key: str) -> bytes:
        colour = COLOURS[_colour(key)] if coloured else "#1a1a1a"
        return icon(_drawings(source)[key], colour)

    return draw


def _colour(key: str) -> str:
    return tuple(COLOURS)[int(unit_hash(f"colour {key}") * len(COLOURS))]


@cache
def _icons(source: str) -> tuple[Icon, ...]:
    return tuple(_SOURCES[source]())


@cache
def _drawings(source: str) -> dict[str, str]:
    return {one.key: one.svg for one in _icons(source)}

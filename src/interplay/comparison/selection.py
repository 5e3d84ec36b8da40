"""Which cells of a table some words ask for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

from interplay.errors import InterplayError, unknown

Item = TypeVar("Item")


def narrowed(
    items: Iterable[Item], words: Sequence[str], names: Callable[[Item], Sequence[Collection[str]]], what: str
) -> list[Item]:
    """The items that some words ask for; without words, all.

    Words of one sort widen the choice, words of different sorts narrow it: of methods × data, `mitp epic food101` are
    two cells.

    Args:
        names: of an item, sort by sort: what it is called.
        what: the sorts in words, for messages.

    Raises:
        InterplayError: a word that names none of the items, or words that no item has together.
    """
    kept = [(item, names(item)) for item in items]
    sorts = [set().union(*of_all) for of_all in zip(*(called for _, called in kept), strict=True)]
    for word in words:
        if not any(word in known for known in sorts):
            raise unknown(what, word, set().union(*sorts))
    for sort, known in enumerate(sorts):
        if wanted := known & {*words}:
            kept = [(item, called) for item, called in kept if wanted & {*called[sort]}]
    if not kept:
        raise InterplayError(f"No cell is all of: {', '.join(words)}.")
    return [item for item, _ in kept]

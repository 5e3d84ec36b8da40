"""Errors that are written for the person who reads them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

LONGEST = 380
"""Characters of a message: with what the command line writes in front it stays below 400."""
_WORD = 40
"""What is left of a word whose middle is left out."""
_NAMES = 200
"""Characters of a list of the names that are known."""


class InterplayError(Exception):
    """A mistake that the user can mend: one sentence with what was wrong, where, and what to do.

    The command line prints it without a traceback and ends with exit code 2. Of a message that is too long to be read
    the longest words, which are what the user gave, lose their middle.
    """

    def __init__(self, message: str) -> None:
        super().__init__(brief(message))


def brief(text: str, most: int = LONGEST) -> str:
    """A text of at most `most` characters, on one line: its longest words lose their middle, then it does itself."""
    line = " ".join(text.split())
    while len(line) > most:
        word = max(line.split(" "), key=len)
        if len(word) <= _WORD:
            return _without_middle(line, most)
        line = line.replace(word, _without_middle(word, max(_WORD, len(word) - (len(line) - most))))
    return line


def _without_middle(text: str, most: int) -> str:
    kept = most - 1
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


def unknown(kind: str, name: Any, known: Iterable[str]) -> InterplayError:
    """The error for a name that does not exist: names the nearest known one and lists the others."""
    names = sorted(known)
    if not isinstance(name, str):
        return wrong_type(kind, f"one of {listed(names)}", name)
    near = difflib.get_close_matches(name[:100], names, n=1, cutoff=0.4)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return InterplayError(f"There is no {kind} called '{brief(name, 80)}'.{hint} Known: {listed(names)}.")


def listed(names: Sequence[str], most: int = _NAMES) -> str:
    """Names in one line: as many as there is room for, and how many more there are."""
    shown = list(names)
    while len(shown) > 1 and len(", ".join(shown)) > most:
        shown.pop()
    more = f" and {len(names) - len(shown):,} more" if len(shown) < len(names) else ""
    return f"{', '.join(shown) or 'none'}{more}"


def wrong_type(argument: str, takes: str, value: Any) -> InterplayError:
    """The error for an argument of a type that it cannot have.

    Args:
        argument: its name.
        takes: what it takes, in words.
        value: what it got.
    """
    got = "nothing (None)" if value is None else f"something of the type {type(value).__name__}"
    return InterplayError(f"{argument} takes {takes}, not {got}.")


def shortlist(names: Sequence[str]) -> str:
    """Names for a message, the first ten of them."""
    return ", ".join(f"{name:.30}" for name in names[:10]) + (
        f" … ({len(names):,})" if len(names) > 10 else ""
    )


class Diverged(InterplayError):
    """Training came to numbers that are none."""

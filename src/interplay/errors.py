"""Errors that are written for the person who reads them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class InterplayError(Exception):
    """A mistake that the user can mend: one sentence with what was wrong, where, and what to do.

    The command line prints it without a traceback and ends with exit code 2.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> InterplayError:
    """The error for a name that does not exist: names the nearest known one and lists the rest."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return InterplayError(f"There is no {kind} called '{name}'.{hint} Known: {', '.join(names) or 'none'}.")


def wrong_type(argument: str, takes: str, value: Any) -> InterplayError:
    """The error for an argument of a type that it cannot have.

    Args:
        argument: its name.
        takes: what it takes, in words.
        value: what it got.
    """
    got = "nothing (None)" if value is None else f"something of the type {type(value).__name__}"
    return InterplayError(f"{argument} takes {takes}, not {got}.")

"""Pickles of lists, dictionaries, texts and numbers, for published files of which no other form exists."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from interplay.errors import InterplayError


class _Plain(pickle.Unpickler):
    """Reads what Python has words for; whatever a pickle would have to import or call is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Refused.

        Raises:
            UnpicklingError: always.
        """
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_plain(file: Path) -> Any:
    """What a pickle holds, strings of Python 2 as Latin-1; nothing in it is run.

    Raises:
        InterplayError: the file cannot be read, is no pickle, or holds more than plain values.
    """
    try:
        with open(file, "rb") as opened:
            return _Plain(opened, encoding="latin1").load()
    except Exception as problem:  # a damaged pickle raises many kinds
        raise InterplayError(
            f"{file} is no pickle of plain lists, dictionaries, texts and numbers ({problem}). Get it again from its "
            "owners."
        ) from None

"""Settings by name: dataclasses built from plain values, and checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from interplay.errors import InterplayError, unknown
from interplay.typed import fits, in_code, in_words


def make_settings(cls: type[Any], values: Mapping[str, Any], owner: str) -> Any:
    """Build a settings dataclass from plain values; lists become tuples.

    Raises:
        InterplayError: an unknown key (names the nearest), or a value that its field cannot hold.
    """
    hints = get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]
    plain: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise unknown(f"setting of {owner}", key, known)
        value = tuple(value) if isinstance(value, list) else value
        if not fits(value, hints[key]):
            raise InterplayError(
                f"The setting '{key}' of {owner} cannot be {in_code(value)}; it takes {in_words(hints[key])}."
            )
        plain[key] = value
    return cls(**plain)

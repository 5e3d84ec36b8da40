"""Settings of methods, and of all else that is set by name: built from plain values, and checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, get_type_hints

from interplay.errors import InterplayError, unknown
from interplay.ranges import Ranges
from interplay.typed import fits, in_code, in_words


@dataclasses.dataclass(frozen=True)
class MethodSettings:
    """What can be set of a method: a frozen dataclass; contradictions raise `InterplayError` in its `__post_init__`."""

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named settings: `{"mitp-small": {"layers": (7,)}}`."""
    ranges: ClassVar[Ranges] = {}
    """Settings worth searching, and where; combinations that contradict each other are left out by the search."""


@dataclasses.dataclass(frozen=True)
class NoSettings(MethodSettings):
    """A method without settings."""


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

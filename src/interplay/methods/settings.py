"""Settings of methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from interplay.ranges import Ranges


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

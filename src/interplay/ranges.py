"""Where a setting is worth searching: declared beside the settings themselves, read by `interplay.tuning.search`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """One of some values.

    Attributes:
        options: at least two plain values, or tuples of them.
    """

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(set(map(repr, self.options))) < 2 or len(set(map(repr, self.options))) < len(self.options):
            raise ValueError(f"a choice needs two different options or more, not {self.options}")


@dataclass(frozen=True)
class Whole:
    """A whole number.

    Attributes:
        low, high: the smallest and the largest.
        log: whether ratios count, not differences.
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low < 1):
            raise ValueError(f"no range of whole numbers: {self}")


@dataclass(frozen=True)
class Real:
    """A number.

    Attributes:
        low, high: the smallest and the largest.
        log: whether ratios count, not differences.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"no range of numbers: {self}")


Range = Choice | Whole | Real
Ranges = Mapping[str, Range]

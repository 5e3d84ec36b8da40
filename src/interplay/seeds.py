"""What can seed a random number generator: PyTorch, NumPy and Python agree on whole numbers from 0 to 2⁶³ - 1."""

from __future__ import annotations

from typing import Any

from interplay.errors import InterplayError, wrong_type

LARGEST = 2**63 - 1


def check_seed(seed: Any, name: str = "seed") -> None:
    """Refuse a seed that some generator would not take.

    Raises:
        InterplayError: it is no whole number, below 0 or above 2⁶³ - 1.
    """
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise wrong_type(name, "a whole number", seed)
    if not 0 <= seed <= LARGEST:
        raise InterplayError(f"{name} is a whole number from 0 to 2^63 - 1, not {shown(seed)}.")


def shown(number: int) -> str:
    """A whole number as text; of one with too many digits only how many bits it has."""
    return str(number) if number.bit_length() < 200 else f"one of {number.bit_length():,} bits"

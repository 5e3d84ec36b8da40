"""Devices by the names that users give them."""

from __future__ import annotations

import torch

from interplay.errors import InterplayError
from interplay.typed import in_code


def device_of(name: str | torch.device) -> torch.device:
    """A device that is there.

    Args:
        name: as PyTorch spells it: `cpu`, `cuda`, `cuda:1`, `mps`, …

    Raises:
        InterplayError: there is no device of that name, or not on this machine.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError, ValueError):
        raise InterplayError(
            f"There is no device called {in_code(name)}: use cpu, cuda, cuda:1 or mps, for example."
        ) from None
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError):  # what PyTorch's back ends raise where there is none
        raise InterplayError(f"The device '{device}' is not there on this machine: use cpu.") from None
    return device

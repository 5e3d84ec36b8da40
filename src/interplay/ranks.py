"""Which process of a distributed training this is: each of them runs the whole program, and the first one speaks."""

from __future__ import annotations


def rank() -> int:
    """The number of this process, as Lightning counts them; 0 where there is no other."""
    import lightning.fabric.utilities.rank_zero  # noqa: F401  (tells the next one which process this is)
    from lightning_utilities.core.rank_zero import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) or 0


def follows(devices: int) -> bool:
    """Whether this is a further process of a training on several devices, which writes and tells nothing.

    Args:
        devices: of the training.
    """
    return devices > 1 and rank() > 0

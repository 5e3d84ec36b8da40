"""Which process of a training this is, where a launcher started several: each runs the whole program, the first speaks.

Trainings on several devices of one machine need no launcher: there, only the training itself runs in several processes.
"""

from __future__ import annotations

import os


def launched() -> bool:
    """Whether a launcher (`torchrun`, SLURM) has started this process as one of several."""
    return "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def rank() -> int:
    """The number of this process, as Lightning counts them; 0 where there is no other."""
    import lightning.fabric.utilities.rank_zero  # noqa: F401  (tells the next one which process this is)
    from lightning_utilities.core.rank_zero import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) or 0


def follows(processes: int) -> bool:
    """Whether this is a further process of a training in several, which writes and tells nothing.

    Args:
        processes: of the training.
    """
    return processes > 1 and rank() > 0

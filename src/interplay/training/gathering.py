"""The rows of a batch that is spread over several processes, collected in each of them with their gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class _AllRows(torch.autograd.Function):
    """(longest, …) of each of w processes → (w, longest, …) in all of them.

    Every process computes the same loss L from them, so it knows ∂L/∂rows of its own rows without asking the others.
    What the processes then average over their parameters would be 1/w of the gradient of L; so it is taken w times.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        """Collect."""
        parts = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, rows)
        return torch.stack(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """w times the gradient of the own rows."""
        return gradient[torch.distributed.get_rank()] * len(gradient)


def gathered(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """The rows of all processes in their order, (sum of counts, …).

    A loss of them has in every process the value that it has in a single one. The gradient of the parameters is
    that of a single process after it was averaged over the processes, as `DistributedDataParallel` does.

    Args:
        rows: (at least its count, …) of this process; what is beyond its count is left out.
        counts: rows of each process.
    """
    own = rows[: counts[torch.distributed.get_rank()]]
    padding = [0, 0] * (rows.dim() - 1) + [0, max(counts) - len(own)]
    every: Tensor = _AllRows.apply(F.pad(own, padding).contiguous())  # type: ignore[no-untyped-call]
    return torch.cat([part[:count] for part, count in zip(every, counts, strict=True)])

"""What is kept of many vectors instead of them: how many there were, their mean and their scatter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Moments(nn.Module):
    """Of the vectors v of a session: how many there were, their mean m, and the scatter Σ (v − m)(v − m)ᵀ.

    No sample is among them: they are about width² / 2 numbers, however many vectors there were.

    Args:
        width: of the vectors.
    """

    count: Tensor
    mean: Tensor
    triangle: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("triangle", torch.zeros(width * (width + 1) // 2))

    def fit(self, vectors: Float[Tensor, "vectors width"]) -> None:
        """Take the moments of a session's vectors."""
        exact = vectors.detach().cpu().double()
        mean = exact.mean(dim=0)
        apart = exact - mean
        rows, columns = torch.tril_indices(len(mean), len(mean))
        self.count.fill_(len(vectors))
        self.mean.copy_(mean)
        self.triangle.copy_((apart.T @ apart)[rows, columns])

    def centre(self) -> Float[Tensor, " width"]:
        """The mean, in double precision."""
        return self.mean.cpu().double()

    def scatter(self) -> Float[Tensor, "width width"]:
        """The scatter, in double precision."""
        width = len(self.mean)
        rows, columns = torch.tril_indices(width, width)
        lower = torch.zeros(width, width, dtype=torch.float64)
        lower[rows, columns] = self.triangle.cpu().double()
        return lower + lower.tril(-1).T


def pooled(sessions: Sequence[Moments]) -> tuple[int, Float[Tensor, " width"], Float[Tensor, "width width"]]:
    """Number, mean and covariance of the vectors of some sessions, as if they had come at once."""
    counts = [int(one.count) for one in sessions]
    means = [one.centre() for one in sessions]
    count = sum(counts)
    mean = torch.stack([n * m for n, m in zip(counts, means, strict=True)]).sum(0) / count
    between = [n * torch.outer(m - mean, m - mean) for n, m in zip(counts, means, strict=True)]
    within = [one.scatter() for one in sessions]
    return count, mean, torch.stack([a + b for a, b in zip(within, between, strict=True)]).sum(0) / count

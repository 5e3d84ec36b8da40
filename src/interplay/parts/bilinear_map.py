"""Features of a pair that are linear in each of its vectors: products of their principal components."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class BilinearMap(nn.Module):
    """φ(x, t) = [x̂, t̂, c·vec(u ⊗ v)], u = P(x̂ − x̄), v = Q(t̂ − t̄) (symmetric; Tenenbaum & Freeman, 2000).

    A linear map w on φ is the bilinear form x̂ᵀ·(Pᵀ·W·Q)·t̂ of rank at most `rank` with all terms of lower order, where W
    is the part of w that meets u ⊗ v. x̂ and t̂ have length 1, x̄ and t̄ are their means, the rows of P and Q their
    principal directions; c makes the mean squared length of the products 1, so that one penalty serves all blocks.
    Deviation from learned factors (Kim et al., 2017): P and Q see no labels, and W is full. Nothing of it is trained by
    gradient; `fit` fills it.

    Args:
        joint: width of the joint space.
        rank: principal directions of each side, at most `joint`.
    """

    centre: Tensor
    directions: Tensor
    scale: Tensor

    def __init__(self, joint: int, rank: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(2, joint))
        self.register_buffer("directions", torch.eye(joint)[:rank].expand(2, -1, -1).clone())
        self.register_buffer("scale", torch.ones(()))

    def fit(self, image: Float[Tensor, "rows joint"], text: Float[Tensor, "rows joint"]) -> None:
        """Take means, principal directions and scale from the vectors of training pairs, each (N, joint)."""
        image, text = image.to(self.scale.device), text.to(self.scale.device)
        rank = self.directions.shape[1]
        for at, side in enumerate((image, text)):
            vectors = F.normalize(side.double(), dim=-1)
            moved = vectors - (mean := vectors.mean(0))
            self.centre[at] = mean
            self.directions[at] = torch.linalg.eigh(moved.T @ moved).eigenvectors.T.flip(0)[:rank]
        self.scale.fill_(1.0)
        size = self.products(F.normalize(image, dim=-1), F.normalize(text, dim=-1)).square().sum(1).mean()
        self.scale.copy_(size.clamp(min=1e-12) ** -0.5)

    def products(
        self, x: Float[Tensor, "batch joint"], t: Float[Tensor, "batch joint"]
    ) -> Float[Tensor, "batch products"]:
        """c·vec(u ⊗ v) of vectors of length 1."""
        u = (x - self.centre[0]) @ self.directions[0].T
        v = (t - self.centre[1]) @ self.directions[1].T
        return self.scale * (u[:, :, None] * v[:, None, :]).flatten(1)

    def forward(
        self, image: Float[Tensor, "batch joint"], text: Float[Tensor, "batch joint"]
    ) -> Float[Tensor, "batch features"]:
        """Vectors of pairs, each (batch, joint) → φ, (batch, `width`)."""
        x, t = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
        return torch.cat([x, t, self.products(x, t)], dim=-1)

    @staticmethod
    def width(joint: int, rank: int) -> int:
        """How many features there are."""
        return 2 * joint + min(rank, joint) ** 2

"""Features of a pair that are not linear in its vectors: how near it is to each of some landmarks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interplay.parts.features import PairFeatures, blocks_of, feature_width


class KernelMap(nn.Module):
    """φ(v) = P·k(u), k_m(u) = exp(−|u − s_m|² / w), for landmarks s_m (Nyström; Williams & Seeger, 2001).

    u holds the blocks of the pair's features, each moved by its centre and then of length 1 (a product: the product of
    the moved vectors, times √joint). P is K(s, s)^−½, so that a linear map on φ is a kernel machine: exactly with one
    landmark a training pair, and nearly with fewer. Nothing of it is trained by gradient; `fit` fills it.

    Args:
        joint: width of the joint space.
        features: the blocks of the pair that are compared.
        landmarks: how many.
        more: width of a further block that is compared as it is given.
    """

    centre: Tensor
    landmarks: Tensor
    projection: Tensor
    width: Tensor

    def __init__(self, joint: int, features: PairFeatures, landmarks: int, more: int = 0) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("centre", torch.zeros(2, joint))
        self.register_buffer("landmarks", torch.zeros(landmarks, feature_width(joint, features) + more))
        self.register_buffer("projection", torch.eye(landmarks))
        self.register_buffer("width", torch.ones(()))

    def fit(
        self,
        image: Float[Tensor, "rows joint"],
        text: Float[Tensor, "rows joint"],
        sharpness: float,
        more: Tensor | None = None,
    ) -> None:
        """Take centre, landmarks, width and projection from the vectors of at least as many training pairs.

        The centre is the mean of the normalised vectors, the landmarks are pairs drawn with a fixed seed, the width is
        the median squared distance of two landmarks over `sharpness`. Directions of K(s, s) with less than 10⁻⁶ of its
        largest eigenvalue are left out of the projection.
        """
        count = len(self.landmarks)
        rows = torch.randperm(len(image), generator=torch.Generator().manual_seed(0))[:count].sort().values
        self.centre.copy_(torch.stack([F.normalize(side, dim=-1).mean(0) for side in (image, text)]))
        landmarks = self.moved(image[rows], text[rows], None if more is None else more[rows])
        self.landmarks.copy_(landmarks)
        apart = torch.pdist(landmarks) ** 2
        middle = float(apart.median()) if len(apart) else 1.0
        self.width.fill_(max(middle, 1e-6) / sharpness)
        values, vectors = torch.linalg.eigh(self.near(landmarks).double())
        kept = torch.where(values > 1e-6 * values.max(), values.clamp(min=1e-12) ** -0.5, 0.0)
        self.projection.copy_(vectors * kept @ vectors.T)
        assert math.isfinite(float(self.projection.sum()))

    def moved(
        self,
        image: Float[Tensor, "batch joint"],
        text: Float[Tensor, "batch joint"],
        more: Tensor | None = None,
    ) -> Float[Tensor, "batch features"]:
        """The blocks u that are compared with the landmarks, `more` (batch, features) the last of them."""
        x = F.normalize(F.normalize(image, dim=-1) - self.centre[0].to(image), dim=-1)
        t = F.normalize(F.normalize(text, dim=-1) - self.centre[1].to(text), dim=-1)
        blocks = blocks_of(x, t, self.features)
        return blocks if more is None else torch.cat([blocks, more], dim=-1)

    def forward(
        self,
        image: Float[Tensor, "batch joint"],
        text: Float[Tensor, "batch joint"],
        more: Tensor | None = None,
    ) -> Float[Tensor, "batch landmarks"]:
        """Vectors of pairs, each (batch, joint) → φ, (batch, landmarks)."""
        return self.near(self.moved(image, text, more)) @ self.projection.T

    def near(self, u: Float[Tensor, "batch features"]) -> Float[Tensor, "batch landmarks"]:
        """k(u): how near blocks are to the landmarks."""
        apart = (u**2).sum(1, keepdim=True) + (self.landmarks**2).sum(1) - 2 * u @ self.landmarks.T
        return torch.exp(-apart.clamp(min=0) / self.width)

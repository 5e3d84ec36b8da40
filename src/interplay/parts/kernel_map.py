"""Features of a pair that are not linear in its vectors: how near it is to each of some landmarks."""

from __future__ import annotations

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
    """

    centre: Tensor
    landmarks: Tensor
    projection: Tensor
    width: Tensor

    def __init__(self, joint: int, features: PairFeatures, landmarks: int) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("centre", torch.zeros(2, joint))
        self.register_buffer("landmarks", torch.zeros(landmarks, feature_width(joint, features)))
        self.register_buffer("projection", torch.eye(landmarks))
        self.register_buffer("width", torch.ones(()))

    def moved(
        self, image: Float[Tensor, "batch joint"], text: Float[Tensor, "batch joint"]
    ) -> Float[Tensor, "batch features"]:
        """The blocks u that are compared with the landmarks."""
        x = F.normalize(F.normalize(image, dim=-1) - self.centre[0].to(image), dim=-1)
        t = F.normalize(F.normalize(text, dim=-1) - self.centre[1].to(text), dim=-1)
        return blocks_of(x, t, self.features)

    def forward(
        self, image: Float[Tensor, "batch joint"], text: Float[Tensor, "batch joint"]
    ) -> Float[Tensor, "batch landmarks"]:
        """Vectors of pairs, each (batch, joint) → φ, (batch, landmarks)."""
        return self.near(self.moved(image, text)) @ self.projection.T

    def near(self, u: Float[Tensor, "batch features"]) -> Float[Tensor, "batch landmarks"]:
        """k(u): how near blocks are to the landmarks."""
        apart = (u**2).sum(1, keepdim=True) + (self.landmarks**2).sum(1) - 2 * u @ self.landmarks.T
        return torch.exp(-apart.clamp(min=0) / self.width)

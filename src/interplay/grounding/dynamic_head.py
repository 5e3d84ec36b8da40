"""The dynamic head (Dai et al., CVPR 2021) as GLIP has it: levels that look at their neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from interplay.grounding.deformable import TAPS, deformable, flat_prefix

COARSER, SELF, FINER = range(3)
"""Which of a block's three convolutions reads what."""


def hard_sigmoid(x: Tensor) -> Tensor:
    """relu6(x + 3) / 6."""
    return F.relu6(x + 3) / 6


class DynamicReLU(nn.Module):
    """The larger of two linear functions of each channel, whose numbers come from the map's mean (Chen et al., 2020).

    max(2·a₁·y + b₁ − ½, (2·a₂ − 1)·y + b₂ − ½), (a₁, b₁, a₂, b₂) = hard sigmoid(W₂·relu(W₁·mean(y))).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // 4)
        self.fc2 = nn.Linear(channels // 4, 4 * channels)

    def forward(self, y: Tensor) -> Tensor:
        """(batch, channels, height, width) → the same."""
        found = hard_sigmoid(self.fc2(F.relu(self.fc1(y.mean(dim=(2, 3))))))
        a1, b1, a2, b2 = (part[:, :, None, None] for part in found.chunk(4, dim=1))
        return torch.maximum(2 * a1 * y + (b1 - 0.5), (2 * a2 - 1) * y + (b2 - 0.5))


class Deformed(nn.Module):
    """A deformable convolution whose offsets come from elsewhere, and the norm after it."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)  # its weights; they are read by `deformable`
        self.norm = nn.GroupNorm(16, channels)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """(batch, channels, …) → (batch, channels, height and width of the offsets)."""
        assert self.conv.bias is not None
        found: Tensor = self.norm(deformable(x, offset, mask, self.conv.weight, self.conv.bias, self.stride))
        return found


class DynamicBlock(nn.Module):
    """Every level becomes a weighted mean of itself and its neighbours, all seen through its own offsets.

    The coarser neighbour is seen through the flat prefix of the level's offsets, as the published weights were trained
    (`flat_prefix`), and then enlarged. All levels read what came into the block.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Deformed(channels, stride) for stride in (1, 1, 2))
        self.offset = nn.Conv2d(channels, 3 * TAPS, 3, padding=1)
        self.attention = nn.Conv2d(channels, 1, 1)
        self.relu = DynamicReLU(channels)

    def _level(self, finer: Tensor | None, x: Tensor, coarser: Tensor | None) -> Tensor:
        offset, mask = self.offset(x).split((2 * TAPS, TAPS), dim=1)
        mask = mask.sigmoid()
        seen: list[Tensor] = [self.convs[SELF](x, offset, mask)]
        if finer is not None:
            seen.append(self.convs[FINER](finer, offset, mask))
        if coarser is not None:
            prefix = (flat_prefix(part, *coarser.shape[2:]) for part in (offset, mask))
            small = self.convs[COARSER](coarser, *prefix)
            seen.append(F.interpolate(small, size=x.shape[2:], mode="bilinear", align_corners=True))
        weighted = [part * self._weight(part) for part in seen]
        found: Tensor = self.relu(torch.stack(weighted).mean(dim=0))
        return found

    def _weight(self, x: Tensor) -> Tensor:
        """How much a map counts, (batch, 1, 1, 1)."""
        return hard_sigmoid(F.relu(self.attention(x.mean(dim=(2, 3), keepdim=True))))

    def forward(self, *levels: Tensor) -> list[Tensor]:
        """Levels (batch, channels, height, width), the finest first → the same."""
        padded = [None, *levels, None]
        return [self._level(padded[at], level, padded[at + 2]) for at, level in enumerate(levels)]


class DynamicHead(nn.Module):
    """Some blocks, one after the other.

    Args:
        channels: of every level.
        blocks: how many.
        recompute: whether a backward pass computes each block again instead of keeping what it saw: for GLIP-T at
            448 × 448 that is about 0.7 GB less for each picture, at a third more operations.
    """

    def __init__(self, channels: int, blocks: int, *, recompute: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DynamicBlock(channels) for _ in range(blocks))
        self.recompute = recompute

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (batch, channels, height, width), the finest first → the same."""
        found = list(levels)
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                found = checkpoint(block, *found, use_reentrant=False)
            else:
                found = block(*found)
        return found

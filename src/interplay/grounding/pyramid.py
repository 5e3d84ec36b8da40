"""GLIP's feature pyramid (Lin et al., CVPR 2017): maps of a tower's stages as five levels of the same width."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class Pyramid(nn.Module):
    """Levels 3 to 7 from the maps of the last three stages; without norms, and linear but for the last level.

    Deviation: the released code drops blocks of the merged maps while it trains prompts; a frozen part stays as it is.

    Args:
        inputs: channels of the three maps, the finest first.
        channels: of every level.
    """

    def __init__(self, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        self.inner = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in inputs)
        self.layers = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in inputs)
        self.p6 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (batch, inputs, height, width), the finest first → levels (batch, channels, …), the finest first."""
        merged: Tensor = self.inner[-1](maps[-1])
        levels: list[Tensor] = [self.layers[-1](merged)]
        for inner, layer, finer in zip(self.inner[-2::-1], self.layers[-2::-1], maps[-2::-1], strict=True):
            lateral: Tensor = inner(finer)
            merged = lateral + F.interpolate(merged, size=lateral.shape[2:], mode="nearest")
            levels.insert(0, layer(merged))
        levels.append(self.p6(levels[-1]))
        levels.append(self.p7(F.relu(levels[-1])))
        return levels

"""Convolutions that say for every place where they look (deformable convolution v2; Zhu et al., CVPR 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

TAPS = 9
"""Of a 3 × 3 kernel, row by row."""


def deformable(
    x: Float[Tensor, "batch channels height_in width_in"],
    offset: Float[Tensor, "batch 18 height width"],
    mask: Float[Tensor, "batch 9 height width"],
    weight: Float[Tensor, "out channels 3 3"],
    bias: Float[Tensor, " out"],
    stride: int = 1,
) -> Float[Tensor, "batch out height width"]:
    """A 3 × 3 convolution with padding 1 whose taps are moved and weighted; what lies outside the map is 0.

    y[o, p] = b[o] + Σ_k Σ_c w[o, c, k] · m[k, p] · x[c, stride·p + k − 1 + Δ[k, p]], bilinear between places.

    In plain PyTorch, since `torchvision` has no matching build everywhere and refuses offsets of another size.

    Args:
        offset: Δ; for tap k channel 2·k says how far down, 2·k + 1 how far to the right.
        mask: m.
    """
    batch, channels, height_in, width_in = x.shape
    height, width = offset.shape[2:]
    taps = torch.arange(TAPS, device=x.device)
    moved = offset.view(batch, TAPS, 2, height, width)
    down = torch.arange(height, device=x.device)[:, None] * stride - 1
    right = torch.arange(width, device=x.device)[None, :] * stride - 1
    y = moved[:, :, 0] + (taps // 3)[:, None, None] + down
    across = moved[:, :, 1] + (taps % 3)[:, None, None] + right
    grid = torch.stack([(2 * across + 1) / width_in - 1, (2 * y + 1) / height_in - 1], dim=-1)
    seen = F.grid_sample(x, grid.flatten(1, 2).to(x.dtype), padding_mode="zeros", align_corners=False)
    columns = seen.view(batch, channels, TAPS, height, width) * mask[:, None]
    out = weight.flatten(1) @ columns.reshape(batch, channels * TAPS, height * width)
    return out.view(batch, -1, height, width) + bias[:, None, None]


def flat_prefix(x: Float[Tensor, "batch channels height width"], height: int, width: int) -> Tensor:
    """The first numbers of each sample as a smaller map with as many channels, (batch, channels, height, width).

    GLIP's coarser branch hands its convolution offsets of a larger map than it has; the released CUDA kernel checks no
    sizes and reads them as if they had its own, and the published weights were trained so.
    """
    return x.flatten(1)[:, : x.shape[1] * height * width].view(len(x), -1, height, width)

"""Low-rank tensors: prompts of both modalities that share a factor, and maps between modalities (LPI §4.1, §4.3)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interplay.towers.tokens import Shape, Side


def factor(rows: int, rank: int, deviation: float | None) -> nn.Parameter:
    """A factor (rows, rank), N(0, deviation²); without a deviation U(±1/√rank), a linear layer's start in PyTorch."""
    if deviation is None:
        return nn.Parameter((2 * torch.rand(rows, rank) - 1) * rank**-0.5)
    return nn.Parameter(torch.randn(rows, rank) * deviation)


class LowRankPrompts(nn.Module):
    """P[i, j, k] = mean over r of D1[i, r]·D2[j, r]·D3[k, r] for each modality; both share D1 (LPI eq. 3).

    Args:
        shape: geometry of the towers; the prompts are as wide as their tower.
        depth: prompted layers D.
        length: prompt tokens L of each modality.
        rank: r.
        deviation: of the normal distribution that all factors start from.
    """

    def __init__(self, shape: Shape, depth: int, length: int, rank: int, deviation: float) -> None:
        super().__init__()
        self.layers = factor(depth, rank, deviation)
        self.image_tokens = factor(length, rank, deviation)
        self.image_channels = factor(shape.image.width, rank, deviation)
        self.text_tokens = factor(length, rank, deviation)
        self.text_channels = factor(shape.text.width, rank, deviation)

    def forward(self, side: Side) -> Float[Tensor, "layers length width"]:
        """The prompts of all layers of one side."""
        tokens = self.image_tokens if side == "image" else self.text_tokens
        channels = self.image_channels if side == "image" else self.text_channels
        weighted = self.layers[:, None] * tokens[None] / tokens.shape[1]
        product = weighted.flatten(0, 1) @ channels.T
        return product.view(*weighted.shape[:2], -1)

    @staticmethod
    def parameter_count(shape: Shape, depth: int, length: int, rank: int) -> int:
        """r·(D + 2·L + d_v + d_l)."""
        return rank * (depth + 2 * length + shape.image.width + shape.text.width)


class FullPrompts(nn.Module):
    """The same prompts without a decomposition ("common prompting", LPI Table 3): free tensors, N(0, 0.02²).

    Args:
        shape, depth, length: as `LowRankPrompts`.
    """

    def __init__(self, shape: Shape, depth: int, length: int) -> None:
        super().__init__()
        self.image = nn.Parameter(torch.randn(depth, length, shape.image.width) * 0.02)
        self.text = nn.Parameter(torch.randn(depth, length, shape.text.width) * 0.02)

    def forward(self, side: Side) -> Float[Tensor, "layers length width"]:
        """The prompts of all layers of one side."""
        return self.image if side == "image" else self.text

    @staticmethod
    def parameter_count(shape: Shape, depth: int, length: int) -> int:
        """D·L·(d_v + d_l)."""
        return depth * length * (shape.image.width + shape.text.width)


class LowRankMaps(nn.Module):
    """One affine map a layer, all of them one low-rank tensor (layers)×(d_in + 1)×(d_out) (LPI §4.3).

    W[i, a, b] = mean over r of D1[i, r]·D2[a, r]·D3[b, r]; row a = d_in is the bias. The product is never written
    out: y[b] = mean_r D1[i, r]·(Σ_a x[a]·D2[a, r] + D2[d_in, r])·D3[b, r].

    Args:
        layers: how many maps.
        inputs, outputs: widths.
        rank: r.
        deviation: as `factor`.
    """

    def __init__(self, layers: int, inputs: int, outputs: int, rank: int, deviation: float | None) -> None:
        super().__init__()
        self.layers = factor(layers, rank, deviation)
        self.inputs = factor(inputs + 1, rank, deviation)
        self.outputs = factor(outputs, rank, deviation)

    def forward(self, i: int, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Map `i` (from 0) on (…, inputs)."""
        inner = x @ self.inputs[:-1] + self.inputs[-1]
        return (inner * self.layers[i] / self.layers.shape[1]) @ self.outputs.T

    @staticmethod
    def parameter_count(layers: int, inputs: int, outputs: int, rank: int) -> int:
        """r·(layers + d_in + 1 + d_out)."""
        return rank * (layers + inputs + 1 + outputs)

"""What GLIP reads off its levels: for every place the box, how central it is, and how much it is each token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CLASSES = 80  # of Objects365's detection head, which nothing here reads
_LIMIT = 50_000.0


@dataclass(frozen=True)
class Found:
    """What a detector says of every anchor, level by level and row by row.

    Attributes:
        deltas: (batch, anchors, 4): how the anchor becomes a box (`decoded`).
        centred: (batch, anchors): the logit of how central the anchor is in its box.
        logits: (batch, anchors, tokens): of the box being what a token names.
        sizes: (height, width) of every level.
    """

    deltas: Tensor
    centred: Tensor
    logits: Tensor
    sizes: tuple[tuple[int, int], ...]


class TokenHead(nn.Module):
    """Linear maps of every place; a place and a token are compared by their product.

    logit(a, t) = ⟨v_a, W·ê_t / 2 + b⟩ / exp(log_scale) + ⟨ê_t, bias⟩ + bias₀ with ê the token's vector of length 1.

    Args:
        channels: of every level.
        text_width: of a token's vector.
        levels: how many.
    """

    def __init__(self, channels: int, text_width: int, levels: int = 5) -> None:
        super().__init__()
        self.boxes = nn.Conv2d(channels, 4, 1)
        self.centred = nn.Conv2d(channels, 1, 1)
        self.classes = nn.Conv2d(channels, _CLASSES, 1)  # in the checkpoint; read by nothing
        self.text = nn.Linear(text_width, channels)
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.text_bias = nn.Parameter(torch.zeros(text_width))
        self.bias = nn.Parameter(torch.full((1,), -math.log(99)))
        self.scales = nn.Parameter(torch.ones(levels))

    def forward(self, levels: Sequence[Tensor], words: Tensor) -> Found:
        """Levels (batch, channels, height, width) and tokens (batch, tokens, text width), zero where padded."""
        deltas = [self.boxes(level) * scale for level, scale in zip(levels, self.scales, strict=True)]
        centred = [self.centred(level) for level in levels]
        places, moves, middles = (
            torch.cat([part.flatten(2) for part in parts], dim=2).transpose(1, 2)
            for parts in (levels, deltas, centred)
        )
        unit = F.normalize(words, dim=-1)
        tokens = self.text(unit / 2)
        logits = places @ tokens.transpose(1, 2) / self.log_scale.exp()
        logits = logits + (unit @ self.text_bias + self.bias)[:, None]
        sizes = tuple((level.shape[2], level.shape[3]) for level in levels)
        return Found(moves, middles[..., 0], logits.clamp(-_LIMIT, _LIMIT), sizes)

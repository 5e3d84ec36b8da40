"""Anchors, one a place, and how they become boxes: right and bottom are pixels of a box here, as in GLIP."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

STRIDES = (8, 16, 32, 64, 128)
"""Pixels between neighbouring places of each level; an anchor is 8 times as wide."""
_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
_LARGEST = math.log(1000 / 16)


def anchors_of(
    sizes: Sequence[tuple[int, int]], strides: Sequence[int] = STRIDES, device: torch.device | None = None
) -> Float[Tensor, "anchors 4"]:
    """The anchor of every place, level by level and row by row.

    At row y and column x of a level with stride s: [xs − 3.5·s, ys − 3.5·s, xs + 4.5·s − 1, ys + 4.5·s − 1].

    Args:
        sizes: (height, width) of every level.
    """
    found = []
    for (height, width), stride in zip(sizes, strides, strict=True):
        y, x = torch.meshgrid(
            torch.arange(height, device=device) * stride,
            torch.arange(width, device=device) * stride,
            indexing="ij",
        )
        corner = torch.stack([x, y], dim=-1).flatten(0, 1).float()
        found.append(torch.cat([corner - 3.5 * stride, corner + 4.5 * stride - 1], dim=1))
    return torch.cat(found)


def _centred(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Middles and edges, (…, 2) each."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2] + 1


def encoded(boxes: Float[Tensor, "*rows 4"], anchors: Float[Tensor, "*rows 4"]) -> Float[Tensor, "*rows 4"]:
    """How anchors become boxes: 10·(shift in the anchor's edges) and 5·log(growth), of x and y each."""
    middle, edges = _centred(boxes)
    from_middle, from_edges = _centred(anchors)
    moved = torch.cat([(middle - from_middle) / from_edges, (edges / from_edges).log()], dim=-1)
    return moved * moved.new_tensor(_WEIGHTS)


def decoded(deltas: Float[Tensor, "*rows 4"], anchors: Float[Tensor, "*rows 4"]) -> Float[Tensor, "*rows 4"]:
    """The boxes that anchors become; none grows more than 62.5-fold."""
    moved = deltas / deltas.new_tensor(_WEIGHTS)
    from_middle, from_edges = _centred(anchors)
    middle = moved[..., :2] * from_edges + from_middle
    half = (moved[..., 2:].clamp(max=_LARGEST).exp() * from_edges - 1) / 2
    return torch.cat([middle - half, middle + half], dim=-1)

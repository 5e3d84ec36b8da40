"""Which anchors a true box belongs to (adaptive training sample selection, ATSS; Zhang et al., CVPR 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interplay.metrics.boxes import iou

CANDIDATES = 9
"""Anchors a level that a box considers."""
_INSIDE = 0.01
NONE = -1
"""The number of the box of an anchor that belongs to none."""


def assigned(
    anchors: Float[Tensor, "anchors 4"], counts: Sequence[int], boxes: Float[Tensor, "boxes 4"]
) -> Int[Tensor, " anchors"]:
    """The box that each anchor belongs to, or −1.

    A box considers the 9 anchors of each level whose middles are nearest to its own (all of a smaller level; of equally
    near ones the first). It takes those whose overlap is at least mean + standard deviation of all that it considers,
    and whose middle lies inside it. An anchor that several boxes take belongs to the one that it overlaps most. A box
    may end up with none.

    Args:
        counts: anchors of each level.
        boxes: [left, top, right, bottom], the last two included; there may be none.
    """
    found = anchors.new_full((len(anchors),), NONE, dtype=torch.long)
    if not len(boxes):
        return found
    overlaps = iou(anchors, boxes, inclusive=True)
    middles = (anchors[:, :2] + anchors[:, 2:]) / 2
    distances = (middles[:, None] - ((boxes[:, :2] + boxes[:, 2:]) / 2)[None]).pow(2).sum(dim=-1).sqrt()
    nearest, first = [], 0
    for count in counts:
        order = distances[first : first + count].argsort(dim=0, stable=True)
        nearest.append(order[:CANDIDATES] + first)
        first += count
    considered = torch.cat(nearest)  # (candidates, boxes)
    theirs = overlaps.gather(0, considered)
    inside = torch.cat([middles[considered] - boxes[:, :2], boxes[:, 2:] - middles[considered]], dim=-1).amin(
        dim=-1
    )
    taken = (theirs >= theirs.mean(dim=0) + theirs.std(dim=0)) & (inside > _INSIDE)
    best = torch.full_like(overlaps, -1.0)
    best.scatter_(0, considered, torch.where(taken, theirs, best.new_tensor(-1.0)))
    overlap, box = best.max(dim=1)
    return torch.where(overlap >= 0, box, found)

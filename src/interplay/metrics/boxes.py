"""Boxes in pictures, [left, top, right, bottom]: how much they overlap, and how often a phrase's box is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Overlap = Literal["iou", "giou"]
"""Intersection over union; or that minus what of the enclosing box neither fills (Rezatofighi et al., CVPR 2019)."""


def areas(boxes: Float[Tensor, "*rows 4"], *, inclusive: bool = False) -> Float[Tensor, "*rows"]:
    """Width × height.

    Args:
        inclusive: whether right and bottom are pixels of the box, so that it is 1 wider and 1 taller.
    """
    return (boxes[..., 2] - boxes[..., 0] + inclusive) * (boxes[..., 3] - boxes[..., 1] + inclusive)


def _shared(one: Tensor, other: Tensor, inclusive: bool) -> Tensor:
    low = torch.maximum(one[..., :2], other[..., :2])
    high = torch.minimum(one[..., 2:], other[..., 2:])
    shared: Tensor = (high - low + inclusive).clamp(min=0).prod(dim=-1)
    return shared


def iou(
    one: Float[Tensor, "rows 4"], other: Float[Tensor, "others 4"], *, inclusive: bool = False
) -> Float[Tensor, "rows others"]:
    """Intersection over union of all pairs; 0 where both boxes are empty.

    Args:
        inclusive: as for `areas`.
    """
    shared = _shared(one[:, None], other[None], inclusive)
    union = areas(one, inclusive=inclusive)[:, None] + areas(other, inclusive=inclusive)[None] - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(shared))


def giou(one: Float[Tensor, "rows 4"], other: Float[Tensor, "others 4"]) -> Float[Tensor, "rows others"]:
    """Generalised intersection over union of all pairs, in (−1, 1]; the same as `iou` where nothing is enclosed."""
    shared = _shared(one[:, None], other[None], inclusive=False)
    union = areas(one)[:, None] + areas(other)[None] - shared
    low = torch.minimum(one[:, None, :2], other[None, :, :2])
    high = torch.maximum(one[:, None, 2:], other[None, :, 2:])
    hull = (high - low).prod(dim=-1)
    ratio = torch.where(union > 0, shared / union, torch.zeros_like(shared))
    return ratio - torch.where(hull > 0, (hull - union) / hull, torch.zeros_like(hull))


def first_hit(
    boxes: Float[Tensor, "boxes 4"],
    scores: Float[Tensor, " boxes"],
    truth: Float[Tensor, "truths 4"],
    *,
    overlap: Overlap = "iou",
    threshold: float = 0.5,
) -> int | None:
    """The rank (from 1) of the best box that is a hit; None: there is none.

    A box is a hit if its overlap with one of the true boxes is at least the threshold. Boxes of equal scores count
    against the hit: those that are none come first.

    Args:
        boxes, scores: what was predicted, in any order.
        truth: what the phrase names.
    """
    if not len(boxes) or not len(truth):
        return None
    measure = iou if overlap == "iou" else giou
    hits = (measure(boxes.double(), truth.double()) >= threshold).any(dim=1)
    if not hits.any():
        return None
    best = scores[hits].max()
    return int((scores > best).sum() + ((scores == best) & ~hits).sum()) + 1


def box_recall(
    predictions: Sequence[tuple[Tensor, Tensor]],
    truths: Sequence[Tensor],
    *,
    at: Sequence[int] = (1, 5, 10),
    overlap: Overlap = "iou",
    threshold: float = 0.5,
) -> Mapping[int, float]:
    """R@k: the share of phrases one of whose k best boxes is a hit (`first_hit`); no box is a miss.

    LPI's released evaluation asks for GIoU ≥ 0.5, most others for IoU ≥ 0.5.

    Args:
        predictions: for each phrase its boxes (boxes, 4) and their scores (boxes,).
        truths: for each phrase its true boxes (truths, 4), in the same unit.
        at: the numbers k.

    Raises:
        ValueError: as many predictions as truths are needed, and at least one.
    """
    if len(predictions) != len(truths) or not truths:
        raise ValueError(f"{len(predictions)} predictions for {len(truths)} phrases")
    ranks = [
        first_hit(boxes, scores, truth, overlap=overlap, threshold=threshold)
        for (boxes, scores), truth in zip(predictions, truths, strict=True)
    ]
    return {k: sum(rank is not None and rank <= k for rank in ranks) / len(ranks) for k in at}

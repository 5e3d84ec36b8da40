"""From what a detector says of its anchors to a few boxes with scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interplay.grounding.anchors import STRIDES, anchors_of, decoded
from interplay.grounding.token_head import Found
from interplay.metrics.boxes import iou


@dataclass(frozen=True)
class Boxes:
    """What was found of one phrase in one picture, the best first.

    Attributes:
        boxes: (found, 4), [left, top, right, bottom] in pixels.
        scores: (found,) in [0, 1].
    """

    boxes: Tensor
    scores: Tensor

    def scaled(self, across: float, down: float) -> Boxes:
        """The boxes in a picture of another size."""
        return Boxes(self.boxes * self.boxes.new_tensor([across, down, across, down]), self.scores)


@dataclass(frozen=True)
class Choice:
    """How boxes are chosen.

    Attributes:
        least: what a score has to exceed before it is multiplied by how central the anchor is.
        a_level: how many of a level are kept, the best.
        overlap: from which overlap (IoU) on a box is dropped beside a better one.
        most: how many are kept in the end.
    """

    least: float = 0.05
    a_level: int = 1000
    overlap: float = 0.6
    most: int = 100


def survivors(
    boxes: Float[Tensor, "boxes 4"], scores: Float[Tensor, " boxes"], overlap: float, most: int
) -> Int[Tensor, " kept"]:
    """The boxes that overlap no better one by more than `overlap`, the best first, at most `most` (greedy NMS).

    Of equal scores the first is the better one. Right and bottom are pixels of a box.
    """
    order = scores.argsort(descending=True, stable=True)
    kept: list[Tensor] = []
    while len(order) and len(kept) < most:
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[iou(boxes[best][None], boxes[order], inclusive=True)[0] <= overlap]
    return torch.stack(kept) if kept else order


def chosen(
    found: Found,
    named: Bool[Tensor, "batch tokens"],
    size: tuple[int, int],
    choice: Choice | None = None,
    strides: Sequence[int] = STRIDES,
) -> list[Boxes]:
    """The best boxes of each sample, in pixels of what the detector read.

    An anchor's score is √(p·c): p the mean over the phrase's naming tokens of their probabilities, c how central.

    Args:
        named: the tokens that name what is looked for (`positive_tokens`).
        size: (height, width) of the pictures that the detector read.
        choice: by default GLIP's.
    """
    choice = choice or Choice()
    anchors = anchors_of(found.sizes, strides, found.logits.device)
    tokens = named.float()[:, None]
    by_token = found.logits.float().sigmoid() * tokens
    scores = by_token.sum(dim=2) / tokens.sum(dim=2).clamp(min=1)
    central = scores * found.centred.float().sigmoid()
    counts = [height * width for height, width in found.sizes]
    edges = anchors.new_tensor([size[1], size[0], size[1], size[0]]) - 1
    results = []
    for sample in range(len(scores)):
        kept, first = [], 0
        for count in counts:
            at = (scores[sample, first : first + count] > choice.least).nonzero()[:, 0] + first
            order = central[sample, at].argsort(descending=True, stable=True)[: choice.a_level]
            kept.append(at[order])
            first += count
        rows = torch.cat(kept)
        boxes = decoded(found.deltas[sample, rows].float(), anchors[rows])
        boxes = torch.minimum(boxes.clamp(min=0), edges)
        score = central[sample, rows].sqrt()
        best = survivors(boxes, score, choice.overlap, choice.most)
        results.append(Boxes(boxes[best], score[best]))
    return results

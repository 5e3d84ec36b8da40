"""What a detector is trained by: tokens, boxes and how central an anchor is (GLIP; its detector is ATSS's)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from interplay.grounding.anchors import STRIDES, anchors_of, decoded
from interplay.grounding.assign import NONE, assigned
from interplay.grounding.token_head import Found

ALPHA, GAMMA = 0.25, 2.0
BOX_WEIGHT = 2.0
_TINY = 1e-7
NO_OBJECT = 255
"""The token that an anchor without a box names; only a text of 256 tokens has it."""


@dataclass(frozen=True)
class Losses:
    """Three scalars; their sum is what is minimised."""

    tokens: Tensor
    boxes: Tensor
    centred: Tensor

    @property
    def total(self) -> Tensor:
        """tokens + boxes + centred."""
        return self.tokens + self.boxes + self.centred


def focal(logits: Float[Tensor, "*rows"], targets: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
    """Sigmoid focal loss, one number each: α_t·(1 − p_t)^γ·(−log p_t), α = 0.25, γ = 2 (Lin et al., ICCV 2017)."""
    p = logits.sigmoid()
    right = p * targets + (1 - p) * (1 - targets)
    weight = ALPHA * targets + (1 - ALPHA) * (1 - targets)
    return (
        weight * (1 - right) ** GAMMA * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    )


def giou_loss(boxes: Float[Tensor, "rows 4"], truth: Float[Tensor, "rows 4"]) -> Float[Tensor, " rows"]:
    """1 − GIoU of each box and its truth; a box whose right stands left of its left has no width."""
    boxes = torch.cat([boxes[:, :2], torch.maximum(boxes[:, :2], boxes[:, 2:])], dim=1)
    edges = torch.minimum(boxes[:, 2:], truth[:, 2:]) - torch.maximum(boxes[:, :2], truth[:, :2])
    shared = edges.clamp(min=0).prod(dim=1)
    hull = (torch.maximum(boxes[:, 2:], truth[:, 2:]) - torch.minimum(boxes[:, :2], truth[:, :2])).prod(dim=1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) + (truth[:, 2:] - truth[:, :2]).prod(dim=1) - shared
    hull, union = hull + _TINY, union + _TINY
    return 1 - shared / union + (hull - union) / hull


def centredness(anchors: Float[Tensor, "rows 4"], truth: Float[Tensor, "rows 4"]) -> Float[Tensor, " rows"]:
    """sqrt(min(l, r) / max(l, r) · min(t, b) / max(t, b)) of the distances from an anchor's middle to the edges."""
    middle = (anchors[:, :2] + anchors[:, 2:]) / 2
    low, high = middle - truth[:, :2], truth[:, 2:] - middle
    return (torch.minimum(low, high) / torch.maximum(low, high)).prod(dim=1).clamp(min=0).sqrt()


def detector_losses(
    found: Found,
    boxes: Sequence[Float[Tensor, "boxes 4"]],
    named: Sequence[Bool[Tensor, "boxes tokens"]],
    real: Bool[Tensor, "batch tokens"],
    strides: Sequence[int] = STRIDES,
) -> Losses:
    """The losses of a batch, in fp32.

    Tokens: focal loss over all anchors and all tokens that are no padding, by the number of anchors with a box. Boxes:
    2·Σ c·(1 − GIoU) / Σ c over those anchors, c their `centredness`. Centred: binary cross-entropy towards c. The class
    loss of the released code is multiplied by 0 and left out; the number of anchors is that of this process alone.

    Args:
        boxes: of each sample, [left, top, right, bottom] in pixels, the last two included.
        named: which tokens name each box (`positive_tokens`).
        real: tokens that are no padding.
    """
    anchors = anchors_of(found.sizes, strides, found.logits.device)
    counts = [height * width for height, width in found.sizes]
    owners = torch.stack([assigned(anchors, counts, each.to(anchors)) for each in boxes])
    rows, at = (owners != NONE).nonzero(as_tuple=True)
    targets = _token_targets(found.logits, owners, named)
    count = max(len(rows), 1)
    by_token = focal(found.logits.float(), targets)
    tokens = by_token.masked_fill(~real[:, None], 0).sum() / count
    if not len(rows):
        none = found.deltas.float().sum() * 0
        return Losses(tokens, none, found.centred.float().sum() * 0)
    firsts = torch.tensor([0, *(len(each) for each in boxes)], device=rows.device).cumsum(0)
    truth = torch.cat([each.to(anchors) for each in boxes])[firsts[rows] + owners[rows, at]]
    central = centredness(anchors[at], truth)
    off = giou_loss(decoded(found.deltas[rows, at].float(), anchors[at]), truth)
    box = BOX_WEIGHT * (off * central).sum() / central.sum()
    middle = F.binary_cross_entropy_with_logits(found.centred[rows, at].float(), central, reduction="sum")
    return Losses(tokens, box, middle / count)


def _token_targets(logits: Tensor, owners: Tensor, named: Sequence[Tensor]) -> Tensor:
    """(batch, anchors, tokens): 1 where a token names the anchor's box."""
    targets = torch.zeros_like(logits, dtype=torch.float32)
    if targets.shape[2] > NO_OBJECT:
        targets[..., NO_OBJECT] = (owners == NONE).float()
    for sample, tokens in enumerate(named):
        own = owners[sample] != NONE
        if own.any():
            targets[sample, own] = tokens.to(targets)[owners[sample, own]]
    return targets

"""Features of a pair from its two vectors, for heads and for methods that fuse them."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

PairFeatures = Literal["image", "text", "concat", "sum", "product", "pair"]


def pair_features(
    image: Float[Tensor, "batch joint"], text: Float[Tensor, "batch joint"], kind: PairFeatures
) -> Float[Tensor, "batch features"]:
    """Features of a pair from its two vectors, each normalised to length 1 first.

    `concat` is [x, t], `sum` is x + t, `product` is x∘t, `pair` is [x, t, x∘t·√joint]: the product's entries are
    smaller than those of x and t by about √joint, and one learning rate and one penalty serve all three.

    Args:
        image, text: (batch, joint).

    Returns:
        (batch, features).
    """
    return blocks_of(F.normalize(image, dim=-1), F.normalize(text, dim=-1), kind)


def blocks_of(
    x: Float[Tensor, "batch joint"], t: Float[Tensor, "batch joint"], kind: PairFeatures
) -> Float[Tensor, "batch features"]:
    """`pair_features` of two vectors that are of length 1 already."""
    product = x * t * math.sqrt(x.shape[-1])
    match kind:
        case "image":
            return x
        case "text":
            return t
        case "concat":
            return torch.cat([x, t], dim=-1)
        case "sum":
            return x + t
        case "product":
            return product
        case "pair":
            return torch.cat([x, t, product], dim=-1)


def feature_width(joint: int, kind: PairFeatures) -> int:
    """How many features `pair_features` gives for a joint space of width `joint`."""
    return joint * {"concat": 2, "pair": 3}.get(kind, 1)

"""How alike two sets of prompt tokens are: the similarities of the memory hub (MITP §3.4 and §5.3)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SimilarityType = Literal["cosine", "mmd", "cov-pearson"]
SimilarityShape = Literal["token", "pair", "channel"]
Prompt = Float[Tensor, "batch tokens width"]
Compared = Float[Tensor, "batch *compared"]
"""(batch, tokens), (batch, tokens, tokens) or (batch, width), by `SimilarityShape`."""

_BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
_SMALL = 1e-6


def similarity(
    a: Prompt, b: Prompt, kind: SimilarityType, shape: SimilarityShape, *, cross: bool
) -> Compared:
    """sim(a, b) of MITP eq. 4.

    Args:
        a, b: (batch, tokens, width), one token of `a` beside one of `b`.
        kind: `cosine`; `mmd`, as 1 − MMD²/2 under a mixture of Gaussian kernels, so that alike is large;
            `cov-pearson`, covariance inside a modality and Pearson's correlation across.
        shape: `token` compares token i of `a` with token i of `b`: (batch, tokens). `pair` compares every
            token of `a` with every one of `b`: (batch, tokens, tokens). `channel` compares channel c of `a`
            with channel c of `b` over the tokens: (batch, width).
        cross: whether `a` and `b` come from different modalities (for `cov-pearson`).

    The paper names the three kinds without formulas. For `mmd` between single tokens the maximum mean
    discrepancy is MMD² = k(a,a) + k(b,b) − 2k(a,b) = 2 − 2k(a,b); between channels it is taken over their
    values at the tokens.
    """
    if kind == "mmd":
        return _mmd_channels(a, b) if shape == "channel" else _mmd_tokens(a, b, pairs=shape == "pair")
    if shape == "channel":
        a, b = a.transpose(1, 2), b.transpose(1, 2)
    if kind == "cov-pearson":
        a, b = a - a.mean(dim=-1, keepdim=True), b - b.mean(dim=-1, keepdim=True)
    if kind == "cosine" or cross:
        a, b = F.normalize(a, dim=-1, eps=_SMALL), F.normalize(b, dim=-1, eps=_SMALL)
        count = 1
    else:
        count = max(a.shape[-1] - 1, 1)
    return (a @ b.transpose(1, 2) if shape == "pair" else (a * b).sum(dim=-1)) / count


def one_is_certain(kind: SimilarityType, shape: SimilarityShape) -> bool:
    """Whether with one token a modality the softmax over similarities is constant, so that nothing is learned.

    Over tokens it has one entry; over channels Pearson's correlation of one value is 0 everywhere.
    """
    return shape != "channel" or kind == "cov-pearson"


def _kernel(distance: Tensor, scale: Tensor) -> Tensor:
    """Mean of Gaussian kernels exp(−d / (w·scale)) over the bandwidths w; both arguments are squared lengths."""
    kernels = [torch.exp(-distance / (width * scale + _SMALL)) for width in _BANDWIDTHS]
    return torch.stack(kernels).mean(dim=0)


def _mmd_tokens(a: Prompt, b: Prompt, *, pairs: bool) -> Compared:
    """1 − MMD²/2 between single tokens, which is the kernel itself. The scale is the sample's own mean square."""
    scale = (a.square().sum(-1) + b.square().sum(-1)).mean(dim=1)[:, None]
    if pairs:
        return _kernel((a[:, :, None] - b[:, None]).square().sum(-1), scale[..., None])
    return _kernel((a - b).square().sum(-1), scale)


def _mmd_channels(a: Prompt, b: Prompt) -> Float[Tensor, "batch width"]:
    """1 − MMD²/2 between the values of each channel at the tokens: (batch, width)."""
    scale = (a.square() + b.square()).mean(dim=(1, 2))[:, None]

    def mean_kernel(p: Tensor, q: Tensor) -> Tensor:
        pairs = (p[:, :, None] - q[:, None]).square().flatten(1, 2)  # (batch, tokens², width)
        return _kernel(pairs, scale[..., None]).mean(dim=1)

    mmd = mean_kernel(a, a) + mean_kernel(b, b) - 2 * mean_kernel(a, b)
    return 1 - mmd / 2

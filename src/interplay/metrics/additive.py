"""How much of a model's answers is a sum of what each modality says alone: outputs in, outputs out."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor


def additive_projection(
    blocks: Iterable[Float[Tensor, "texts images classes"]],
) -> Float[Tensor, "pairs classes"]:
    """EMAP: the additive function of text and image that is nearest to a model on the cross product of N pairs.

    f̂(tᵢ, vᵢ) = mean_j f(tᵢ, v_j) + mean_j f(t_j, vᵢ) − mean_jk f(t_j, v_k) (Hessel & Lee, 2020). What a model loses by
    it comes from interaction; a model that is additive is its own projection.

    Args:
        blocks: logits of the texts t₁ … t_N in order, some at a time, each with all images v₁ … v_N: (b, N, K).

    Returns:
        (N, K), double, of the pairs (tᵢ, vᵢ).

    Raises:
        ValueError: there are not as many texts as images.
    """
    by_text, by_image = [], torch.zeros(())
    for block in blocks:
        logits = block.double()
        by_text.append(logits.mean(dim=1))
        by_image = by_image + logits.sum(dim=0)
    text = torch.cat(by_text) if by_text else torch.zeros(0, 0)
    if by_image.shape != text.shape:
        raise ValueError(f"{len(text)} texts with images of shape {tuple(by_image.shape)}: each with all")
    return text + by_image / len(text) - text.mean(dim=0)

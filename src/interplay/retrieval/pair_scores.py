"""Image-text pairs that are encoded together, for methods whose sides talk while they are encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from interplay.encoding.batches import moved
from interplay.encoding.embedding import BATCH, SideInputs
from interplay.methods.base import Method
from interplay.towers.backbone import Backbone
from interplay.towers.walk import Routes, encode_pair


def pair_scores(
    backbone: Backbone,
    method: Method,
    images: SideInputs,
    texts: SideInputs,
    pairs: Sequence[tuple[int, int]],
    routes: Sequence[str],
    numbers: Mapping[str, Tensor | None],
) -> Tensor:
    """Cosines of pairs, each encoded by the prompts of its route: (pairs,).

    Args:
        images, texts: prepared items.
        pairs: (image, text) by number.
        routes: whose prompts each pair takes.
        numbers: of each route, as the method takes it for one sample: (1,) or (1, prompts); None where nothing is
            chosen. A route that is not among them is that of the bare towers.
    """
    scores = torch.zeros(len(pairs))
    for route in sorted(set(routes)):
        rows = [at for at, taken in enumerate(routes) if taken == route]
        number, around = numbers.get(route), method if route in numbers else None
        for start in range(0, len(rows), BATCH):
            block = rows[start : start + BATCH]
            inputs = [
                moved(side.read([pairs[row][at] for row in block]), backbone.device)
                for at, side in enumerate((images, texts))
            ]
            chosen = None if number is None else number.repeat(len(block), *[1] * (number.dim() - 1))
            with torch.no_grad():
                found = encode_pair(backbone, inputs[0], inputs[1], around, routes=Routes(chosen, chosen))
            scores[block] = F.cosine_similarity(found.image, found.text, dim=-1).cpu()
    return scores

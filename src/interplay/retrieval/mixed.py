"""Batches that mix retrievers of one backbone: what the bare tower does is done once for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.encoding.batches import Pixels, Texts
from interplay.errors import InterplayError
from interplay.retrieval.retriever import Retriever
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import Side
from interplay.towers.walk import encode, front


def encode_mixed(side: Side, contents: Sequence[Pixels | str], retrievers: Sequence[Retriever]) -> Tensor:
    """Vectors of items, each as its own retriever encodes it alone to about 1e-6: (N, joint), normalised.

    The layers before every retriever's first prompted one, and the keys that choose routes, are computed once for the
    whole batch; after them each retriever takes its own items.

    Args:
        side: of all items.
        contents: pixels (3, size, size) as the backbone reads them, or texts.
        retrievers: one an item, all of one backbone.

    Raises:
        InterplayError: retrievers of several backbones, or one that cannot encode a side alone.
    """
    if len({one.backbone.digest for one in retrievers}) > 1 or len(contents) != len(retrievers):
        raise InterplayError(
            "A mixed batch needs a retriever for every item, and all of them on one backbone."
        )
    found = torch.zeros(len(contents), retrievers[0].joint if retrievers else 0)
    # texts that leave room for prompts may be cut, and are other texts then
    for reserve in {one.method.traits.reserve for one in retrievers}:
        rows = [at for at, one in enumerate(retrievers) if one.method.traits.reserve == reserve]
        own = [retrievers[at] for at in rows]
        found[rows] = _encoded(side, [contents[at] for at in rows], own, reserve)
    return found


def _encoded(
    side: Side, contents: Sequence[Pixels | str], retrievers: Sequence[Retriever], reserve: int
) -> Tensor:
    backbone = retrievers[0].backbone
    different = {id(one): one for one in retrievers}
    layers = min(one.method.first_layer(side) for one in different.values())
    inputs = _read(side, contents, backbone, reserve).to(backbone.device)
    tower = backbone.tower(side)
    with torch.no_grad():
        waiting = front(tower, inputs, layers) if layers else inputs
        keys = F.normalize(encode(tower, side, waiting), dim=-1).float().cpu()
    vectors = torch.empty_like(keys)
    for name, one in different.items():
        rows = torch.tensor([at for at, other in enumerate(retrievers) if id(other) == name])
        picked = rows.to(backbone.device)
        some = waiting[picked] if isinstance(waiting, Tensor) else waiting.rows(picked)
        vectors[rows] = one.vectors(side, some, keys[rows])
    return vectors


def _read(side: Side, contents: Sequence[Pixels | str], backbone: Backbone, reserve: int) -> Tensor:
    """Items as a tower reads them."""
    if side == "image":
        return torch.from_numpy(np.stack([one for one in contents if not isinstance(one, str)]))
    texts = [one for one in contents if isinstance(one, str)]
    return Texts.tokenized(backbone, texts, reserve=reserve).batch(range(len(texts)))

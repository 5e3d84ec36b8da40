"""Context tokens before, around or after the words of a text: what CoOp, CoCoOp and S-Prompts share."""

from __future__ import annotations

import torch
from torch import Tensor

from interplay.errors import InterplayError
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import Tokens, Tower


def start_from_words(name: str, prompts: Tensor, backbone: Backbone, words: str) -> None:
    """Set a context (length, width) to the token embeddings of the first words, without positions; "" leaves it.

    Raises:
        InterplayError: the words have fewer tokens than the context.
    """
    if not words:
        return
    ids, length = backbone.tokenize([words])[0, 1:-1], len(prompts)
    if len(ids) < length:
        raise InterplayError(
            f"{name}: '{words}' has {len(ids)} tokens, and the context has {length}: set length = {len(ids)}, or "
            "start from more words."
        )
    with torch.no_grad():
        vectors: Tensor = backbone.text.words(ids[:length].to(backbone.device))
        prompts.copy_(vectors)


def in_front(tower: Tower, inputs: Tensor, context: Tensor, *, kept: bool) -> Tokens:
    """A text with context between its start token and its words.

    Args:
        context: (length, width) or (batch, length, width).
        kept: whether the words keep the positions that they have without it, which it has no share in then.
    """
    return tower.put(tower.embed(inputs), context) if kept else tower.embed(inputs, context=context)

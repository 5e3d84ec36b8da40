"""Context tokens in front of, around or behind the words of a text: what CoOp and CoCoOp share."""

from __future__ import annotations

import torch
from torch import Tensor

from interplay.errors import InterplayError
from interplay.towers.backbone import Backbone


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

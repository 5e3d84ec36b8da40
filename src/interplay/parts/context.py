"""Context tokens in front of, around or behind the words of a text: what CoOp and CoCoOp share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import Shape


def check_length(name: str, length: int, shape: Shape) -> None:
    """Whether a text tower has room for a context: start token, one word and end token stand beside it.

    Raises:
        InterplayError: it has not.
    """
    if length + 3 > shape.text.positions:
        raise InterplayError(
            f"{name}: a context of {length} tokens leaves no room for words among the {shape.text.positions} "
            "positions of the text tower."
        )


def start_from_words(name: str, prompts: nn.Parameter, backbone: Backbone, words: str) -> None:
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

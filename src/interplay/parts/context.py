"""Context tokens in front of, around or behind the words of a text: what CoOp and CoCoOp share."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

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


def word_vectors(name: str, backbone: Backbone, words: str, length: int) -> Float[Tensor, "length width"]:
    """The token embeddings of the first `length` tokens of some words, without positions: (length, width).

    Raises:
        InterplayError: the words have fewer tokens.
    """
    ids = backbone.tokenize([words])[0, 1:-1]
    if len(ids) < length:
        raise InterplayError(
            f"{name}: '{words}' has {len(ids)} tokens, and the context has {length}: set length = {len(ids)}, or "
            "start from more words."
        )
    vectors: Tensor = backbone.text.words(ids[:length].to(backbone.device))
    return vectors

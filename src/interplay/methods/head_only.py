"""Nothing but the head: the row without prompts of an ablation."""

from __future__ import annotations

from interplay.methods.base import Method
from interplay.methods.traits import Traits


class HeadOnly(Method):
    """The bare towers: all that is trained is the head, by gradient, as it is under every other method.

    No paper's. What a method adds to a head is its row minus this one: same head, same start, same schedule. A head
    that trains nothing (`class_text` with one label a row) leaves nothing to train.
    """

    traits = Traits(starts_frozen=True)

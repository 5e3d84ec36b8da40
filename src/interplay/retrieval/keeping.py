"""Whether a session can be learned, and whether what was learned is kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from interplay.encoding.batches import EncodedTable
from interplay.encoding.embedding import SideInputs, embed, table_inputs
from interplay.errors import InterplayError, unknown
from interplay.methods.base import Method
from interplay.parts.vector_alignment import reciprocal_ranks
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import SIDES, Side
from interplay.towers.walk import Keys
from interplay.training.settings import TrainSettings
from interplay.typed import expect, fits

Keep = Literal["trained", "helpful"]
"""What of the sessions that were trained is kept: all of them, or those that were seen to help."""
Standing = Callable[[Side, SideInputs, Tensor], Tensor]
"""From a side's inputs and their keys to the vectors that they have as a retriever stands."""
SMALLEST_BATCH = 2
"""The contrastive loss of a single pair is 0, whatever its vectors."""


def check_new_task(name: str, known: Collection[str]) -> None:
    """Whether a task can be learned under a name.

    Raises:
        InterplayError: it is no text, empty, or taken.
    """
    expect("the task's name", name, str)
    if not name.strip():
        raise InterplayError("A task needs a name.")
    if name in known:
        raise InterplayError(
            f"The task '{name}' was learned already; forget it first, or choose another name."
        )


def check_training(method: Method, settings: TrainSettings, keep: Keep) -> None:
    """Whether a session of a method can be trained.

    Raises:
        InterplayError: batches of single pairs; `keep` asks for what cannot be said of the method.
    """
    if not fits(keep, Keep):
        raise unknown("keep", keep, get_args(Keep))
    if method.traits.solver.by_gradient and settings.batch_size < SMALLEST_BATCH:
        raise InterplayError(
            f"batch_size must be at least {SMALLEST_BATCH} for retrieval, not {settings.batch_size}: a pair is told "
            "from the others of its batch."
        )
    if keep == "helpful" and method.traits.coupled:
        raise InterplayError(
            f"'{method.name}' with these settings encodes true pairs alone, so it cannot be said whether a task has "
            "helped: keep = trained."
        )


def session_helps(
    method: Method,
    backbone: Backbone,
    tables: Sequence[EncodedTable],
    standing: Standing,
) -> bool:
    """Whether what the newest session of a method has learned ranks its pairs better than what was there before.

    Args:
        tables: pairs that ask, and pairs beside them that they have to be told from.
        standing: what was there before; sessions that are isolated have the bare vectors before them.
    """

    def before(side: Side, inputs: SideInputs, keys: Tensor) -> Tensor:
        return keys if method.sessions.isolates else standing(side, inputs, keys)

    vectors: dict[Side, tuple[Tensor, Tensor]] = {}
    for side in SIDES:
        inputs = [table_inputs(table, side) for table in tables]
        keys = [embed(one, backbone) for one in inputs]
        routes = [method.sessions.training_route(side, one) for one in keys]
        vectors[side] = (
            torch.cat([before(side, one, key) for one, key in zip(inputs, keys, strict=True)]),
            torch.cat(
                [embed(one, backbone, method, route) for one, route in zip(inputs, routes, strict=True)]
            ),
        )
    then, now = (Keys(image, text) for image, text in zip(vectors["image"], vectors["text"], strict=True))
    return helps(then, now, len(tables[0]))


def helps(before: Keys, after: Keys, asked: int) -> bool:
    """Whether vectors rank pairs better than others did, beyond noise: by more than one standard error.

    Args:
        before, after: vectors of the same pairs; those that ask come first, the others are there to be told from.
        asked: how many pairs ask.
    """
    then, now = (reciprocal_ranks(one.image, one.text, asked) for one in (before, after))
    gain = now - then
    return asked > 1 and bool(gain.mean() > gain.std() / asked**0.5)

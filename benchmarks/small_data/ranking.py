"""A stream after its last session: ranks by the bare towers, by own routing, and with the true task given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from interplay.data.schema import PairTable, Split
from interplay.data.sessions import by_caption, seen, sessions_of
from interplay.encoding.embedding import SideInputs, table_inputs
from interplay.encoding.inputs import encode_table
from interplay.metrics.recall import retrieval_ranks
from interplay.retrieval.retriever import Retriever
from interplay.towers.tokens import SIDES, Side


def measured_stream(retriever: Retriever, table: PairTable, split: Split) -> dict[str, Any]:
    """Ranks in the gallery of all tasks.

    Args:
        retriever: that has learned all tasks of the table, not coupled.
        table: the stream.
        split: which pictures and captions ask, and are the gallery.

    Returns:
        For `bare`, `own` and, where tasks have prompts of their own, `true`: `image_to_text` and `text_to_image`, a
        rank a query. `owner`: the picture of each text. `routing`: the share of queries of each side that go to their
        own task; None where a side chooses none.
    """
    sessions = sessions_of(table)
    pictures, tasks = seen(sessions, len(sessions) - 1, split)
    captions, owners = by_caption(pictures)
    owner = torch.tensor(owners)
    tables: dict[Side, PairTable] = {"image": pictures, "text": captions}
    reserve = retriever.method.traits.reserve
    inputs: dict[Side, SideInputs] = {
        side: table_inputs(encode_table(rows, retriever.backbone, reserve=reserve), side)
        for side, rows in tables.items()
    }
    keys = {side: retriever.keys(side, inputs[side]) for side in SIDES}
    names = [session.name for session in sessions]
    true: dict[Side, list[str]] = {
        "image": [names[task] for task in tasks],
        "text": [names[tasks[picture]] for picture in owners],
    }
    routes = {side: retriever.routes(side, keys[side]) for side in SIDES}
    found = {
        "bare": keys,
        "own": {side: retriever.encode(side, inputs[side], routes[side]) for side in SIDES},
    }
    routing: dict[str, float | None] = dict.fromkeys(SIDES)
    if retriever.method.sessions.routes_tasks:
        found["true"] = {side: retriever.encode(side, inputs[side], true[side]) for side in SIDES}
        for side in SIDES:
            if retriever.method.sessions.route(side, keys[side]) is not None:
                right = [a == b for a, b in zip(routes[side], true[side], strict=True)]
                routing[side] = sum(right) / len(right)
    return {
        "owner": owners,
        "routing": routing,
        **{way: _ranks(vectors, owner) for way, vectors in found.items()},
    }


def _ranks(vectors: dict[Side, Tensor], owner: Tensor) -> dict[str, list[int]]:
    ranked = retrieval_ranks(vectors["image"], vectors["text"], owner)
    return {
        "image_to_text": ranked.image_to_text.tolist(),
        "text_to_image": ranked.text_to_image.tolist(),
    }

"""How much of a trained classifier's score is left when its answers are made a sum over the modalities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from interplay.classification.model import PairClassifier
from interplay.encoding.batches import EncodedTable, Texts
from interplay.encoding.predict import predict
from interplay.errors import InterplayError
from interplay.metrics.additive import additive_projection
from interplay.metrics.classification import classification_metrics
from interplay.towers.backbone import Backbone

_PAIRS = 4096
"""Pairs of the cross product that are encoded at once, about."""


@dataclass(frozen=True)
class AdditivePart:
    """What a classifier is worth on some pairs, and what its additive projection is worth on the same.

    Attributes:
        pairs: how many.
        metric: which figure: accuracy, or macro F1 where a pair may have several labels.
        whole: of the classifier.
        additive: of its projection (`additive_projection`).
    """

    pairs: int
    metric: str
    whole: float
    additive: float

    @property
    def beyond(self) -> float:
        """What it owes to interaction."""
        return self.whole - self.additive


def additive_part(
    model: PairClassifier,
    backbone: Backbone,
    table: EncodedTable,
    *,
    pairs: int = 200,
    seed: int = 0,
    batch_size: int = 64,
) -> AdditivePart:
    """EMAP of a classifier on some labelled pairs (Hessel & Lee, 2020); costs as much as predicting pairs² of them.

    Args:
        pairs: how many are drawn, all where there are no more.
        seed: decides which.

    Raises:
        InterplayError: there are no labelled pairs, or fewer than 2 are asked for.
    """
    if table.targets is None or len(table) < 2 or pairs < 2:
        raise InterplayError(
            f"{table.name}: the additive part of a classifier takes 2 labelled pairs at least."
        )
    drawn = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed))[:pairs]
    rows, targets = drawn.sort().values.tolist(), table.targets[drawn.sort().values]

    def blocks() -> Iterator[Tensor]:
        size = max(1, _PAIRS // len(rows))
        for start in range(0, len(rows), size):
            texts = rows[start : start + size]
            logits = predict(model, backbone, crossed(table, texts, rows), batch_size)
            yield logits.view(len(texts), len(rows), -1)

    own = _picked(table, rows, rows)
    metric = model.monitors[0]
    whole, additive = (
        classification_metrics(model.probabilities(logits), targets, model.kind)[metric]
        for logits in (predict(model, backbone, own, batch_size), additive_projection(blocks()).float())
    )
    return AdditivePart(len(rows), metric, whole, additive)


def crossed(table: EncodedTable, texts: Sequence[int], images: Sequence[int]) -> EncodedTable:
    """Some texts of a table, each with some of its pictures, text by text."""
    return _picked(table, [text for text in texts for _ in images], [*images] * len(texts))


def _picked(table: EncodedTable, texts: Sequence[int], images: Sequence[int]) -> EncodedTable:
    """Texts and pictures of some rows, put together anew, without targets."""
    return replace(
        table,
        pixels=lambda asked: table.pixels([images[at] for at in asked]),
        texts=Texts([table.texts.row(row).tolist() for row in texts], table.texts.padding),
        targets=None,
        keys=None,
    )

"""From a trained classifier to logits and figures: the one way from a batch to logits."""

from __future__ import annotations

import torch
from torch import Tensor

from interplay.data.batches import BatchLoader, BatchSource, OrderedSampler, to_device
from interplay.errors import InterplayError
from interplay.metrics import classification_metrics
from interplay.prefix_cache import behind_front
from interplay.tasks.classify import PairBatch, PairClassifier
from interplay.towers.backbone import Backbone


def class_count(model: PairClassifier) -> int:
    """How many classes a prepared classifier tells apart."""
    for rows in (model.head.weight, model.head.class_vectors, model.suffix):
        if rows is not None:
            return len(rows)
    raise ValueError("a class-text head must be prepared first (PairClassifier.prepare)")


def logits_of(model: PairClassifier, backbone: Backbone, pairs: PairBatch) -> Tensor:
    """The one way from a batch to logits, in training and in prediction: front in blocks, then the method."""
    logits: Tensor = model(backbone, behind_front(model, backbone, pairs))
    return logits


def predict(model: PairClassifier, backbone: Backbone, source: BatchSource, batch_size: int = 64) -> Tensor:
    """Logits of all pairs in the order of the table, on the CPU: (N, classes). Nothing random, no gradient.

    Args:
        model, backbone: on one device; the model is used as in evaluation.
        source: an `EncodedTable`, or one behind its prefix.
        batch_size: pairs at a time; batches hold texts of about one length.
    """
    logits = torch.zeros(len(source), class_count(model))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in BatchLoader(source, OrderedSampler(source.text_lengths, batch_size)):
                pairs = to_device(batch.pairs, backbone.device)
                logits[batch.rows] = logits_of(model, backbone, pairs).float().cpu()
    finally:
        model.train(was_training)
    return logits


def evaluate(
    model: PairClassifier, backbone: Backbone, source: BatchSource, batch_size: int = 64
) -> dict[str, float]:
    """`classification_metrics` of a table with targets.

    Raises:
        InterplayError: the table has no targets.
    """
    if source.targets is None:
        raise InterplayError("These pairs have no labels, so there is nothing to compare predictions with.")
    probabilities = model.probabilities(predict(model, backbone, source, batch_size))
    return classification_metrics(probabilities, source.targets, model.kind)

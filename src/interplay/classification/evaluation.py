"""From a trained classifier to figures."""

from __future__ import annotations

from interplay.classification.model import PairClassifier
from interplay.encoding.batches import BatchSource
from interplay.encoding.predict import predict
from interplay.errors import InterplayError
from interplay.metrics.classification import classification_metrics
from interplay.towers.backbone import Backbone


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

"""From a trained model to its outputs for a table."""

from __future__ import annotations

import torch
from torch import Tensor

from interplay.encoding.batches import BatchLoader, BatchSource, OrderedSampler, to_device
from interplay.encoding.prefix_cache import behind_front
from interplay.encoding.trainable import Trainable
from interplay.errors import InterplayError
from interplay.towers.backbone import Backbone
from interplay.typed import expect


def predict(model: Trainable, backbone: Backbone, source: BatchSource, batch_size: int = 64) -> Tensor:
    """Outputs of all pairs in the order of the table, on the CPU: (N, output width). Nothing random, no gradient.

    For a classifier these are the logits.

    Args:
        model, backbone: on one device; the model is used as in evaluation.
        source: an `EncodedTable`, or one after its prefix.
        batch_size: pairs at a time; batches hold texts of about one length.

    Raises:
        InterplayError: `batch_size` is not at least 1.
    """
    expect("batch_size", batch_size, int)
    if batch_size < 1:
        raise InterplayError(f"batch_size must be at least 1, not {batch_size}.")
    outputs = torch.zeros(len(source), model.output_width)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in BatchLoader(source, OrderedSampler(source.text_lengths, batch_size)):
                pairs = to_device(batch.pairs, backbone.device)
                outputs[batch.rows] = model(backbone, behind_front(model, backbone, pairs)).float().cpu()
    finally:
        model.train(was_training)
    return outputs

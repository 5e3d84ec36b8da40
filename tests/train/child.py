"""A training run for the tests that kill it."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from interplay.encoding.prefix_cache import PrefixCache
from interplay.encoding.trainable import PairBatch
from interplay.towers.backbone import Backbone
from interplay.training.settings import TrainSettings
from interplay.training.train import fit
from tests.forking import serve
from tests.train.toy import toy_backbone, toy_model, toy_table

PAUSE = 0.02


def train(run: Path, cache: Path) -> None:
    """Six epochs, slow enough to be killed; the weights at the end go into `weights.pt`."""
    backbone = toy_backbone()
    model = toy_model(backbone)
    forward = model.forward

    def slow(backbone: Backbone, batch: PairBatch) -> torch.Tensor:
        time.sleep(PAUSE)
        return forward(backbone, batch)

    model.forward = slow  # type: ignore[method-assign]
    settings = TrainSettings(
        epochs=6,
        batch_size=8,
        learning_rate=0.01,
        accelerator="cpu",
        monitor="loss",
        progress=False,
        cache_prefix=True,
    )
    tables = toy_table(backbone, 40, 1), toy_table(backbone, 16, 2)
    fit(model, backbone, *tables, settings, run, resume=True, cache=PrefixCache(cache))
    torch.save(model.state_dict(), run / "weights.pt")


if __name__ == "__main__":
    serve(train)

"""A stream for the tests that kill it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch

from interplay.encoding.trainable import PairBatch
from interplay.retrieval.continual import run_stream
from interplay.retrieval.model import PairRetriever
from interplay.retrieval.retriever import Retriever
from interplay.towers.backbone import Backbone
from tests.forking import serve
from tests.lpi.toy import QUICK, SMALL, stream
from tests.train.toy import toy_backbone

PAUSE = 0.03


def learn(run: Path) -> None:
    """Three sessions of two epochs, slow enough to be killed."""
    loss = PairRetriever.training_loss

    def slow(self: PairRetriever, backbone: Backbone, batch: PairBatch) -> torch.Tensor:
        time.sleep(PAUSE)
        return loss(self, backbone, batch)

    PairRetriever.training_loss = slow  # type: ignore[method-assign]
    retriever = Retriever(toy_backbone(), "lpi-p", settings=SMALL)
    settings = replace(QUICK, epochs=2, batch_size=4, accelerator="cpu")
    run_stream(retriever, stream(), run, settings=settings, resume=True)


if __name__ == "__main__":
    serve(learn)

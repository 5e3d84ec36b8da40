"""Training runs in processes of their own, for the tests that kill them.

It reads lines ["RUN FOLDER", "CACHE FOLDER"] and forks for each, so that what is slow, the imports, is done once. It
prints the process id of a run before it begins and its exit status behind it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch

from interplay.prefix_cache import PrefixCache
from interplay.tasks.trainable import PairBatch
from interplay.towers.backbone import Backbone
from interplay.train import fit
from interplay.train_settings import TrainSettings
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


def serve() -> None:
    """Fork once a line. This process itself never computes, so that its children may."""
    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        run, cache = map(Path, json.loads(line))
        process = os.fork()
        if process == 0:
            status = 1
            try:
                train(run, cache)
                status = 0
            finally:
                os._exit(status)
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()

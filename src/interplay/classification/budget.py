"""What a preset takes: forward passes of a pair, measured here, so that a time can be told before it begins."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from interplay.data.schema import PairTable
from interplay.towers.backbone import Backbone
from interplay.towers.walk import encode_pair
from interplay.training.settings import LONGER, TrainSettings

_STEP, _LOOK, _HEADS = 4.0, 1.5, 2.0
"""Forward passes that a pair costs: in a step of training, when it is validated, and with the heads fitted to it."""
_ROWS = 32


@dataclass(frozen=True)
class Budget:
    """What training takes at most.

    Attributes:
        passes: forward passes of one pair through both frozen towers, and what takes as long.
        seconds: that these take here.
    """

    passes: int
    seconds: float

    def __str__(self) -> str:
        length = f"{self.seconds:.0f} s" if self.seconds < 100 else f"{self.seconds / 60:.0f} minutes"
        return f"at most {self.passes:,} forward passes of a pair or what takes as long, about {length} here"


def passes(settings: TrainSettings, methods: int, train: int, validation: int) -> int:
    """Forward passes of one pair that a preset comes to at most.

    Args:
        settings: as they were asked for.
        methods: how many are tried.
        train, validation: pairs.
    """
    heads = _HEADS * (train + validation)
    if settings.preset == "fast":
        return round(heads)
    epochs = settings.settled(train, 1.0).epochs or 0
    once = epochs * (_STEP * train + _LOOK * validation)
    trainings = methods * len(settings.rates()) + (LONGER if settings.lengthens() else 0)
    return round(heads + trainings * once)


def budget(settings: TrainSettings, methods: int, table: PairTable, backbone: Backbone) -> Budget:
    """What training on a table takes at most, by a batch of some of its texts and of grey pictures that is encoded now.

    Raises:
        InterplayError: a split is missing.
    """
    train, validation = (table.split(name) for name in ("train", "validation"))
    ids = backbone.tokenize(train.select(list(range(min(_ROWS, len(train))))).texts()).to(backbone.device)
    side = backbone.shape.image.image_size
    images = torch.full((len(ids), 3, side, side), 128, dtype=torch.uint8, device=backbone.device)
    taken = []
    with torch.no_grad():
        for _ in range(2):  # the first time takes longer
            began = time.perf_counter()
            encode_pair(backbone, images, ids).image.sum().item()
            taken.append(time.perf_counter() - began)
    count = passes(settings, methods, len(train), len(validation))
    return Budget(count, count * taken[-1] / len(ids))

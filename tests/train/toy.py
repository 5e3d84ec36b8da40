"""A small task that a small random backbone can learn something on, for tests and for the processes they kill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch

from interplay.classification.model import PairClassifier
from interplay.encoding.batches import EncodedTable
from interplay.methods.registry import choose
from interplay.parts.heads import Head, HeadSettings
from interplay.towers.backbone import Backbone, from_clip
from tests.conftest import LetterTokenizer, random_clip, small_shape

WORDS = ("cat", "a dog", "green apple", "x", "the moon tonight")


def toy_backbone() -> Backbone:
    """Five image layers of width 24, four text layers of width 16."""
    return from_clip(random_clip(small_shape()), LetterTokenizer(), "toy")


def toy_table(
    backbone: Backbone, rows: int, seed: int, kind: Literal["single", "multi"] = "single"
) -> EncodedTable:
    """Bright or dark pictures with one of five texts; three classes from both."""
    random = np.random.default_rng(seed)
    bright, word = random.integers(0, 2, rows), random.integers(0, len(WORDS), rows)
    noise = random.integers(0, 128, (rows, 3, 32, 32))
    pixels = (noise + 127 * bright[:, None, None, None]).astype(np.uint8)
    target = torch.from_numpy((bright + word) % 3)
    if kind == "multi":
        target = torch.stack([target == 0, torch.from_numpy(bright == 1)], dim=1).float()
    return EncodedTable.from_arrays(
        backbone,
        pixels,
        [WORDS[i] for i in word],
        target,
        kind=kind,
        class_texts=("one", "two", "three")[: 3 if kind == "single" else 2],
        name=f"toy {seed}",
    )


def toy_model(
    backbone: Backbone,
    method: str = "mitp",
    head: HeadSettings | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    kind: Literal["single", "multi"] = "single",
) -> PairClassifier:
    """A fresh classifier, prepared; MITP on layers 2 and 3."""
    torch.manual_seed(seed)
    choice = choose(method)
    built = choice.build(backbone.shape, settings or choice.method.tiny())
    classes = 3 if kind == "single" else 2
    model = PairClassifier(
        built,
        Head(head or HeadSettings(), backbone.shape.joint, classes, backbone.scale, bias=kind == "multi"),
        kind,
    )
    model.prepare(backbone, ["one", "two", "three"][:classes])
    return model

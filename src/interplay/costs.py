"""What a method costs on a backbone, counted without any weights: parameters and floating-point operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from interplay.methods.base import choose
from interplay.parts.heads import Head, HeadSettings
from interplay.tasks.classify import PairClassifier
from interplay.tasks.trainable import PairBatch
from interplay.towers.backbone import Backbone, shape_of
from interplay.towers.clip import ImageTower, TextTower
from interplay.towers.tokens import Shape


@dataclass(frozen=True)
class Cost:
    """What one method costs on one backbone.

    Attributes:
        backbone, method: their names.
        backbone_parameters: of both towers, frozen.
        trained_parameters: of the method; heads are counted apart, since every method of a table shares them.
        trained_fraction: trained / backbone parameters.
        text_tokens: the caption length that the operations are counted for.
        forward_gflops: 10⁹ floating-point operations of one pair's forward (a multiply-add counts as 2).
        training_gflops: of one pair's training step (forward and backward).
    """

    backbone: str
    method: str
    backbone_parameters: int
    trained_parameters: int
    trained_fraction: float
    text_tokens: int
    forward_gflops: float
    training_gflops: float

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def empty_backbone(shape: Shape, name: str = "empty") -> Backbone:
    """A backbone on the meta device: all shapes, no memory."""
    with torch.device("meta"):
        return Backbone(name, ImageTower(shape.image), TextTower(shape.text), 100.0, tokenizer=None)


def cost(
    backbone: str, method: str, settings: Mapping[str, Any] | None = None, *, text_tokens: int | None = None
) -> Cost:
    """Count parameters and operations from the geometry alone.

    Args:
        backbone: as `load_backbone` takes it; presets and local folders need no weights.
        method: a method or variant.
        settings: changes to its settings.
        text_tokens: caption length; by default all positions of the text tower.

    Raises:
        InterplayError: an unknown backbone, method or setting.
    """
    shape = shape_of(backbone)
    choice = choose(method)
    chosen = choice.settings(settings)
    empty = empty_backbone(shape, backbone)
    length = min(text_tokens or shape.text.positions, shape.text.positions)
    with torch.device("meta"):
        built = choice.method(shape, chosen)
        head = Head(HeadSettings(kind="pair"), shape.joint, 2, 1.0)
        batch = PairBatch(
            torch.zeros(1, 3, shape.image.image_size, shape.image.image_size),
            torch.zeros(1, length, dtype=torch.long),
            torch.zeros(1, dtype=torch.long),
        )
    model = PairClassifier(built, head)
    with FlopCounterMode(display=False) as forward:
        model(empty, batch)
    with FlopCounterMode(display=False) as training:
        model(empty, batch).sum().backward()
    frozen = sum(parameter.numel() for parameter in empty.parameters())
    trained = choice.method.parameter_count(shape, chosen)
    return Cost(
        backbone,
        choice.name,
        frozen,
        trained,
        trained / frozen,
        length,
        forward.get_total_flops() / 1e9,
        training.get_total_flops() / 1e9,
    )

"""A classifier whose class texts go through its method, on the small random backbone, with prompts that show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from interplay.classification.model import PairClassifier
from interplay.methods.registry import choose
from interplay.parts.heads import Head, HeadSettings
from interplay.towers.backbone import Backbone

CLASSES = ["ant", "a bee", "crow bar"]


def prompted(
    backbone: Backbone,
    name: str,
    settings: Mapping[str, Any] | None = None,
    head: Mapping[str, Any] | None = None,
) -> PairClassifier:
    """A method by name with its tiny settings, in evaluation mode; the head reads prompted class texts by the image."""
    torch.manual_seed(0)
    choice = choose(name)
    method = choice.build(backbone.shape, {**choice.method.tiny(), **choice.preset, **(settings or {})})
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.mul_(5)
    chosen = HeadSettings(**{"class_text": "prompted", "query": "image", "template": "{}.", **(head or {})})
    model = PairClassifier(
        method, Head(chosen, backbone.shape.joint, len(CLASSES), backbone.scale, bias=False)
    )
    model.prepare(backbone, CLASSES)
    return model.eval()

"""A classifier as an artefact: its card, and how it is written and opened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import interplay.artifacts as artifacts
from interplay.classification.model import MultiLoss, PairClassifier
from interplay.errors import InterplayError
from interplay.methods.registry import choose
from interplay.metrics.calibration import Calibration
from interplay.metrics.classification import Kind
from interplay.parts.heads import Head, HeadSettings
from interplay.settings import make_settings
from interplay.towers.backbone import Backbone
from interplay.towers.hidden import hidden_widths


@dataclass(frozen=True)
class ClassifierCard:
    """What an artefact says of itself.

    Attributes:
        method: method or variant, with `settings` the changes to what the name stands for.
        head: settings of the head.
        labels: class names in the order of the logits.
        class_texts: what a class-text head reads for each class.
        kind, multi_loss: as `PairClassifier`.
        backbone, backbone_digest: name and weights' identity of the backbone that it was trained on.
        data, metrics, training: what is known of its making, for the model card.
        temperature, shift: see `Calibration`; artefacts from before there was one have none.
        version: of interplay, format: of this file.
    """

    method: str
    settings: Mapping[str, Any]
    head: Mapping[str, Any]
    labels: tuple[str, ...]
    class_texts: tuple[str, ...]
    kind: Kind
    multi_loss: MultiLoss
    backbone: str
    backbone_digest: str
    data: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    shift: float = 0.0
    version: str = ""
    format: int = artifacts.FORMAT

    def __post_init__(self) -> None:
        if not self.labels or len({*self.labels}) < len(self.labels) or not all(self.labels):
            raise InterplayError("A classifier's labels are names, none of them empty and none there twice.")
        if len(self.class_texts) != len(self.labels):
            raise InterplayError(
                f"There are {len(self.labels)} labels and {len(self.class_texts)} class texts: every label needs one."
            )
        Calibration(self.temperature, self.shift)


def build(card: ClassifierCard, backbone: Backbone) -> PairClassifier:
    """A fresh classifier of the kind that a card describes, with its class prompts encoded."""
    choice = choose(card.method)
    method = choice.build(backbone.shape, card.settings)
    head_settings = make_settings(HeadSettings, card.head, "the head")
    head = Head(
        head_settings,
        backbone.shape.joint,
        len(card.labels),
        backbone.scale,
        bias=card.kind == "multi",
        hidden=hidden_widths(backbone.shape),
    )
    model = PairClassifier(method, head, card.kind, card.multi_loss)
    model.calibration = Calibration(card.temperature, card.shift)
    model.prepare(backbone, card.class_texts)
    return model


def save(folder: Path, model: PairClassifier, card: ClassifierCard) -> None:
    """Write an artefact; each of its files is replaced in one step.

    Raises:
        InterplayError: it cannot be written.
    """
    artifacts.write_artifact(folder, model, asdict(card), model_card(card))


def read_card(folder: Path) -> ClassifierCard:
    """The card of a classifier's artefact.

    Raises:
        InterplayError: as `read_header`.
    """
    card: ClassifierCard = artifacts.card_of(ClassifierCard, folder, "classification")
    return card


def load(folder: Path, backbone: Backbone) -> tuple[PairClassifier, ClassifierCard]:
    """Read a classifier onto the backbone that it was made for; strict.

    Raises:
        InterplayError: as `read_card`; another backbone than it was trained on; tensors that do not fit.
    """

    def read() -> tuple[PairClassifier, ClassifierCard]:
        card = read_card(folder)
        artifacts.check_backbone(folder, card.backbone, card.backbone_digest, backbone)
        model = build(card, backbone)
        artifacts.fill(folder, model)
        return model.eval(), card

    return artifacts.unchanged(folder, read)[0]


def model_card(card: ClassifierCard) -> str:
    """The README of an artefact."""
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in card.metrics.items())
    figures = f"\n## Figures\n\n| metric | value |\n|---|---|\n{rows}\n" if rows else ""
    calibrated = ""
    if (card.temperature, card.shift) != (1.0, 0.0):
        calibrated = f"\nProbabilities are calibrated: logits / {card.temperature:.4g} + {card.shift:.4g}.\n"
    return f"""---
library_name: interplay
tags: [prompt-learning, clip, image-text-classification]
---

# {card.method} on {card.backbone}

Prompts for a frozen CLIP, trained with [interplay] {card.version}: {len(card.labels)} classes
({card.kind} label{"s" if card.kind == "multi" else ""}), trained on {card.data or "data that was not named"}.
The backbone itself is not in this folder (weights {card.backbone_digest[:12]}).

Classes: {", ".join(card.labels[:50])}{" …" if len(card.labels) > 50 else ""}
{calibrated}{figures}
## Settings

```json
{json.dumps({"settings": dict(card.settings), "head": dict(card.head), "training": dict(card.training)}, indent=2)}
```

Use: `Classifier.from_pretrained("this folder").predict(images, texts)`
"""

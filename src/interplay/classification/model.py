"""Classification of image-text pairs: a method between the frozen towers, a head after them, and the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from interplay.classification.class_prompts import ClassPrompts
from interplay.encoding.trainable import Gather, PairBatch, Trainable, alone, keys_of
from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.metrics.calibration import Calibration
from interplay.metrics.classification import Kind, classification_metrics
from interplay.parts.heads import Head, HeadSettings
from interplay.towers.backbone import Backbone
from interplay.towers.hidden import hidden_layers
from interplay.towers.tokens import SIDES, Side
from interplay.towers.walk import Vectors, encode, encode_pair

MultiLoss = Literal["bce", "zlpr"]
MONITORS: dict[Kind, tuple[str, ...]] = {
    "single": ("accuracy", "macro_accuracy", "f1_macro", "calibration_error", "loss"),
    "multi": ("f1_macro", "f1_micro", "map", "calibration_error", "loss"),
}
"""The validation metrics that can decide which epoch is best, the usual one first."""


class PairClassifier(Trainable):
    """What is trained and saved for one classification task: a method and a head. The backbone is an argument.

    Args:
        method: what happens around the frozen layers.
        head: from the pair's vectors to logits.
        kind: `single` label (softmax) or `multi` label (one sigmoid a class).
        multi_loss: for `multi`: `bce` is the mean binary cross-entropy; `zlpr` is
            log(1 + Σ_neg e^s) + log(1 + Σ_pos e^−s) (Su et al., 2022), a threshold at 0.
    """

    suffix: Tensor | None

    def __init__(
        self, method: Method, head: Head, kind: Kind = "single", multi_loss: MultiLoss = "bce"
    ) -> None:
        super().__init__(method)
        self.head = head
        self.kind = kind
        self.multi_loss = multi_loss
        self.calibration = Calibration()
        self.register_buffer("suffix", None, persistent=False)
        self.class_prompts: ClassPrompts | None = None

    def prepare(self, backbone: Backbone, class_texts: Sequence[str]) -> None:
        """Make the class prompts ready; needed by class-text heads alone.

        Separate ones are encoded here, once, by the bare text tower.

        Raises:
            InterplayError: joint class texts under a method whose prompts take text positions, that embeds texts
                itself or fuses the final vectors; prompted ones under a method that cannot encode a text without its
                image.
        """
        settings: HeadSettings = self.head.settings
        if settings.kind not in ("auto", "class_text"):
            return
        prompts = [settings.template.replace("{}", text) for text in class_texts]
        if settings.class_text == "joint":
            if why := self.method.traits.why_no_continuation:
                raise InterplayError(
                    f"The method '{self.method.name}' {why}: choose class_text = separate, or another method."
                )
            self.suffix = class_suffixes(backbone, prompts).to(backbone.device)
            return
        if settings.class_text == "prompted":
            if self.method.traits.needs_partner(routed=True):
                raise InterplayError(
                    f"The method '{self.method.name}' with these settings lets image and text talk while they are "
                    "encoded, so class prompts cannot go through it without an image: choose class_text = separate or "
                    "joint."
                )
            self.class_prompts = ClassPrompts(backbone, self.method, prompts)
            return
        with torch.no_grad():
            ids = backbone.tokenize(prompts).to(backbone.device)
            self.head.class_vectors = encode(backbone.text, "text", ids)

    @property
    def _asked(self) -> Side | None:
        """The one side that is compared with class prompts; None where both sides are encoded.

        Where class prompts are encoded anew in every step, the sample's other side would be encoded for nothing.
        """
        asked = self.head.settings.query
        return None if self.class_prompts is None or asked == "image+text" else asked

    @property
    def reads(self) -> tuple[Side, ...]:
        """The sides of a pair that the logits depend on: one, where its vector alone is asked for and none crosses.

        Where all that crosses is the route, it is the image's (`Traits.crosses_into`).
        """
        settings: HeadSettings = self.head.settings
        asked = self.head.features if settings.reads_features else settings.query
        if asked not in SIDES or self.method.traits.crosses_into(asked) or self.suffix is not None:
            return SIDES
        return (asked,)

    @property
    def reserve(self) -> int:
        """Text positions that a sample's own text has to leave free."""
        return self.method.traits.reserve + (0 if self.suffix is None else self.suffix.shape[1])

    @property
    def hidden(self) -> dict[Side, tuple[int, ...]]:
        """For each side whose hidden states the head reads, after how many layers."""
        settings: HeadSettings = self.head.settings
        return {side: hidden_layers(self.method.shape.side(side)) for side in settings.hidden_sides}

    def first_layer(self, side: Side) -> int:
        """The first layer (from 0) of a side that the method changes, or before which the head reads the tokens."""
        return min([self.method.first_layer(side), *self.hidden.get(side, ())])

    def front_layers(self) -> dict[Side, int]:
        """The method's front layers.

        Class texts that continue a sample's own text walk with it from the embedding on: then there is no text front.
        A side that is not encoded has none either.
        """
        asked = self._asked
        layers: dict[Side, int] = {
            side: self.first_layer(side) if asked in (None, side) else 0 for side in SIDES
        }
        if self.head.settings.class_text == "joint":
            layers["text"] = 0
        return layers

    def vectors(self, backbone: Backbone, batch: PairBatch) -> Vectors:
        """The pair's vectors, and those of prompted class texts, with the method at work."""
        routes = self.routes(backbone, batch)
        found = encode_pair(
            backbone,
            batch.images,
            batch.texts,
            self.method,
            suffix=self.suffix,
            routes=routes,
            hidden=self.hidden,
        )
        if self.class_prompts is None:
            return found
        return replace(found, classes=self.class_prompts(backbone, self.method, routes.text))

    def forward(self, backbone: Backbone, batch: PairBatch) -> Tensor:
        """A batch of pairs → logits (batch, classes)."""
        if (asked := self._asked) is None or self.class_prompts is None:
            logits: Tensor = self.head(self.vectors(backbone, batch))
            return logits
        routes = self.routes(backbone, batch)
        inputs = batch.images if asked == "image" else batch.texts
        x = encode(backbone.tower(asked), asked, inputs, self.method, route=routes.side(asked))
        return self.head.compare(
            F.normalize(x, dim=-1), self.class_prompts(backbone, self.method, routes.text)
        )

    def training_loss(self, backbone: Backbone, batch: PairBatch, gather: Gather = alone) -> Tensor:
        """Cross-entropy, and what the method adds to it; arguments as `Trainable.training_loss`.

        Raises:
            InterplayError: nothing that is trained reaches the logits, as CoOp's context under frozen class texts.
        """
        assert batch.targets is not None
        keys = keys_of(backbone, batch) if self.method.traits.reads_keys else None
        logits = self(backbone, replace(batch, keys=keys))
        base = self.loss(gather(logits), gather(batch.targets))
        loss = self.method.objective(base, None if keys is None else keys.each(gather))
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise self.unreached()
        return loss

    def unreached(self) -> InterplayError:
        """Nothing of the method reaches the logits."""
        s = self.head.settings
        return InterplayError(
            f"Nothing that the method '{self.method.name}' trains reaches the logits of this head (class_text = "
            f"{s.class_text}, query = {s.query}): choose class_text = prompted, or another query."
        )

    @property
    def output_width(self) -> int:
        """How many classes a prepared classifier tells apart."""
        prompted = None if self.class_prompts is None else self.class_prompts.ids
        for rows in (self.head.weight, self.head.class_vectors, self.suffix, prompted):
            if rows is not None:
                return len(rows)
        raise ValueError("a class-text head must be prepared first (PairClassifier.prepare)")

    def validation_values(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Loss and metrics of the logits of a whole split."""
        values = {"loss": self.loss(outputs, targets).item()}
        return values | classification_metrics(self.probabilities(outputs), targets, self.kind)

    @property
    def monitors(self) -> tuple[str, ...]:
        """The validation metrics that can decide which epoch is best, the usual one first."""
        return MONITORS[self.kind]

    def decisive(self) -> dict[str, str]:
        """The settings of the model that the trained weights depend on."""
        return {
            "method": f"{self.method.name} {self.method.settings}",
            "head": str(self.head.settings),
            "loss": f"{self.kind} {self.multi_loss}",
        }

    def check(self, name: str, kind: str, targets: Tensor) -> None:
        """Whether labels and classes are those that the model was built for."""
        if kind != self.kind:
            raise InterplayError(
                f"{name} has {kind}-label targets, but the model was built for {self.kind} labels."
            )
        classes = targets.shape[1] if self.kind == "multi" else int(targets.max()) + 1
        if classes > self.output_width or (self.kind == "multi" and classes != self.output_width):
            raise InterplayError(f"{name} has {classes} classes, the model {self.output_width}.")

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The training loss: MITP eq. 8 for single labels, eq. 9 in the chosen form for several."""
        if self.kind == "single":
            return F.cross_entropy(logits, targets)
        if self.multi_loss == "bce":
            return F.binary_cross_entropy_with_logits(logits, targets)
        return zlpr(logits, targets)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits → probabilities of the same shape, calibrated where the classifier is."""
        logits = self.calibration(logits)
        return logits.softmax(dim=-1) if self.kind == "single" else logits.sigmoid()


def zlpr(
    logits: Float[Tensor, "batch classes"], targets: Float[Tensor, "batch classes"]
) -> Float[Tensor, ""]:
    """log(1 + Σ_neg e^s) + log(1 + Σ_pos e^−s), mean over the batch (Su et al., 2022, eq. 5).

    Args:
        logits: (batch, classes).
        targets: (batch, classes) of 0 and 1.
    """
    zero = logits.new_zeros(len(logits), 1)
    hidden = torch.finfo(logits.dtype).min
    negative = logits.masked_fill(targets > 0.5, hidden)
    positive = (-logits).masked_fill(targets <= 0.5, hidden)
    per_side = [torch.cat([zero, side], dim=1).logsumexp(dim=1) for side in (negative, positive)]
    return (per_side[0] + per_side[1]).mean()


def class_suffixes(backbone: Backbone, prompts: Sequence[str]) -> Int[Tensor, "classes length"]:
    """Class prompts as continuations of a text: ids (classes, length) without a start token.

    Shorter ones are padded with end tokens after their own, which nothing reads.

    Raises:
        InterplayError: a class prompt leaves no room for the sample's text.
    """
    ids = backbone.tokenize(prompts)[:, 1:]
    if ids.shape[1] > backbone.text.shape.positions // 2:
        raise InterplayError(
            f"The longest class prompt has {ids.shape[1]} tokens, more than half of the "
            f"{backbone.text.shape.positions} positions of the text tower: shorten the class names."
        )
    return ids

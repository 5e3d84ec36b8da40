"""Many trained classifiers on one loaded backbone, and batches that mix them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from interplay.classification.classifier import Classifier
from interplay.data.picture_sources import Images, Words, text_list
from interplay.encoding.batches import Texts
from interplay.encoding.inputs import pairs_of
from interplay.encoding.trainable import PairBatch
from interplay.errors import InterplayError, unknown
from interplay.methods.base import Method
from interplay.towers.backbone import Backbone, as_backbone
from interplay.towers.tokens import Side
from interplay.towers.walk import Start, front


class AdapterBank:
    """Many trained classifiers on one loaded backbone, attached and detached by name.

    Args:
        backbone: a name, or a loaded backbone.
    """

    def __init__(self, backbone: str | Backbone = "tiny") -> None:
        self.backbone = as_backbone(backbone)
        self._attached: dict[str, Classifier] = {}

    def attach(self, name: str, adapter: str | Path | Classifier) -> None:
        """Attach a trained classifier, or the folder of one.

        Raises:
            InterplayError: the name is taken; it was made for another backbone.
        """
        if name in self._attached:
            raise InterplayError(f"An adapter called '{name}' is attached already: detach it first.")
        if isinstance(adapter, Classifier):
            if adapter.backbone.digest != self.backbone.digest:
                raise InterplayError(
                    f"The adapter '{name}' was made for another backbone: {adapter.backbone.name}."
                )
            self._attached[name] = adapter
        else:
            self._attached[name] = Classifier.from_pretrained(str(adapter), backbone=self.backbone)

    def detach(self, name: str) -> None:
        """Let an adapter go.

        Raises:
            InterplayError: there is none of that name.
        """
        self[name]
        del self._attached[name]

    @property
    def names(self) -> list[str]:
        """The attached adapters, in the order of their arrival."""
        return list(self._attached)

    def __getitem__(self, name: str) -> Classifier:
        if name not in self._attached:
            raise unknown("attached adapter", name, self._attached)
        return self._attached[name]

    def predict_proba(self, images: Images, texts: Words, adapters: str | Sequence[str]) -> list[Tensor]:
        """Probabilities of a batch that mixes adapters: one (classes,) a pair, as its adapter alone gives them.

        The layers before every adapter's first prompted one run once for the whole batch; after them each
        adapter takes its own pairs.

        Args:
            adapters: for each pair, the name of the adapter to use.

        Raises:
            InterplayError: an adapter that is not attached; one whose class texts continue the sample's text; else
                as `Classifier.predict_proba`.
        """
        inputs, adapters = pairs_of(images, texts), text_list(adapters, "adapters")
        if len(adapters) != len(inputs.ids):
            raise InterplayError(
                f"Every pair needs an adapter: got {len(adapters)} for {len(inputs.ids)} pairs."
            )
        if not adapters:
            return []
        models = {name: self[name]._ready() for name in dict.fromkeys(adapters)}
        for name, model in models.items():
            if model.suffix is not None:
                raise InterplayError(
                    f"The adapter '{name}' has class_text = joint, which a mixed batch cannot serve."
                )
        table = inputs.encode(self.backbone)
        rows = range(len(table))
        used = [model.method for model in models.values()]
        image = self._entered("image", torch.from_numpy(table.pixels(rows)), used)
        text = {
            reserve: self._entered(
                "text", Texts.tokenized(self.backbone, inputs.texts or (), reserve=reserve).batch(rows), used
            )
            for reserve in {model.reserve for model in models.values()}
        }
        result: list[Tensor] = [torch.empty(0)] * len(adapters)
        for name, model in models.items():
            own = [row for row, wanted in enumerate(adapters) if wanted == name]
            picked = torch.tensor(own, device=self.backbone.device)
            pairs = PairBatch(_rows(image, picked), _rows(text[model.reserve], picked))
            with torch.no_grad():
                values = model.probabilities(model(self.backbone, pairs))
            for row, value in zip(own, values.cpu(), strict=True):
                result[row] = value
        return result

    def _entered(self, side: Side, inputs: Tensor, methods: Sequence[Method]) -> Tensor | Start:
        """Inputs after the layers that no method changes; raw inputs if a method starts at the input."""
        layers = min(method.first_layer(side) for method in methods)
        inputs = inputs.to(self.backbone.device)
        return front(self.backbone.tower(side), inputs, layers) if layers else inputs


def _rows(inputs: Tensor | Start, picked: Tensor) -> Tensor | Start:
    return inputs[picked] if isinstance(inputs, Tensor) else inputs.rows(picked)

"""Many trained classifiers on one loaded backbone, and batches that mix them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from interplay.classification.classifier import Classifier
from interplay.classification.model import PairClassifier
from interplay.data.picture_sources import Images, Words, text_list
from interplay.encoding.batches import Pixels, Texts
from interplay.encoding.inputs import pairs_of
from interplay.encoding.trainable import PairBatch
from interplay.errors import InterplayError, unknown
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
            InterplayError: an adapter that is not attached; else as `Classifier.predict_proba`.
        """
        inputs = pairs_of(images, texts)
        return self.predict_pixels(inputs.pixels(self.backbone), inputs.texts or (), adapters)

    def predict_pixels(
        self, pixels: Pixels, texts: Sequence[str], adapters: str | Sequence[str]
    ) -> list[Tensor]:
        """`predict_proba` of pictures that are read already.

        Args:
            pixels: (pairs, 3, size, size) uint8, as the backbone reads them.
            texts: one a picture.
            adapters: for each pair, the name of the adapter to use.

        Raises:
            InterplayError: as `predict_proba`.
        """
        adapters = text_list(adapters, "adapters")
        if len(adapters) != len(texts):
            raise InterplayError(f"Every pair needs an adapter: got {len(adapters)} for {len(texts)} pairs.")
        if not adapters:
            return []
        models = {name: self[name]._ready() for name in dict.fromkeys(adapters)}
        image = self._entered("image", torch.from_numpy(pixels), list(models.values()))
        read = self._texts(texts, list(models.values()))
        result: list[Tensor] = [torch.empty(0)] * len(adapters)
        for name, model in models.items():
            own = [row for row, wanted in enumerate(adapters) if wanted == name]
            picked = torch.tensor(own, device=self.backbone.device)
            text = read[model.reserve, model.suffix is not None]
            with torch.no_grad():
                values = model.probabilities(
                    model(self.backbone, PairBatch(_rows(image, picked), _rows(text, picked)))
                )
            for row, value in zip(own, values.cpu(), strict=True):
                result[row] = value
        return result

    def _texts(
        self, texts: Sequence[str], models: Sequence[PairClassifier]
    ) -> dict[tuple[int, bool], Tensor | Start]:
        """Texts by the positions that they leave free, and whether class texts continue them, from the input on."""
        found: dict[tuple[int, bool], Tensor | Start] = {}
        for reserve in {model.reserve for model in models}:
            ids = Texts.tokenized(self.backbone, texts, reserve=reserve).batch(range(len(texts)))
            apart = [model for model in models if model.reserve == reserve and model.suffix is None]
            found[reserve, True] = ids.to(self.backbone.device)
            if apart:
                found[reserve, False] = self._entered("text", ids, apart)
        return found

    def _entered(self, side: Side, inputs: Tensor, models: Sequence[PairClassifier]) -> Tensor | Start:
        """Inputs after the layers that no adapter changes or reads; raw inputs if one starts at the input."""
        layers = min(model.first_layer(side) for model in models)
        inputs = inputs.to(self.backbone.device)
        return front(self.backbone.tower(side), inputs, layers) if layers else inputs


def _rows(inputs: Tensor | Start, picked: Tensor) -> Tensor | Start:
    return inputs[picked] if isinstance(inputs, Tensor) else inputs.rows(picked)

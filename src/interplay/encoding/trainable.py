"""What training by gradient drives, whatever the task: pairs in batches, and a method with what follows it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import Side
from interplay.towers.walk import Keys, Routes, Start, encode


@dataclass(frozen=True)
class PairBatch:
    """A batch of pairs on its way into the towers.

    Attributes:
        images: pixels (batch, 3, size, size), or tokens after front layers that the method leaves alone.
        texts: ids (batch, length), or tokens after front layers.
        targets: (batch,) class indices, (batch, classes) of 0 and 1, or for retrieval (batch,) the number of the
            image; None when predicting.
        keys: for methods whose prompts are chosen by them; None: they are computed where they are needed.
    """

    images: Tensor | Start
    texts: Tensor | Start
    targets: Tensor | None = None
    keys: Keys | None = None


Gather = Callable[[Tensor], Tensor]
"""From the rows of this process to those of the whole batch, (batch, …), with their gradient."""


def alone(rows: Tensor) -> Tensor:
    """The rows of a batch that one process has for itself."""
    return rows


def keys_of(backbone: Backbone, batch: PairBatch) -> Keys:
    """The bare towers' normalised vectors of a batch."""
    if batch.keys is not None:
        return batch.keys
    with torch.no_grad():
        image = encode(backbone.image, "image", batch.images)
        text = encode(backbone.text, "text", batch.texts)
    return Keys(F.normalize(image, dim=-1), F.normalize(text, dim=-1))


class Trainable(nn.Module, ABC):
    """A method with what a task adds after it; its parameters that ask for a gradient are what is trained.

    Called with a backbone and a batch it gives (batch, output width), what the validation metrics are computed from.

    Args:
        method: what happens around the frozen layers.
    """

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def routes(self, backbone: Backbone, batch: PairBatch) -> Routes:
        """What both sides of true pairs take while they are trained: each by its own key, or both by the image's."""
        traits, choose = self.method.traits, self.method.sessions.training_route
        if not traits.reads_keys:
            return Routes()
        keys = keys_of(backbone, batch)
        text = keys.image if traits.routed_by_image else keys.text
        return Routes(choose("image", keys.image), choose("text", text))

    @property
    @abstractmethod
    def output_width(self) -> int:
        """How many numbers the model gives for a pair."""

    @property
    @abstractmethod
    def monitors(self) -> tuple[str, ...]:
        """The validation metrics that can decide which epoch is best, the usual one first."""

    @abstractmethod
    def front_layers(self) -> dict[Side, int]:
        """How many frozen layers before the first one that is not left alone there are on each side."""

    @abstractmethod
    def training_loss(self, backbone: Backbone, batch: PairBatch, gather: Gather = alone) -> Tensor:
        """What is minimised, a scalar: the task's loss, and what the method adds to it.

        Args:
            batch: the pairs of this process.
            gather: where several processes train together: collects everything that the loss compares or averages, so
                that it is the loss of the whole batch in each of them.
        """

    def unreached(self) -> InterplayError:
        """What is wrong where no gradient reaches the method."""
        return InterplayError(
            f"Nothing that the method '{self.method.name}' trains reaches the loss with these settings."
        )

    @abstractmethod
    def validation_values(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Loss and metrics from the outputs of a whole split."""

    @abstractmethod
    def decisive(self) -> dict[str, str]:
        """The settings of the model that the trained weights depend on."""

    @abstractmethod
    def check(self, name: str, kind: str, targets: Tensor) -> None:
        """Whether a table can train this model.

        Args:
            name: of the table.
            kind: of its labels.

        Raises:
            InterplayError: it cannot.
        """

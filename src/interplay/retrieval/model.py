"""Image-text retrieval: a method between the frozen towers, and a contrastive loss after them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from interplay.encoding.trainable import Gather, PairBatch, Trainable, alone, keys_of
from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.metrics.recall import retrieval_recall
from interplay.towers.backbone import Backbone
from interplay.towers.tokens import SIDES, Side
from interplay.towers.walk import Vectors, encode, encode_pair

BLOCK = 256
"""Pairs in a block of the validation loss, a mean over blocks: a contrastive loss depends on the number of pairs."""


def contrastive(
    image: Float[Tensor, "batch joint"],
    text: Float[Tensor, "batch joint"],
    owners: Int[Tensor, " batch"],
    scale: float,
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE (Radford et al., 2021): the mean of the cross-entropies over both directions.

    Args:
        image, text: vectors of pairs, normalised to length 1.
        owners: the image that each pair belongs to; two captions of one image are no negatives of each other.
        scale: factor on the cosines, 1/τ.
    """
    logits = scale * image @ text.T
    same = owners[:, None] == owners[None]
    apart = same & ~torch.eye(len(owners), dtype=torch.bool, device=owners.device)
    logits = logits.masked_fill(apart, float("-inf"))
    right = torch.arange(len(owners), device=owners.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


class PairRetriever(Trainable):
    """What is trained in one session of a retrieval stream: a method under the contrastive loss.

    A pair's targets are the number of its image. Outputs are the two normalised vectors, one after the other.

    Args:
        method: what happens around the frozen layers.
        joint: width of the joint space.
        scale: factor on cosine similarities, exp(logit_scale) of the backbone.
    """

    def __init__(self, method: Method, joint: int, scale: float) -> None:
        super().__init__(method)
        self.joint = joint
        self.scale = scale

    @property
    def output_width(self) -> int:
        """Twice the joint space."""
        return 2 * self.joint

    @property
    def monitors(self) -> tuple[str, ...]:
        """The loss over the whole split, and mean recall.

        A coupled method has no recall here: its vectors were made with the right partner at hand.
        """
        return ("loss",) if self.method.traits.coupled else ("loss", "mean_recall")

    def front_layers(self) -> dict[Side, int]:
        """The method's front layers."""
        return {side: self.method.first_layer(side) for side in SIDES}

    def vectors(self, backbone: Backbone, batch: PairBatch) -> Vectors:
        """Normalised vectors of a batch of pairs, by the prompts that are being trained."""
        routes = self.routes(backbone, batch)
        if self.method.traits.coupled:
            found = encode_pair(backbone, batch.images, batch.texts, self.method, routes=routes)
            image, text = found.image, found.text
        else:
            image = encode(backbone.image, "image", batch.images, self.method, route=routes.image)
            text = encode(backbone.text, "text", batch.texts, self.method, route=routes.text)
        return Vectors(F.normalize(image, dim=-1), F.normalize(text, dim=-1))

    def forward(self, backbone: Backbone, batch: PairBatch) -> Tensor:
        """A batch of pairs → (batch, 2·joint)."""
        vectors = self.vectors(backbone, batch)
        return torch.cat([vectors.image, vectors.text], dim=1)

    def training_loss(self, backbone: Backbone, batch: PairBatch, gather: Gather = alone) -> Tensor:
        """Symmetric InfoNCE, and what the method adds to it; arguments as `Trainable.training_loss`.

        Every pair is told from all others of the whole batch, whichever process has them.
        """
        assert batch.targets is not None
        vectors = self.vectors(backbone, batch)
        image, text, owners = (gather(rows) for rows in (vectors.image, vectors.text, batch.targets))
        base = contrastive(image, text, owners, self.scale)
        reads_keys = self.method.traits.reads_keys
        return self.method.objective(base, keys_of(backbone, batch).each(gather) if reads_keys else None)

    def validation_values(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Loss in blocks, and recall among the images and captions of the split; `mean_recall` over all k."""
        image, text = outputs[:, : self.joint], outputs[:, self.joint :]
        total = 0.0
        for start in range(0, len(targets), BLOCK):
            rows = slice(start, start + BLOCK)
            block = contrastive(image[rows], text[rows], targets[rows], self.scale)
            total += block.item() * len(targets[rows])
        if self.method.traits.coupled:
            return {"loss": total / len(targets)}
        owners, caption_of = torch.unique(targets, return_inverse=True)
        row_of = torch.zeros(len(owners), dtype=torch.long)
        row_of[caption_of] = torch.arange(len(targets))  # any of an image's rows: they hold the same vector
        found = retrieval_recall(image[row_of], text, caption_of)
        values = {f"{direction}_r{k}": v for direction, by_k in found.items() for k, v in by_k.items()}
        return {"loss": total / len(targets), **values, "mean_recall": sum(values.values()) / len(values)}

    def decisive(self) -> dict[str, str]:
        """Method, settings and the sessions before this one."""
        return {
            "method": f"{self.method.name} {self.method.settings}",
            "sessions": ", ".join(self.method.sessions.names),
        }

    def check(self, name: str, kind: str, targets: Tensor) -> None:
        """A contrastive loss needs two images."""
        if int(targets.min()) == int(targets.max()):
            raise InterplayError(
                f"{name} has one image with captions: to learn by comparison, a session needs at least 2."
            )

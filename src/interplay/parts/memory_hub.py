"""MITP's memory hub: consolidation and activation of temporal prompts (MITP §3.4, eq. 4–6)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interplay.parts.perceptron import perceptron, perceptron_count
from interplay.parts.similarity import Compared, Prompt, SimilarityShape, SimilarityType, similarity
from interplay.parts.temporal_prompts import Prompts
from interplay.towers.tokens import Shape


def apply_weights(weights: Compared, prompt: Prompt, shape: SimilarityShape) -> Prompt:
    """Activation weights times prompt tokens.

    Args:
        weights: as `similarity` gives them for `shape`; `pair` weights act as a matrix over the tokens.
        prompt: (batch, tokens, width).
    """
    if shape == "pair":
        return weights @ prompt
    return weights[:, :, None] * prompt if shape == "token" else weights[:, None] * prompt


def keep_norm(new: Prompt, old: Prompt) -> Prompt:
    """`new` with each token scaled to the length that `old` has there."""
    lengths: Tensor = old.norm(dim=-1, keepdim=True) / new.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    return new * lengths


def activation(
    a: Prompt, b: Prompt, kind: SimilarityType, shape: SimilarityShape, *, cross: bool
) -> Compared:
    """softmax(ReLU(sim(a, b))) (eq. 4–5); for `pair`, over the tokens of `b`."""
    return torch.relu(similarity(a, b, kind, shape, cross=cross)).softmax(dim=-1)


class MemoryHub(nn.Module):
    """p_m ← z_m·p_m + (1 − z_m)·r_m·p̃_{m'} for both modalities, one set of weights for all layers.

    p̃_{m'} = MLP_{m'→m}(p_{m'}), z_m = softmax(ReLU(sim(MLP_m(p_m), p_m))), r_m = softmax(ReLU(sim(p_m, p̃_{m'}))).
    With `pair` similarities z and r are matrices over the tokens and 1 is the identity.

    Args:
        shape: geometry of the towers.
        hidden: hidden width of the four two-layer perceptrons.
        kind, similarity_shape: see `similarity`.
        renormalise: scale what comes out to the lengths of p_m. The softmax over L tokens shrinks prompts by
            about 1/L a layer; the paper does not say whether that is meant.
    """

    def __init__(
        self,
        shape: Shape,
        hidden: int,
        kind: SimilarityType,
        similarity_shape: SimilarityShape,
        *,
        renormalise: bool,
    ) -> None:
        super().__init__()
        image, text = shape.image.width, shape.text.width
        self.kind = kind
        self.similarity_shape = similarity_shape
        self.renormalise = renormalise
        self.image_self = perceptron(image, hidden, image)
        self.text_self = perceptron(text, hidden, text)
        self.text_to_image = perceptron(text, hidden, image)
        self.image_to_text = perceptron(image, hidden, text)

    def forward(
        self, image: Float[Tensor, "batch length image"], text: Float[Tensor, "batch length text"]
    ) -> Prompts:
        """Prompts (batch, length, width) of both modalities → the next layer's."""
        return (
            self._blend(image, self.image_self(image), self.text_to_image(text)),
            self._blend(text, self.text_self(text), self.image_to_text(image)),
        )

    def _blend(self, own: Prompt, mapped_own: Prompt, other: Prompt) -> Prompt:
        shape = self.similarity_shape
        z = activation(mapped_own, own, self.kind, shape, cross=False)
        r = activation(own, other, self.kind, shape, cross=True)
        received = apply_weights(r, other, shape)
        blended = apply_weights(z, own, shape) + received - apply_weights(z, received, shape)
        return keep_norm(blended, own) if self.renormalise else blended

    @staticmethod
    def parameter_count(shape: Shape, hidden: int) -> int:
        """How many parameters the hub has."""
        widths = shape.image.width, shape.text.width
        return sum(perceptron_count(a, hidden, b) for a in widths for b in widths)

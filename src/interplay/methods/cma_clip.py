"""CMA-CLIP: attention over all patches and words after the towers, then over modalities (Liu et al., ICIP 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.settings import MethodSettings
from interplay.methods.traits import Traits
from interplay.towers.backbone import clip_only
from interplay.towers.tokens import Shape, Towers
from interplay.towers.walk import Pair


@dataclass(frozen=True)
class CmaClipSettings(MethodSettings):
    """Settings of CMA-CLIP; the paper's own values are not known to us.

    Attributes:
        width: common width of patches and words.
        layers: of the transformer encoder over both.
        heads: of its attention.
        hidden: hidden width of its perceptrons.
        dropout: in its layers, in training.
    """

    width: int = 256
    layers: int = 2
    heads: int = 4
    hidden: int = 1024
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.heads, self.hidden) < 1 or not 0 <= self.dropout < 1:
            raise InterplayError("CMA-CLIP needs width, layers, heads and hidden >= 1, and 0 <= dropout < 1.")
        if self.width % self.heads:
            raise InterplayError(
                f"CMA-CLIP splits its width among its heads, and {self.width} is no multiple of {self.heads}."
            )


class CmaClip(Method):
    """Sequence-wise attention over all patches and words, modality-wise attention over what it makes of each side.

    Z = encoder([W_v·LN(patches); W_t·LN(words)]); g_v and g_t are its rows at the class and the end token;
    a = softmax(W_a·[g_v; g_t] + b_a); f = a_v·g_v + a_t·g_t; x ← x + U_v·f, t ← t + U_t·f. LN is each tower's last
    norm; x and t are the pair's own vectors, so that every head works. U_v and U_t start at 0, where the vectors are
    the backbone's own; all other maps move from the second step on.

    A reimplementation from the abstract and secondary descriptions, no code being published: width, depth, pooling, the
    form of the gate and the way back into the joint space are ours. Deviation: the towers stay frozen (the original
    fine-tunes them), so both can be kept whole (`cache_prefix`).
    """

    Settings = CmaClipSettings
    traits = Traits(coupling="pair", fuses_vectors=True, reads_rows=True, starts_frozen=True)

    def __init__(self, shape: Shape, settings: CmaClipSettings) -> None:
        super().__init__(shape, settings)
        width = settings.width
        self.patches = nn.Linear(shape.image.width, width)
        self.words = nn.Linear(shape.text.width, width)
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                settings.heads,
                settings.hidden,
                settings.dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.modalities = nn.Linear(2 * width, 2)
        self.to_image = _silent(width, shape.joint)
        self.to_text = _silent(width, shape.joint)

    def _aggregates(self, backbone: Towers, pair: Pair) -> tuple[Tensor, Tensor]:
        """Sequence-wise attention: one row a side, (batch, width) each."""
        image, text, clip = pair.image, pair.text, clip_only(backbone, self.name)
        assert text.lengths is not None
        patches = self.patches(clip.image.norm_out(image.x))
        words = self.words(clip.text.norm_out(text.x))
        x = torch.cat([patches, words], dim=1)
        at = torch.arange(words.shape[1], device=x.device)
        padding = torch.cat(
            [torch.zeros_like(patches[:, :, 0], dtype=torch.bool), at >= text.lengths[:, None]], dim=1
        )
        for layer in self.encoder:
            x = layer(x, src_key_padding_mask=padding)
        ends = patches.shape[1] + text.lengths - 1
        rows = torch.arange(x.shape[0], device=x.device)
        return self.norm(x[:, 0]), self.norm(x[rows, ends])

    def pair_vectors(self, backbone: Towers, pair: Pair) -> tuple[Tensor, Tensor]:
        """The pair's vectors with what both modalities say together."""
        image, text = super().pair_vectors(backbone, pair)
        both = torch.stack(self._aggregates(backbone, pair), dim=1)
        weights = self.modalities(both.flatten(1)).softmax(dim=-1)
        fused = (weights[:, :, None] * both).sum(dim=1)
        return image + self.to_image(fused), text + self.to_text(fused)

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """A narrow encoder."""
        return {"width": 8, "layers": 2, "heads": 2, "hidden": 16}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: CmaClipSettings) -> int:
        """(d_v + d_t + 2)·w, layers·(4·w² + 2·w·h + 9·w + h), 2·w + 2·(2·w + 1) and 2·(w + 1)·joint."""
        width, hidden = settings.width, settings.hidden
        inside = (shape.image.width + shape.text.width + 2) * width
        encoder = settings.layers * (4 * width**2 + 2 * width * hidden + 9 * width + hidden)
        return inside + encoder + 2 * width + 2 * (2 * width + 1) + 2 * (width + 1) * shape.joint


def _silent(inputs: int, outputs: int) -> nn.Linear:
    """A linear map that starts at 0."""
    linear = nn.Linear(inputs, outputs)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear

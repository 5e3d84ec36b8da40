"""GLIP-T(A), frozen (Li et al., CVPR 2022): a detector whose classes are the tokens of a phrase.

This is the variant whose head never changes what the text side says, so the sides meet in one product, and prompts
enter at the towers alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.grounding.dynamic_head import DynamicHead
from interplay.grounding.pyramid import Pyramid
from interplay.grounding.token_head import Found, TokenHead
from interplay.towers.bert import BertTower
from interplay.towers.presets import GLIP_TINY
from interplay.towers.swin import SwinTower
from interplay.towers.tokens import SIDES, Shape
from interplay.towers.walk import Around, Routes, through_layers


@dataclass(frozen=True)
class GlipShape:
    """The geometry of a detector.

    Attributes:
        towers: of its two towers.
        channels: of the pyramid's levels.
        blocks: of the dynamic head.
    """

    towers: Shape
    channels: int = 256
    blocks: int = 6


TINY = GlipShape(GLIP_TINY)
"""GLIP-T: Swin-T and BERT-base, 151,430,526 parameters."""


LONGEST = 256
"""Tokens of a phrase, its start and end included; GLIP cuts longer ones."""


class Glip(nn.Module):
    """Two towers in lock-step, a pyramid over the image side's last three stages, and a head; all of it frozen.

    Args:
        shape: by default GLIP-T's.
        recompute: as for `DynamicHead`.

    Raises:
        ValueError: the towers have unequal numbers of layers.
    """

    def __init__(self, shape: GlipShape = TINY, *, recompute: bool = False) -> None:
        super().__init__()
        towers, channels = shape.towers, shape.channels
        if towers.image.depth != towers.text.depth:
            raise ValueError(
                f"{towers.image.depth} image layers do not go with {towers.text.depth} text layers"
            )
        self.geometry = shape
        self.image = SwinTower(towers.image)
        self.text = BertTower(towers.text)
        stages = range(1, len(towers.image.stages))
        self.pyramid = Pyramid([towers.image.width << stage for stage in stages], channels)
        self.tower = DynamicHead(channels, shape.blocks, recompute=recompute)
        self.head = TokenHead(channels, towers.text.width)
        self.requires_grad_(False)
        self.eval()

    @property
    def shape(self) -> Shape:
        """The geometry of both towers: all that a method needs to know."""
        return self.geometry.towers

    def forward(
        self, pixels: Tensor, ids: Tensor, method: Around | None = None, *, routes: Routes | None = None
    ) -> Found:
        """What it says of every anchor for pictures and their phrases.

        Args:
            pixels: (batch, 3, height, width), uint8, or float that is normalised already.
            ids: (batch, tokens) of the phrases, padded with 0.
            method: what happens around the layers of both towers; None: nothing.
            routes: which of the method's prompts each sample takes.

        Raises:
            InterplayError: the method changes no layer of the towers.
        """
        if method is not None and all(
            method.first_layer(side) >= self.shape.side(side).depth for side in SIDES
        ):
            raise InterplayError(
                f"The method '{method.name}' changes no layer of the towers, and a detector reads nothing else of it."
            )
        pair = through_layers(self, pixels, ids, method, routes=routes)
        real = self.text.real(pair.text)[:, : ids.shape[1]]
        words = pair.text.x[:, : ids.shape[1]] * real[..., None]
        levels = self.tower(self.pyramid(pair.image.maps[1:]))
        found: Found = self.head(levels, words)
        return found

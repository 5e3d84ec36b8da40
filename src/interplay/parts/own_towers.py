"""Towers of a method's own: copies of the frozen ones that are trained, embeddings and projections included."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.towers.clip import ImageTower, TextTower
from interplay.towers.tokens import Shape, Side, Tokens, Tower, TowerShape

if TYPE_CHECKING:
    from interplay.towers.backbone import Backbone


class OwnTowers(nn.Module):
    """Copies of either or both towers. The frozen ones are never touched, so other methods may go on using them.

    Fresh copies hold random weights until `fill`. All of their weights are saved with the method, so its artefact is
    as large as the towers.

    Args:
        shape: geometry of the towers.
        sides: which towers are copied.

    Raises:
        InterplayError: a tower is none of CLIP's.
    """

    def __init__(self, shape: Shape, sides: Iterable[Side]) -> None:
        super().__init__()
        chosen = tuple(sides)
        if any(shape.side(side).kind != "clip" for side in chosen):
            raise InterplayError("Only CLIP's towers can be copied and trained whole: choose another method.")
        self.image = ImageTower(shape.image) if "image" in chosen else None
        self.text = TextTower(shape.text) if "text" in chosen else None

    def own(self, side: Side) -> ImageTower | TextTower | None:
        """The copy of a side's tower, if there is one."""
        return self.image if side == "image" else self.text

    def tower(self, side: Side, frozen: Tower) -> Tower:
        """What a side runs on: the copy, or else the frozen tower."""
        return self.own(side) or frozen

    def fill(self, backbone: Backbone) -> None:
        """Give the copies the weights of the frozen towers."""
        for side in ("image", "text"):
            own = self.own(side)
            if own is not None:
                own.load_state_dict(backbone.tower(side).state_dict(), strict=True)

    def embed(self, side: Side, frozen: Tower, inputs: Tensor) -> Tokens:
        """Raw inputs to the tokens that enter layer 0; pixels are normalised as the backbone says."""
        own = self.own(side)
        if own is None:
            return frozen.embed(inputs)
        return own.embed(frozen.normalised(inputs) if isinstance(frozen, ImageTower) else inputs)

    @staticmethod
    def parameter_count(shape: Shape, sides: Iterable[Side]) -> int:
        """Σ over the copies of `tower_count`."""
        return sum(tower_count(shape.side(side)) for side in sides)


def tower_count(shape: TowerShape) -> int:
    """How many parameters one tower of width d, hidden width h and depth D has.

    D·(4·d² + 2·d·h + 9·d + h) for the layers, positions·d + 2·d + d·joint for what both towers have, and
    vocabulary·d (text), or 3·patch²·d + d + 2·d (image: patches, class token, first norm).
    """
    width, hidden = shape.width, shape.hidden
    layers = shape.depth * (4 * width**2 + 2 * width * hidden + 9 * width + hidden)
    both = (shape.length + 2 + shape.joint) * width
    only = shape.vocabulary if shape.vocabulary else 3 * shape.patch_size**2 + 3
    return layers + both + only * width

"""MMBT on CLIP's towers: pooled patches join the text as tokens of a fine-tuned text tower (Kiela et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.settings import MethodSettings
from interplay.methods.traits import Traits
from interplay.parts.gates import Beginning, every_layer, gate_count, gated, gates_of
from interplay.parts.own_towers import OwnTowers
from interplay.parts.temporal_prompts import Visibility
from interplay.towers.backbone import Backbone, clip_only
from interplay.towers.tokens import SIDES, Shape, Side, Tokens, Tower, Towers
from interplay.towers.walk import Pair, Step


@dataclass(frozen=True)
class MmbtSettings(MethodSettings):
    """Settings of MMBT on CLIP's towers.

    Attributes:
        pictures: image tokens N that the map of patches is pooled to, one a horizontal strip (released script: 3).
        tune: which towers are fine-tuned, on copies that the method owns: `text`, `image`, `both` (as the original
            does in the end), or `none`, where the linear map and the segments alone are trained.
        visibility: `full`: image tokens see every token of the text, as in BERT. `causal`: the start token and one
            another's past alone.
        start: `paper`, or `frozen`: the image tokens stand behind gates that start closed (`Gates`), and the text
            segment starts at 0.
    """

    pictures: int = 3
    tune: Literal["text", "image", "both", "none"] = "text"
    visibility: Visibility = "full"
    start: Beginning = "paper"

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"mmbt-frozen": {"tune": "none"}}

    def __post_init__(self) -> None:
        if self.pictures < 1:
            raise InterplayError("MMBT needs pictures >= 1.")

    @property
    def tuned(self) -> tuple[Side, ...]:
        """The towers that are fine-tuned."""
        return tuple(side for side in SIDES if self.tune in (side, "both"))


class Mmbt(Method):
    """The text tower reads [start; W·p_1 … W·p_N; text], p_n the mean of a strip of the image tower's last patches.

    Patches go through the image tower's last norm before they are pooled. Image and text tokens get a segment embedding
    each, N(0, 0.02²), and positions that count from the start for both. The text vector is the fused one: a head
    `linear` on `features = text` reads what the original's does, others read the image tower's own vector as well.

    A variant on CLIP, not to be compared with the published figures. Deviations: CLIP's towers in place of BERT and
    ResNet-152, whose weights are no language model's; the start token carries the text segment and does not see the
    image tokens, since the text tower is causal; no separator after the image tokens; no pooler; nothing is frozen for
    the first epochs.

    With a tower fine-tuned the artefact is as large as that tower.

    Raises:
        InterplayError: more image tokens than the map of patches has rows.
    """

    Settings = MmbtSettings
    traits = Traits(coupling="pair", order="image_first", reads_rows=True, learning_rate=1e-4)

    def __init__(self, shape: Shape, settings: MmbtSettings) -> None:
        super().__init__(shape, settings)
        self.grid = shape.image.image_size // shape.image.patch_size
        if settings.pictures > self.grid:
            raise InterplayError(
                f"MMBT cannot pool {self.grid} rows of patches to {settings.pictures} tokens: set pictures lower."
            )
        self.traits = replace(
            self.traits,
            own_embedding="text" in settings.tuned,
            starts_frozen=settings.start == "frozen",
        )
        self.towers = OwnTowers(shape, settings.tuned)
        self.to_text = nn.Linear(shape.image.width, shape.text.width)
        self.segments = nn.Parameter(torch.randn(2, shape.text.width) * 0.02)
        self.gates = gates_of(settings.start, shape, every_layer(shape, ("text",)))
        if settings.start == "frozen":
            nn.init.zeros_(self.segments[1])

    def start_from(self, backbone: Backbone) -> None:
        """The backbone's weights for the towers that are fine-tuned."""
        self.towers.fill(backbone)

    def first_layer(self, side: Side) -> int:
        """Image tokens join before the first text layer; an image tower that is not tuned is left alone."""
        return self.shape.image.depth if side == "image" and "image" not in self.settings.tuned else 0

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """The own embedding of a tower that is fine-tuned."""
        return self.towers.embed(side, tower, inputs)

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """The own layer of a tower that is fine-tuned; of the last text layer the pooled row is enough."""
        last = side == "text" and i == self.shape.text.depth - 1
        tokens = gated(self.gates, side, i, tokens.for_next(pooled_only=last))
        return self.towers.tower(side, tower).layer(i, tokens)

    def vector(self, side: Side, tower: Tower, tokens: Tokens) -> Tensor:
        """The own last norm and projection of a tower that is fine-tuned."""
        return self.towers.tower(side, tower).pool(tokens)

    def _pictures(self, backbone: Towers, image: Tokens) -> Tensor:
        """Finished image tokens → (batch, N, text width), without positions and segment."""
        norm = (self.towers.image or clip_only(backbone, self.name).image).norm_out
        patches = norm(image.x[:, 1:]).transpose(1, 2).unflatten(2, (self.grid, self.grid))
        pooled = F.adaptive_avg_pool2d(patches, (self.settings.pictures, 1)).flatten(2)
        tokens: Tensor = self.to_text(pooled.transpose(1, 2))
        return tokens

    def pair_layer(self, step: Step, backbone: Towers, pair: Pair) -> Pair:
        """Before the first text layer the image tokens join the text."""
        if step.text == 0:
            tower = self.towers.text or clip_only(backbone, self.name).text
            positions = tower.positions[1 : 1 + self.settings.pictures]
            pictures = self._pictures(backbone, pair.image) + positions + self.segments[0]
            suffix = None if pair.text.suffix is None else pair.text.suffix + self.segments[1]
            text = replace(pair.text, x=pair.text.x + self.segments[1], suffix=suffix)
            text = backbone.text.put(text, pictures, see_all=self.settings.visibility == "full")
            pair = Pair(pair.image, text)
        return super().pair_layer(step, backbone, pair)

    @classmethod
    def parameter_count(cls, shape: Shape, settings: MmbtSettings) -> int:
        """(d_v + 1)·d_t + 2·d_t, the gates of all text layers, and all of the towers that are fine-tuned."""
        own = (shape.image.width + 3) * shape.text.width
        own += gate_count(settings.start, shape, every_layer(shape, ("text",)))
        return own + OwnTowers.parameter_count(shape, settings.tuned)

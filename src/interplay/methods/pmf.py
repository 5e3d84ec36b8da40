"""PMF: prompt-based multimodal fusion of two frozen towers on their last layers (Li et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.settings import MethodSettings
from interplay.methods.traits import Traits
from interplay.parts.gates import Beginning, GatedLayers, gate_count, gated, gates_of, placed
from interplay.parts.perceptron import perceptron_count
from interplay.parts.temporal_prompts import Visibility
from interplay.towers.tokens import AS_IT_IS, SIDES, Shape, Side, Tokens, Tower, Towers, other
from interplay.towers.walk import Pair, Step

KINDS = ("query", "query_context", "fusion_context")


@dataclass(frozen=True)
class PmfSettings(MethodSettings):
    """Settings of PMF.

    Attributes:
        fusion_layers: how many layers at the end of each tower fuse (F; released: 2).
        length: tokens of each of the three kinds of prompt, a fusion layer and modality (released: 4).
        visibility: `full`: in the causal text tower prompt rows see every token of the text, as in the bidirectional
            one of the paper. `causal`: they see the start token and one another's past alone.
        hidden: width of the perceptrons between the sides: half of the side that each reads (`own`), or half of the
            wider side for both, as released (`wider`). The same on towers of equal width, as the paper's are.
        start: `paper`, or `frozen`: the fusion stage stands behind gates that start closed (`Gates`).
    """

    fusion_layers: int = 2
    length: int = 4
    visibility: Visibility = "full"
    hidden: Literal["own", "wider"] = "own"
    start: Beginning = "paper"

    def __post_init__(self) -> None:
        if self.fusion_layers < 1 or self.length < 1:
            raise InterplayError("PMF needs fusion_layers >= 1 and length >= 1.")


class Pmf(Method):
    """On the last F layers of both towers prompts ask each modality, and the other one reads the answer.

    Query stage: layer([tokens; QCP; QP]) → the rows of QP → a perceptron d → d/2 → d' (`hidden`) → the other tower.
    Fusion stage: the same frozen layer on [tokens; FCP; what was received]; the extra rows are dropped. QP, QCP and FCP
    (query, query context and fusion context prompts) are free, N(0, 0.02²), each layer's own, as are the perceptrons
    (ReLU).
    Nothing before the last F layers gets a gradient.

    The last layers of the two towers fuse with one another, whatever their depths. In the released code FCP stays
    frozen, since a condition names an attribute that never exists; here it is trained, as the paper says.

    Deviations: CLIP's towers (the paper: ViT and BERT); prompts come after the first token, and the text tower's
    start token cannot see them; the head is one of this library's (the paper: the mean of two linear heads).

    Raises:
        InterplayError: more fusion layers than a tower has.
    """

    Settings = PmfSettings
    traits = Traits(coupling="pair", order="end")

    def __init__(self, shape: Shape, settings: PmfSettings) -> None:
        super().__init__(shape, settings)
        fusing, shallow = settings.fusion_layers, min(shape.image.depth, shape.text.depth)
        if fusing > shallow:
            raise InterplayError(
                f"PMF cannot fuse on {fusing} layers: the shallower tower has {shallow}. Set fusion_layers lower."
            )
        for side in SIDES:
            for kind in KINDS:
                size = fusing, settings.length, shape.side(side).width
                self.register_parameter(f"{side}_{kind}_prompts", nn.Parameter(torch.randn(size) * 0.02))
        self.maps = nn.ModuleDict(
            {side: nn.ModuleList(_map(shape, side, settings) for _ in range(fusing)) for side in SIDES}
        )
        self.gates = gates_of(settings.start, shape, _fused_layers(shape, settings))
        self.traits = replace(self.traits, starts_frozen=settings.start == "frozen")

    def first_layer(self, side: Side) -> int:
        """The first fusion layer."""
        return self.shape.side(side).depth - int(self.settings.fusion_layers)

    def _prompts(self, side: Side, kind: str, at: int) -> Tensor:
        return self.get_parameter(f"{side}_{kind}_prompts")[at]

    def _ask(self, side: Side, i: int, at: int, tower: Tower, tokens: Tokens) -> Tensor:
        """Query stage: what a side tells the other one, (batch, length, the other side's width)."""
        prompts = torch.cat([self._prompts(side, "query_context", at), self._prompts(side, "query", at)])
        asked = tower.put(tokens, prompts, see_all=self.settings.visibility == "full")
        out = tower.layer(i, replace(asked, next=AS_IT_IS, suffix=None))
        answer: Tensor = self.maps[side][at](tower.slots(out)[:, -self.settings.length :])  # type: ignore[index]
        return answer

    def _fuse(self, side: Side, i: int, at: int, tower: Tower, tokens: Tokens, received: Tensor) -> Tokens:
        """Fusion stage: the frozen layer with what the other side told."""
        context = self._prompts(side, "fusion_context", at).expand(received.shape[0], -1, -1)
        prompts = torch.cat([context, received], dim=1)
        see_all = self.settings.visibility == "full"
        fused = placed(self.gates, tower, tokens, prompts, last=True, see_all=see_all)
        return tower.drop(tower.layer(i, gated(self.gates, side, i, fused)))

    def pair_layer(self, step: Step, backbone: Towers, pair: Pair) -> Pair:
        """Both stages on a fusion layer; the others are left alone."""
        image, text = step.image, step.text
        if image is None or text is None or image < self.first_layer("image"):
            return super().pair_layer(step, backbone, pair)
        at = image - self.first_layer("image")
        from_image = self._ask("image", image, at, backbone.image, pair.image)
        from_text = self._ask("text", text, at, backbone.text, pair.text)
        return Pair(
            self._fuse("image", image, at, backbone.image, pair.image, from_text),
            self._fuse("text", text, at, backbone.text, pair.text, from_image),
        )

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Short prompts."""
        return {"length": 3}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: PmfSettings) -> int:
        """F·(3·L·(d_v + d_t) + the perceptrons d → d/2 → d' of both directions), and the gates of F layers."""
        image, text = shape.image.width, shape.text.width
        maps = perceptron_count(image, _hidden(shape, "image", settings), text)
        maps += perceptron_count(text, _hidden(shape, "text", settings), image)
        gates = gate_count(settings.start, shape, _fused_layers(shape, settings))
        return settings.fusion_layers * (3 * settings.length * (image + text) + maps) + gates


def _fused_layers(shape: Shape, settings: PmfSettings) -> GatedLayers:
    """The last F layers of each side."""
    depths = {side: shape.side(side).depth for side in SIDES}
    return {side: range(depth - settings.fusion_layers, depth) for side, depth in depths.items()}


def _hidden(shape: Shape, side: Side, settings: PmfSettings) -> int:
    """Width inside the perceptron that reads a side."""
    widths = [shape.side(side).width] if settings.hidden == "own" else [shape.side(s).width for s in SIDES]
    return max(widths) // 2


def _map(shape: Shape, side: Side, settings: PmfSettings) -> nn.Sequential:
    """From a side's width to the other's."""
    inside, outside, hidden = (
        shape.side(side).width,
        shape.side(other(side)).width,
        _hidden(shape, side, settings),
    )
    return nn.Sequential(nn.Linear(inside, hidden), nn.ReLU(), nn.Linear(hidden, outside))

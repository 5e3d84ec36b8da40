"""LPI: low-rank prompt interaction for continual vision-language retrieval (Yan et al., 2024).

Deep prompts of both modalities share a low-rank factor, are aligned across layers and across tasks, and in LPI-P each
modality's prompt slots are fused with the other's. Every task has a set of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.sessions import sessions_of
from interplay.methods.settings import MethodSettings
from interplay.methods.traits import Traits
from interplay.parts.gates import Beginning, every_layer, gate_count, gates_of
from interplay.parts.low_rank import FullPrompts, LowRankMaps, LowRankPrompts
from interplay.parts.prompt_alignment import (
    cross_task_alignment,
    hierarchical_alignment,
    like_tasks,
    task_similarity,
)
from interplay.parts.prompt_bank import PromptBank, Sessions
from interplay.parts.task_keys import Distance
from interplay.ranges import Choice, Ranges, Real, Whole
from interplay.towers.tokens import SIDES, Shape, Side, Tokens, Tower, Towers, other
from interplay.towers.walk import Keys, Pair, Step

RELEASED_LAYERS = 12
"""The number of layers that the released fusion has room for, whatever the depth."""


@dataclass(frozen=True)
class LpiSettings(MethodSettings):
    """Settings of LPI.

    Attributes:
        depth: prompted layers D, from the first; at most as deep as the shallower tower.
        length: prompt tokens L of each modality.
        rank: r of the prompts' decomposition.
        decompose: low-rank prompts that share a factor (LID, §4.1); false: free ones ("common prompting", Table 3).
        deviation: of the normal distribution that the factors start from (released code; the paper is silent).
        alignment: whether HPA (§4.2) takes part in the loss.
        task_alignment: whether CPA (§4.4) does.
        fusion: CPF (§4.3): `none` (LPI-M); `own`: each modality's slots are fused with the prompts that the same
            task has on the other side, so the sides can be encoded apart; `pair`: with the slots of the sample that it
            is paired with (paper-literal; needs pairs).
        fusion_rank: rank of the maps between the modalities.
        fusion_profile: `paper`, eq. 6 as printed; `released`: Ĩ_m = LayerNorm_m(λ I_m + (1 − λ)·map_i(I_m')), as in the
            released code, with room for 12 maps of which the i-th serves layer i, their factors from U(±1/√r').
        momentum: λ, what a slot keeps of itself in the fusion.
        modal_temperature, task_temperature: τ of HPA and CPA.
        weights: of base loss, HPA and CPA.
        threshold: cosine of two task names from which their tasks are alike; None: `threshold_quantile` of the
            cosines between the tasks seen so far (the paper's 0.4 belongs to its own embeddings).
        threshold_quantile: see `threshold`.
        text_positions: whether the text slots take positions of their own after the start token, as placeholder
            words do; otherwise they stand between the positions and the caption keeps its own.
        sessions: `own`: a set of prompts a session; `shared`: one set, trained on and on (sequential fine-tuning).
        centres, distance: of the keys that tell a sample's session (`TaskKeys`).
        start: `paper`, or `frozen`: behind gates that start closed, exactly as the frozen model (`Gates`).
    """

    depth: int = 9
    length: int = 16
    rank: int = 4
    decompose: bool = True
    deviation: float = 0.5
    alignment: bool = True
    task_alignment: bool = True
    fusion: Literal["none", "own", "pair"] = "none"
    fusion_rank: int = 4
    fusion_profile: Literal["paper", "released"] = "paper"
    momentum: float = 0.9
    modal_temperature: float = 0.01
    task_temperature: float = 0.01
    weights: tuple[float, ...] = (0.8, 0.1, 0.1)
    threshold: float | None = None
    threshold_quantile: float = 0.75
    text_positions: bool = False
    sessions: Sessions = "own"
    centres: int = 5
    distance: Distance = "l1"
    start: Beginning = "paper"

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "lpi-m": {"fusion": "none"},
        "lpi-p": {"fusion": "own"},
        "lpi-m-sequential": {"fusion": "none", "sessions": "shared", "task_alignment": False},
        "lpi-p-sequential": {"fusion": "own", "sessions": "shared", "task_alignment": False},
    }
    ranges: ClassVar[Ranges] = {
        "depth": Whole(2, 12),
        "length": Whole(1, 16, log=True),
        "rank": Whole(1, 16, log=True),
        "deviation": Real(0.02, 1.0, log=True),
        "fusion": Choice(("none", "own")),
        "fusion_rank": Whole(1, 16, log=True),
        "momentum": Real(0.5, 1.0),
    }

    def __post_init__(self) -> None:
        for name in ("depth", "length", "rank", "fusion_rank", "centres"):
            if getattr(self, name) < 1:
                raise InterplayError(f"LPI needs {name} >= 1, not {getattr(self, name)}.")
        if self.fusion != "none" and self.depth < 2:
            raise InterplayError("LPI's fusion stands between prompted layers: it needs depth >= 2.")
        if self.fusion != "none" and self.fusion_profile == "released" and self.depth > RELEASED_LAYERS:
            raise InterplayError(
                f"LPI's released fusion has maps for {RELEASED_LAYERS} layers, not {self.depth}."
            )
        if not 0 <= self.momentum <= 1 or not 0 <= self.threshold_quantile <= 1:
            raise InterplayError("LPI's momentum and threshold_quantile lie in [0, 1].")
        if min(self.modal_temperature, self.task_temperature) <= 0:
            raise InterplayError("LPI's temperatures must be above 0.")
        if len(self.weights) != 3:
            raise InterplayError("LPI's weights are three: of the base loss, HPA and CPA.")
        if self.text_positions and self.start == "frozen":
            raise InterplayError(
                "LPI's text_positions move the words of a text: with start = frozen leave them out."
            )


class LpiPrompts(nn.Module):
    """The set of one session: prompts, and with a fusion the maps between the modalities.

    Called with a side it gives what is added to the slots: the prompts themselves, or for `fusion = own`
    λ·P_i + (1 − λ)·map_i(Σ_{j ≤ i} P'_j) with the other side's prompts P', what its slots would hold if the
    frozen layers left them alone; the factor λ on the slots, and the norm after the sum, are the method's to apply.

    Sets of version 0.1.0 with `fusion_profile = released` had a norm before each map in place of the released one
    after the sum. They are known by the names of its tensors, and stay what they were.

    Args:
        older: the sets of the sessions before, of whose version it is.
    """

    def __init__(
        self, shape: Shape, settings: LpiSettings, depth: int, older: Sequence[nn.Module] = ()
    ) -> None:
        super().__init__()
        s = settings
        self.settings = s
        self.prompts: LowRankPrompts | FullPrompts = (
            LowRankPrompts(shape, depth, s.length, s.rank, s.deviation)
            if s.decompose
            else FullPrompts(shape, depth, s.length)
        )
        self.gates = gates_of(s.start, shape, every_layer(shape))
        if s.fusion == "none":
            return
        released = s.fusion_profile == "released"
        layers, deviation = (RELEASED_LAYERS, None) if released else (depth - 1, s.deviation)
        image, text = shape.image.width, shape.text.width
        self.to_image = LowRankMaps(layers, text, image, s.fusion_rank, deviation)
        self.to_text = LowRankMaps(layers, image, text, s.fusion_rank, deviation)
        self.norms = nn.ModuleDict(
            {"image": nn.LayerNorm(image), "text": nn.LayerNorm(text)} if released else {}
        )
        self.image_norm: nn.Module = nn.Identity()
        self.text_norm: nn.Module = nn.Identity()
        if released and not all(old.normed for old in older):  # all of one version
            self.norm_in_front()

    @property
    def normed(self) -> bool:
        """Whether a LayerNorm comes after the sum of eq. 6."""
        return self.settings.fusion != "none" and len(self.norms) > 0

    def seen(self, side: Side, layer: int, across: Tensor) -> Tensor:
        """VIS (to the image side) or TEXT of what the other side's slots hold before `layer`, from 1."""
        maps, norm = (self.to_image, self.text_norm) if side == "image" else (self.to_text, self.image_norm)
        found: Tensor = maps(layer if self.normed else layer - 1, norm(across))
        return found

    def fused(self, side: Side, layer: int, slots: Tensor, across: Tensor) -> Tensor:
        """Eq. 6: what a side's slots become before `layer`, given what the other side's hold."""
        keep = self.settings.momentum
        mixed = keep * slots + (1 - keep) * self.seen(side, layer, across)
        return self.norms[side](mixed) if self.normed else mixed

    def forward(self, side: Side) -> Tensor:
        """What is added to the slots of a side, (layers, length, width)."""
        own: Tensor = self.prompts(side)
        if self.settings.fusion != "own":
            return own
        keep = self.settings.momentum
        across: Tensor = self.prompts(other(side)).cumsum(dim=0)
        added = [own[0]]
        for layer in range(1, len(own)):
            added.append(keep * own[layer] + (1 - keep) * self.seen(side, layer, across[layer]))
        return torch.stack(added)

    def norm_in_front(self) -> None:
        """Make it a set of version 0.1.0, whose tensors keep their names."""
        self.image_norm, self.text_norm = self.norms["image"], self.norms["text"]
        self.norms = nn.ModuleDict()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """As every module's; tensors of version 0.1.0 make it a set of that version."""
        if f"{prefix}text_norm.weight" in state_dict and self.normed:
            self.norm_in_front()
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Lpi(Method):
    """Low-rank deep prompts, added to their slots layer by layer, one set a session (LPI §3.3, §4).

    Before layer 0 the slots join the tokens after the first one and hold P_0. Before layers 1 … D−1 P_i
    is added to what they hold; after layer D they run on (§3.3). Loss 0.8·base + 0.1·HPA + 0.1·CPA (eq. 12).

    Deviations: the image slots enter after the tower's first norm; by default the text slots take no positions from
    the caption (`text_positions`); `fusion = own` stands in for CPF where query and gallery item are no pair.

    Raises:
        InterplayError: contradicting settings.
    """

    Settings = LpiSettings

    def __init__(self, shape: Shape, settings: LpiSettings) -> None:
        super().__init__(shape, settings)
        self.depth = depth = min(settings.depth, shape.image.depth, shape.text.depth)
        self.traits = Traits(
            coupling="pair" if settings.fusion == "pair" else "apart",
            reserve=settings.length if settings.text_positions else 0,
            starts_frozen=settings.start == "frozen",
        )
        make = partial(LpiPrompts, shape, settings, depth)
        self.bank = PromptBank(make, settings.centres, settings.distance)
        self.sessions = sessions_of(self.name, self.bank, settings.sessions)

    def first_layer(self, side: Side) -> int:
        """Prompts enter before the first layer."""
        return 0

    def _newest(self) -> LpiPrompts:
        newest: LpiPrompts = self.bank.newest  # type: ignore[assignment]
        return newest

    def embed(self, side: Side, tower: Tower, inputs: Tensor, route: Tensor | None) -> Tokens:
        """Text slots that take positions enter with the caption."""
        if side == "image" or not self.settings.text_positions:
            return tower.embed(inputs)
        empty = inputs.new_zeros(self.settings.length, tower.shape.width, dtype=torch.float32)
        return tower.embed(inputs, context=empty)

    def _prompted(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """The tokens before layer `i` with the prompts added, before any fusion with a partner."""
        tokens = self.bank.hold(side, tokens)
        added = tokens.held_for(i, self.settings.length)
        if tokens.prompts == 0:
            return tower.put(tokens, added)
        if not i or self.settings.fusion != "own":
            return tower.put(tokens, tower.slots(tokens) + added)
        slots = self.settings.momentum * tower.slots(tokens) + added
        if self._newest().normed:
            weight, bias = self._norm(side, tokens.route)
            slots = F.layer_norm(slots, slots.shape[-1:]) * weight + bias
        return tower.put(tokens, slots)

    def _norm(self, side: Side, route: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weight and bias of the norm after the sum: of the newest set, or (batch, 1, width) of each sample's own."""
        sets: list[LpiPrompts] = [self._newest()] if route is None else list(self.bank.sets)  # type: ignore[arg-type]
        norms = [prompts.norms[side] for prompts in sets]
        weights, biases = (
            torch.stack([norm.get_parameter(p)[None] for norm in norms]) for p in ("weight", "bias")
        )
        return (weights[0], biases[0]) if route is None else (weights[route], biases[route])

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """Prompts are added before the first D layers."""
        if i < self.depth:
            tokens = self._prompted(side, i, tower, tokens)
        return tower.layer(i, self.bank.gated(side, i, tokens))

    def pair_layer(self, step: Step, backbone: Towers, pair: Pair) -> Pair:
        """With `fusion = pair`, the slots of true pairs are fused before layers 1 … D−1 (eq. 6)."""
        if self.settings.fusion != "pair" or step.image is None or not 0 < step.image < self.depth:
            return super().pair_layer(step, backbone, pair)
        i, chosen = step.image, self._set_of(pair)
        image = self._prompted("image", i, backbone.image, pair.image)
        text = self._prompted("text", i, backbone.text, pair.text)
        seen, read = backbone.image.slots(image), backbone.text.slots(text)
        image = backbone.image.put(image, chosen.fused("image", i, seen, read))
        text = backbone.text.put(text, chosen.fused("text", i, read, seen))
        return Pair(
            backbone.image.layer(i, self.bank.gated("image", i, image)),
            backbone.text.layer(i, self.bank.gated("text", i, text)),
        )

    def _set_of(self, pair: Pair) -> LpiPrompts:
        """The one set whose maps fuse a batch of pairs."""
        routes = [side.route for side in (pair.image, pair.text) if side.route is not None]
        if not routes:
            return self._newest()
        asked = torch.cat(routes)
        if len(routes) != 2 or int(asked.min()) != int(asked.max()):
            raise ValueError("pairs that are fused in one batch must all take the prompts of one session")
        chosen: LpiPrompts = self.bank.sets[int(asked[0])]  # type: ignore[assignment]
        return chosen

    def task_threshold(self) -> float:
        """The cosine of two task names from which they count as alike, among the sessions so far."""
        return self._alike()[1]

    def _alike(self) -> tuple[Tensor, float]:
        meanings = torch.stack([kept.meaning for kept in self.bank.keys.sessions()])
        return like_tasks(meanings, self.settings.threshold, self.settings.threshold_quantile)

    def _older(self, side: Side) -> tuple[Tensor, Tensor]:
        """The prompts of the older sessions, (sessions, …) each of length 1, and their cosines to one another."""

        def compare(sets: Sequence[nn.Module]) -> tuple[Tensor, Tensor]:
            place = next(self.parameters()).device.type
            with torch.autocast(place, enabled=False):  # whatever the step's precision
                flat = torch.stack([old.prompts(side).flatten() for old in sets])  # type: ignore[operator]
                older = F.normalize(flat, dim=1)
                return older, older @ older.T

        return self.bank.once(f"compared {side}", compare)

    def objective(self, base: Tensor, keys: Keys | None) -> Tensor:
        """λ₁·base + λ₂·HPA + λ₃·CPA (eq. 12); CPA is 0 for the first task."""
        s = self.settings
        total: Tensor = s.weights[0] * base
        prompts = {side: self._newest().prompts(side) for side in SIDES}
        if s.alignment:
            total = total + s.weights[1] * hierarchical_alignment(
                prompts["image"], prompts["text"], s.modal_temperature
            )
        if s.task_alignment and len(self.bank.sets) > 1:
            alike = self._alike()[0].to(base.device)
            for side in SIDES:
                older, among = self._older(side)
                similarity = task_similarity(prompts[side].flatten(), older, among)
                loss = cross_task_alignment(similarity, alike, s.task_temperature)
                total = total + s.weights[2] * loss / 2
        return total

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """Few short prompts."""
        return {"depth": 3, "length": 2, "rank": 2, "fusion_rank": 2}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: LpiSettings) -> int:
        """r·(D + 2·L + d_v + d_l) a session; with a fusion r'·(2·(D − 1) + 2·(d_v + d_l) + 2) more; and the gates."""
        s = settings
        depth = min(s.depth, shape.image.depth, shape.text.depth)
        image, text = shape.image.width, shape.text.width
        if s.decompose:
            total = LowRankPrompts.parameter_count(shape, depth, s.length, s.rank)
        else:
            total = FullPrompts.parameter_count(shape, depth, s.length)
        total += gate_count(s.start, shape, every_layer(shape))
        if s.fusion == "none":
            return total
        released = s.fusion_profile == "released"
        layers = RELEASED_LAYERS if released else depth - 1
        for inputs, outputs in ((text, image), (image, text)):
            total += LowRankMaps.parameter_count(layers, inputs, outputs, s.fusion_rank)
            total += 2 * inputs if released else 0
        return total

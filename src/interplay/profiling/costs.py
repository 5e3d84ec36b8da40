"""What a method costs on a backbone, counted without any weights: parameters and floating-point operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from interplay.classification.model import PairClassifier
from interplay.encoding.trainable import PairBatch, Trainable
from interplay.errors import InterplayError
from interplay.grounding.glip import LONGEST, Glip, GlipShape
from interplay.methods.base import Method
from interplay.methods.registry import MethodChoice, choose
from interplay.parts.heads import Head, HeadSettings
from interplay.retrieval.model import PairRetriever
from interplay.towers.backbone import Backbone, shape_of
from interplay.towers.clip import ImageTower, TextTower
from interplay.towers.presets import COUNTED
from interplay.towers.tokens import SIDES, Shape
from interplay.towers.walk import Routes


@dataclass(frozen=True)
class Cost:
    """What one method costs on one backbone.

    Attributes:
        backbone, method: their names.
        backbone_parameters: frozen: of both towers, and of a detector's head.
        trained_parameters: of the method, in one session; heads are counted apart, since every method of a table
            shares them.
        trained_fraction: trained / backbone parameters.
        sessions: K of a stream; 0: none was asked for.
        session_parameters: of the method after K sessions, those of older ones included.
        text_tokens: the caption length that the operations are counted for.
        forward_gflops: 10⁹ floating-point operations of one pair's forward (a multiply-add counts as 2).
        training_gflops: of one pair's training step (forward and backward).
    """

    backbone: str
    method: str
    backbone_parameters: int
    trained_parameters: int
    trained_fraction: float
    sessions: int
    session_parameters: int | None
    text_tokens: int
    forward_gflops: float
    training_gflops: float

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def empty_backbone(shape: Shape, name: str = "empty") -> Backbone:
    """A backbone on the meta device: all shapes, no memory."""
    with torch.device("meta"):
        return Backbone(name, ImageTower(shape.image), TextTower(shape.text), 100.0, tokenizer=None)


def cost(
    backbone: str,
    method: str,
    settings: Mapping[str, Any] | None = None,
    *,
    text_tokens: int | None = None,
    sessions: int = 0,
) -> Cost:
    """Count parameters and operations from the geometry alone.

    Args:
        backbone: as `load_backbone` takes it, or the detector `glip-tiny`; presets and local folders need no weights.
        method: a method or variant.
        settings: changes to its settings.
        text_tokens: caption length; by default all positions of the text tower that prompts leave free.
        sessions: of a stream whose parameters are counted too.

    Raises:
        InterplayError: an unknown backbone, method or setting; a negative number of sessions.
    """
    if sessions < 0:
        raise InterplayError(f"A stream has at least 1 session, not {sessions}.")
    shape = shape_of(backbone)
    choice = choose(method)
    chosen = choice.settings(settings)
    trained = choice.method.parameter_count(shape, chosen)
    after = _after(choice, shape, chosen, sessions) if sessions else None
    built = _on_meta(choice, shape, chosen)
    if backbone in COUNTED:
        length = min(text_tokens or LONGEST, LONGEST)
        empty, run = _on_detector(built, GlipShape(shape), length)
    else:
        length = caption_length(shape, built, text_tokens)
        empty, run = _on_dual_encoder(built, empty_backbone(shape, backbone), length)
    with FlopCounterMode(display=False) as counter:
        out = run()
        forward = counter.get_total_flops()
        torch.autograd.backward(out.sum())
    frozen = sum(parameter.numel() for parameter in empty.parameters())
    return Cost(
        backbone,
        choice.name,
        frozen,
        trained,
        trained / frozen,
        sessions,
        after,
        length,
        forward / 1e9,
        counter.get_total_flops() / 1e9,
    )


def _on_dual_encoder(method: Method, empty: Backbone, length: int) -> tuple[nn.Module, Callable[[], Tensor]]:
    """A dual encoder without memory, and one pair's way through it."""
    shape = empty.shape
    with torch.device("meta"):
        model = trainable(method, shape, 2, 1.0).to("meta")
        batch = PairBatch(
            torch.zeros(1, 3, shape.image.image_size, shape.image.image_size),
            torch.zeros(1, length, dtype=torch.long),
            torch.zeros(1, dtype=torch.long),
        )
    return empty, lambda: model(empty, batch)


def _on_detector(method: Method, shape: GlipShape, length: int) -> tuple[nn.Module, Callable[[], Tensor]]:
    """A detector without memory, and the way of one picture and its phrase through it."""
    size = shape.towers.image.image_size
    with torch.device("meta"):
        empty = Glip(shape)
        pixels, ids = torch.zeros(1, 3, size, size), torch.zeros(1, length, dtype=torch.long)
        keys = torch.zeros(1, shape.towers.joint)
        routes = Routes(*(method.sessions.training_route(side, keys) for side in SIDES))

    def run() -> Tensor:
        found = empty(pixels, ids, method, routes=routes)
        return torch.cat([found.logits, found.deltas, found.centred[..., None]], dim=2)

    return empty, run


def trainable(method: Method, shape: Shape, classes: int, scale: float) -> Trainable:
    """A method with what it is trained under: retrieval where it keeps prompts by session or key, else a pair head."""
    if method.sessions.ranks:
        return PairRetriever(method, shape.joint, scale)
    return PairClassifier(method, Head(HeadSettings(kind="pair"), shape.joint, classes, scale))


def caption_length(shape: Shape, method: Method, wanted: int | None) -> int:
    """Tokens of a caption, at most as many as the text tower has positions that prompts leave free."""
    free = shape.text.positions - method.traits.reserve
    return min(wanted or free, free)


def _on_meta(choice: MethodChoice, shape: Shape, settings: Any) -> Method:
    with torch.device("meta"):
        built: Method = choice.method(shape, settings).to("meta")
    return built


def _after(choice: MethodChoice, shape: Shape, settings: Any, sessions: int) -> int:
    """Parameters after `sessions` sessions, each begun as a stream would."""
    method: nn.Module = (built := _on_meta(choice, shape, settings))
    with torch.device("meta"):
        for session in range(sessions):
            built.sessions.begin(f"task {session + 1}", torch.zeros(shape.joint))
    return sum(parameter.numel() for parameter in method.parameters())

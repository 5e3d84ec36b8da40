"""What the rules of the contract try a method on: small towers of unequal width and depth, and seven pairs."""

from __future__ import annotations

import functools
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace

import torch
from torch import Tensor

from interplay.classification.model import PairClassifier
from interplay.encoding.trainable import PairBatch, keys_of
from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.registry import MethodChoice, choices, choose
from interplay.methods.solvers import Probe
from interplay.parts.heads import Head, HeadSettings
from interplay.towers.backbone import Backbone, from_clip
from interplay.towers.tokens import Shape
from interplay.towers.walk import Routes, Vectors, encode_pair
from tests.conftest import LetterTokenizer, random_clip, small_shape

CLASSES = 3
TEXTS = ["cat", "a dog", "green apple pie", "x", "red car", "the moon tonight", "hat"]


@functools.cache
def towers(image_depth: int = 5, text_depth: int = 4) -> Backbone:
    """A random backbone; both widths and that of the joint space differ, so that a prompt is known by its width."""
    usual = small_shape(image_depth, text_depth)
    shape = Shape(replace(usual.image, joint=12), replace(usual.text, joint=12))
    return from_clip(random_clip(shape), LetterTokenizer(), "small")


@functools.cache
def pixels() -> Tensor:
    """A picture for every text, uint8."""
    return torch.randint(
        0, 256, (len(TEXTS), 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


@dataclass(frozen=True)
class Subject:
    """A method that a rule looks at.

    Attributes:
        choice: what is built.
        backbone: what it works on.
    """

    choice: MethodChoice
    backbone: Backbone

    @property
    def settings(self) -> dict[str, object]:
        """What the method brings for the contract, with the variant's own; its layer numbers fit the small towers."""
        preset = dict(self.choice.preset)
        if "layers" in preset:
            preset["layers"] = (2,)
        return {**self.choice.method.tiny(), **preset}

    def fresh(self, seed: int = 3) -> Method:
        """The method as it starts."""
        torch.manual_seed(seed)
        method = self.choice.build(self.backbone.shape, self.settings)
        method.start_from(self.backbone)
        return method.eval()

    def method(self, seed: int = 3) -> Method:
        """The method, its prompts large enough to be seen, and away from where it starts: that may be at nothing."""
        torch.manual_seed(seed)
        method = self.choice.build(self.backbone.shape, self.settings)
        with torch.no_grad():
            for parameter in method.parameters():
                parameter.mul_(5)
            method.start_from(self.backbone)
            for parameter in method.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        return method.eval()

    def classifier(self, seed: int = 3) -> PairClassifier:
        """The method under a head with random weights."""
        return self.headed(self.method(seed))

    def headed(self, method: Method) -> PairClassifier:
        """A method under a head with random weights."""
        pair, solver = HeadSettings(kind="pair"), method.traits.solver
        chosen = (
            HeadSettings(**solver.head(asdict(pair), method.settings)) if isinstance(solver, Probe) else pair
        )
        head = Head(chosen, self.backbone.shape.joint, CLASSES, self.backbone.scale)
        assert head.weight is not None
        torch.nn.init.normal_(head.weight)
        return PairClassifier(method, head)

    def batch(self, rows: slice = slice(None)) -> PairBatch:
        """The pairs, or some of them."""
        texts = TEXTS[rows]
        targets = torch.arange(len(TEXTS))[rows] % CLASSES
        return PairBatch(pixels()[rows], self.backbone.tokenize(texts), targets)

    def routes(self, method: Method) -> Routes:
        """The prompts that each pair's keys choose, where the method lets keys choose."""
        keys, sessions = keys_of(self.backbone, self.batch()), method.sessions
        return Routes(sessions.route("image", keys.image), sessions.route("text", keys.text))

    def walk(self, method: Method | None) -> Vectors:
        """The pairs through the towers."""
        batch, routes = self.batch(), None if method is None else self.routes(method)
        assert isinstance(batch.images, Tensor)
        assert isinstance(batch.texts, Tensor)
        return encode_pair(self.backbone, batch.images, batch.texts, method, routes=routes)


def starting_frozen() -> dict[str, MethodChoice]:
    """Every method and variant that has a gated form, in that form, under names of their own."""
    found = {}
    for name in choices():
        sound = choose(name)
        if "start" in {field.name for field in fields(sound.method.Settings)}:
            gated = replace(sound, preset={**sound.preset, "start": "frozen"})
            with suppress(InterplayError):  # as released: refused, which tests of the methods look at
                gated.settings()
                found[f"{name}-gated"] = gated
    return found


def trained(model: PairClassifier, subject: Subject, steps: int = 3) -> dict[str, float]:
    """A few steps of training; the largest gradient of every parameter that is trained."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    largest = {key: 0.0 for key, parameter in model.named_parameters()}
    for _ in range(steps):
        optimizer.zero_grad()
        model.training_loss(subject.backbone, subject.batch()).backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None, f"{key} is not in the graph"
            assert torch.isfinite(parameter.grad).all(), f"{key} has a gradient that is no number"
            largest[key] = max(largest[key], float(parameter.grad.abs().max()))
        optimizer.step()
    return largest

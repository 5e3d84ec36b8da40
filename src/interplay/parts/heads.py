"""Heads: from the two vectors of a pair to one logit a class. Every method of one table gets the same head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.parts.bilinear_map import BilinearMap
from interplay.parts.features import PairFeatures, feature_width, pair_features
from interplay.parts.hidden_map import HiddenMap
from interplay.parts.kernel_map import KernelMap
from interplay.towers.tokens import SIDES, Side
from interplay.towers.walk import Vectors

HeadQuery = Literal["image", "text", "image+text"]
Readout = Literal["vectors", "hidden"]
Kind = Literal["auto", "class_text", "learned", "pair", "linear", "kernel", "bilinear"]
FORMER_HEAD: Mapping[str, Any] = {"kind": "class_text"}
"""What the head was by default before it was chosen by evidence; cells that do not say otherwise mean this."""
LINEAR = ("pair", "linear")
MAPPED = ("kernel", "bilinear")
"""Heads that are linear on features which are themselves fitted to the training pairs."""
HIDDEN: Mapping[str, tuple[Side, ...]] = {
    "image": ("image",),
    "text": ("text",),
    "concat": SIDES,
    "pair": SIDES,
}
"""The sides whose hidden states a head reads beside its features of the vectors."""


def query(vectors: Vectors, kind: HeadQuery) -> Float[Tensor, "batch joint"]:
    """The normalised vector of a pair that is compared with the classes: (batch, joint).

    `image+text` is the mean of the two normalised vectors, normalised again.
    """
    if kind == "image":
        return F.normalize(vectors.image, dim=-1)
    if kind == "text":
        return F.normalize(vectors.text, dim=-1)
    both = F.normalize(vectors.image, dim=-1) + F.normalize(vectors.text, dim=-1)
    return F.normalize(both, dim=-1)


@dataclass(frozen=True)
class HeadSettings:
    """Where the class logits come from (MITP eq. 7, and `mitp.md` open points e, f, l).

    Attributes:
        kind: `auto`: the best of `class_text`, `linear`, `kernel` and `bilinear` by evidence, on either readout, fitted
            in closed form before anything is trained; until then, and where `query` or `class_text` are set,
            `class_text`.
            `class_text`: cosine to the text tower's embedding of a prompt with the class name, over the
            pre-trained temperature; the head trains nothing. `learned`: cosine to trained class vectors.
            `pair`: linear on [x, t, x∘t]. `linear`: linear on `features`. `kernel`: linear on how near the `features`
            are to those of some training pairs. `bilinear`: linear on both vectors and on the products of their
            principal components. The last two are always fitted in closed form.
        query: for the cosine heads, which vector of the pair is compared with the classes.
        class_text: `separate`: each class prompt is encoded on its own, once. `joint`: it continues the
            sample's own text, and `query` must be `image`. `prompted`: each goes through the text tower with the
            method at work, anew in every training step; with `query = image` that is how CoOp, CoCoOp, MaPLe and deep
            prompt tuning were published. What does nothing to the text side makes it `separate`.
        template: the class prompt; `{}` stands for the class name.
        features: for `linear` and `kernel`, which features of the pair.
        readout: for `linear` and `kernel`, what their features are made of. `vectors`: the pair's vectors. `hidden`:
            beside them, the hidden states of both towers at a quarter, half and three quarters of their depth, each as
            its pooled token and the mean of its real tokens; such a head is always fitted in closed form, and its
            features are chosen by evidence among `text`, `image` and `concat`.
        landmarks: for `kernel`, how many pairs it compares with; set when it is fitted.
        rank: for `bilinear`, principal components of each vector.
        start: where a linear head (`pair`, `linear`) starts: at `zero`, or at the logistic regression on the frozen
            features of the bare towers (`probe`; linear probing before fine-tuning, Kumar et al., 2022).
        start_penalty: C (the inverse of the L2 penalty) of that regression; by default the one with the best
            validation metric. With few pairs that one separates the training pairs, and leaves the method no loss to
            learn from; a smaller C does.
    """

    kind: Kind = "auto"
    query: HeadQuery = "image+text"
    class_text: Literal["separate", "joint", "prompted"] = "separate"
    template: str = "a picture of {}"
    features: PairFeatures = "concat"
    readout: Readout = "vectors"
    landmarks: int = field(default=0, repr=False)
    rank: int = field(default=32, repr=False)
    start: Literal["zero", "probe"] = "zero"
    start_penalty: float | None = None

    def __post_init__(self) -> None:
        if self.kind == "auto" and (self.query != "image+text" or self.class_text != "separate"):
            object.__setattr__(self, "kind", "class_text")  # they say something of no other head
        if self.landmarks < 0 or (self.landmarks and self.kind != "kernel"):
            raise InterplayError(
                f"head.landmarks belongs to head.kind = kernel, whose fit counts them: got {self.landmarks}."
            )
        if self.readout == "hidden" and (
            self.kind not in ("linear", "kernel") or self.features not in HIDDEN or self.start == "probe"
        ):
            raise InterplayError(
                "head.readout = hidden needs head.kind = linear or kernel on text, image, concat or pair, and is "
                f"fitted in closed form: got kind = {self.kind}, features = {self.features}, start = {self.start}."
            )
        if self.rank < 1:
            raise InterplayError(f"head.rank must be at least 1, not {self.rank}.")
        if self.start_penalty is not None and (
            self.start != "probe" or not 0 < self.start_penalty < math.inf
        ):
            raise InterplayError(
                f"head.start_penalty is a number above 0 and needs head.start = probe, got {self.start_penalty}."
            )
        if self.start == "probe" and self.kind not in LINEAR:
            raise InterplayError(
                f"head.start = probe needs a linear head (pair or linear), not '{self.kind}'."
            )
        if self.class_text != "separate" and self.kind != "class_text":
            raise InterplayError(
                f"class_text = {self.class_text} needs head.kind = class_text, not '{self.kind}'."
            )
        if self.class_text == "joint" and self.query != "image":
            raise InterplayError(
                "class_text = joint puts the sample's text into the class vectors, so head.query must be 'image'."
            )
        if self.template.count("{}") != 1:
            raise InterplayError(
                f"head.template needs one '{{}}', where the class name goes: got '{self.template}'."
            )

    @property
    def reads_features(self) -> bool:
        """Whether weights and a bias a class are applied to features of the pair."""
        return self.kind in (*LINEAR, *MAPPED)

    @property
    def fitted_first(self) -> bool:
        """Whether the head is fitted in closed form before anything is trained."""
        return self.kind in ("auto", *MAPPED) or self.readout == "hidden"

    @property
    def hidden_sides(self) -> tuple[Side, ...]:
        """The sides whose hidden states are read; before the head is chosen, both."""
        if self.kind == "auto":
            return SIDES
        return HIDDEN[self.features] if self.readout == "hidden" else ()

    @property
    def read(self) -> PairFeatures:
        """The features that a head with weights a class reads."""
        return "pair" if self.kind in ("pair", "bilinear") else self.features

    def width(self, joint: int, hidden: int = 0) -> int:
        """How many numbers the weights of a class are applied to.

        Args:
            joint: width of the joint space.
            hidden: numbers of the hidden states that are read.
        """
        if self.kind == "bilinear":
            return BilinearMap.width(joint, self.rank)
        return self.landmarks if self.kind == "kernel" else feature_width(joint, self.read) + hidden


class Head(nn.Module):
    """One logit a class from the vectors of a pair.

    Args:
        settings: which head.
        joint: width of the joint space.
        classes: how many.
        scale: factor on cosine similarities, exp(logit_scale) of the backbone.
        bias: whether a cosine head has a learned bias a class (multi-label).
        hidden: how many numbers the hidden states of each side have; needed where they are read alone.
    """

    class_vectors: Tensor | None

    def __init__(
        self,
        settings: HeadSettings,
        joint: int,
        classes: int,
        scale: float,
        *,
        bias: bool = False,
        hidden: Mapping[Side, int] | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.scale = scale
        self.weight: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        self.log_scale: nn.Parameter | None = None
        self.map: KernelMap | BilinearMap | None = None
        self.hidden: HiddenMap | None = None
        more = 0
        if settings.readout == "hidden":
            assert hidden is not None, "a head that reads hidden states has to know how wide they are"
            widths = {side: hidden[side] for side in settings.hidden_sides}
            self.hidden, more = HiddenMap(widths), sum(widths.values())
        if settings.kind == "learned":
            self.weight = nn.Parameter(torch.randn(classes, joint) / math.sqrt(joint))
            self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        if settings.kind == "kernel":
            self.map = KernelMap(joint, settings.features, settings.landmarks, more)
        if settings.kind == "bilinear":
            self.map = BilinearMap(joint, settings.rank)
        if settings.reads_features:
            self.weight = nn.Parameter(torch.zeros(classes, settings.width(joint, more)))
        if bias or settings.reads_features:
            self.bias = nn.Parameter(torch.zeros(classes))
        self.register_buffer("class_vectors", None, persistent=False)

    @property
    def features(self) -> PairFeatures:
        """The features that a head with weights a class reads."""
        return self.settings.read

    def forward(self, vectors: Vectors) -> Float[Tensor, "batch classes"]:
        """Vectors of a batch of pairs → logits (batch, classes)."""
        if self.settings.reads_features:
            assert self.weight is not None
            return F.linear(self.inputs(vectors), self.weight, self.bias)
        return self.compare(query(vectors, self.settings.query), vectors.classes)

    def inputs(self, vectors: Vectors) -> Float[Tensor, "batch inputs"]:
        """What the weights of a class are applied to, from the vectors of pairs."""
        image, text, more = vectors.image, vectors.text, self.of_hidden(vectors)
        if isinstance(self.map, KernelMap):
            return self.map(image, text, more)  # type: ignore[no-any-return]
        found = pair_features(image, text, self.features) if self.map is None else self.map(image, text)
        return found if more is None else torch.cat([found, more], dim=-1)

    def of_hidden(self, vectors: Vectors) -> Tensor | None:
        """The features of the hidden states, (batch, features); None where none are read."""
        if self.hidden is None:
            return None
        assert vectors.hidden is not None
        found: Tensor = self.hidden(vectors.hidden)
        return found

    def compare(
        self, x: Float[Tensor, "batch joint"], classes: Tensor | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Logits of a cosine head, (batch, classes).

        Args:
            x: normalised vectors, (batch, joint).
            classes: class vectors, (classes, joint) or each sample's own (batch, classes, joint); None: those that the
                head keeps.
        """
        if self.settings.kind == "learned":
            assert self.weight is not None
            assert self.log_scale is not None
            logits = self.log_scale.exp() * x @ F.normalize(self.weight, dim=-1).T
        elif classes is not None and classes.dim() == 3:
            logits = self.scale * (F.normalize(classes, dim=-1) @ x[:, :, None]).squeeze(-1)
        else:
            classes = self.class_vectors if classes is None else classes
            assert classes is not None, "set class_vectors before using a class-text head"
            logits = self.scale * x @ F.normalize(classes, dim=-1).T
        return logits if self.bias is None else logits + self.bias

    @staticmethod
    def parameter_count(
        settings: HeadSettings,
        joint: int,
        classes: int,
        *,
        bias: bool = False,
        hidden: Mapping[Side, int] | None = None,
    ) -> int:
        """How many parameters a head trains, as a closed formula; its arguments are those of `Head`."""
        if settings.reads_features:
            more = sum((hidden or {})[side] for side in settings.hidden_sides)
            return classes * (settings.width(joint, more) + 1)
        return (classes * joint + 1 if settings.kind == "learned" else 0) + (classes if bias else 0)

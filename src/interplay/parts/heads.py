"""Heads: from the two vectors of a pair to one logit a class. Every method of one table gets the same head."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.towers.walk import Vectors

Query = Literal["image", "text", "image+text"]
PairFeatures = Literal["image", "text", "concat", "sum", "product", "pair"]


def pair_features(
    image: Float[Tensor, "batch joint"], text: Float[Tensor, "batch joint"], kind: PairFeatures
) -> Float[Tensor, "batch features"]:
    """Features of a pair from its two vectors, each normalised to length 1 first.

    `concat` is [x, t], `sum` is x + t, `product` is x∘t, `pair` is [x, t, x∘t·√joint]: the product's entries are
    smaller than those of x and t by about √joint, and one learning rate and one penalty serve all three.

    Args:
        image, text: (batch, joint).

    Returns:
        (batch, features).
    """
    x, t = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
    product = x * t * math.sqrt(x.shape[-1])
    match kind:
        case "image":
            return x
        case "text":
            return t
        case "concat":
            return torch.cat([x, t], dim=-1)
        case "sum":
            return x + t
        case "product":
            return product
        case "pair":
            return torch.cat([x, t, product], dim=-1)


def feature_width(joint: int, kind: PairFeatures) -> int:
    """How many features `pair_features` gives for a joint space of width `joint`."""
    return joint * {"concat": 2, "pair": 3}.get(kind, 1)


def query(vectors: Vectors, kind: Query) -> Float[Tensor, "batch joint"]:
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
        kind: `class_text`: cosine to the text tower's embedding of a prompt with the class name, over the
            pre-trained temperature; the head trains nothing. `learned`: cosine to trained class vectors.
            `pair`: linear on [x, t, x∘t]. `linear`: linear on `features`.
        query: for the cosine heads, which vector of the pair is compared with the classes.
        class_text: `separate`: each class prompt is encoded on its own, once. `joint`: it continues the
            sample's own text, and `query` must be `image`. `prompted`: each goes through the text tower with the
            method at work, anew in every training step; with `query = image` that is how CoOp, CoCoOp, MaPLe and deep
            prompt tuning were published. What does nothing to the text side makes it `separate`.
        template: the class prompt; `{}` stands for the class name.
        features: for `linear`, which features of the pair.
        start: where a linear head (`pair`, `linear`) starts: at `zero`, or at the logistic regression on the frozen
            features of the bare towers (`probe`; linear probing before fine-tuning, Kumar et al., 2022).
        start_penalty: C (the inverse of the L2 penalty) of that regression; by default the one with the best
            validation metric. With few pairs that one separates the training pairs, and leaves the method no loss to
            learn from; a smaller C does.
    """

    kind: Literal["class_text", "learned", "pair", "linear"] = "class_text"
    query: Query = "image+text"
    class_text: Literal["separate", "joint", "prompted"] = "separate"
    template: str = "a picture of {}"
    features: PairFeatures = "concat"
    start: Literal["zero", "probe"] = "zero"
    start_penalty: float | None = None

    def __post_init__(self) -> None:
        if self.start_penalty is not None and (
            self.start != "probe" or not 0 < self.start_penalty < math.inf
        ):
            raise InterplayError(
                f"head.start_penalty is a number above 0 and needs head.start = probe, got {self.start_penalty}."
            )
        if self.start == "probe" and self.kind not in ("pair", "linear"):
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


class Head(nn.Module):
    """One logit a class from the vectors of a pair.

    Args:
        settings: which head.
        joint: width of the joint space.
        classes: how many.
        scale: factor on cosine similarities, exp(logit_scale) of the backbone.
        bias: whether a cosine head has a learned bias a class (multi-label).
    """

    class_vectors: Tensor | None

    def __init__(
        self, settings: HeadSettings, joint: int, classes: int, scale: float, *, bias: bool = False
    ) -> None:
        super().__init__()
        self.settings = settings
        self.scale = scale
        self.weight: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        self.log_scale: nn.Parameter | None = None
        cosine = settings.kind in ("class_text", "learned")
        if settings.kind == "learned":
            self.weight = nn.Parameter(torch.randn(classes, joint) / math.sqrt(joint))
            self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        if not cosine:
            width = feature_width(joint, self.features)
            self.weight = nn.Parameter(torch.zeros(classes, width))
            self.bias = nn.Parameter(torch.zeros(classes))
        elif bias:
            self.bias = nn.Parameter(torch.zeros(classes))
        self.register_buffer("class_vectors", None, persistent=False)

    @property
    def features(self) -> PairFeatures:
        """The features that a linear head reads."""
        return "pair" if self.settings.kind == "pair" else self.settings.features

    def forward(self, vectors: Vectors) -> Float[Tensor, "batch classes"]:
        """Vectors of a batch of pairs → logits (batch, classes)."""
        kind = self.settings.kind
        if kind in ("pair", "linear"):
            assert self.weight is not None
            return F.linear(pair_features(vectors.image, vectors.text, self.features), self.weight, self.bias)
        return self.compare(query(vectors, self.settings.query), vectors.classes)

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
    def parameter_count(settings: HeadSettings, joint: int, classes: int, *, bias: bool = False) -> int:
        """How many parameters a head trains, as a closed formula."""
        if settings.kind in ("pair", "linear"):
            features = "pair" if settings.kind == "pair" else settings.features
            return classes * (feature_width(joint, features) + 1)
        return (classes * joint + 1 if settings.kind == "learned" else 0) + (classes if bias else 0)

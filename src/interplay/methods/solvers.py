"""How a method and its head are trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from interplay.parts.features import PairFeatures


class Solver(ABC):
    """How a method is trained; what runs it stands above the methods (`classification`, `retrieval`)."""

    words: ClassVar[str]
    """How it is trained, as a table says it."""
    by_gradient: ClassVar[bool]
    """Whether it takes steps: only then there is training to set, to search, to draw and to measure."""
    retrieves: ClassVar[bool]
    """Whether what it leaves can rank."""
    classifies: ClassVar[bool] = True
    """Whether it is for classification too."""
    own_head: ClassVar[bool]
    """Whether the head is the solver's own, so that none is chosen."""

    @abstractmethod
    def head(self, given: Mapping[str, Any], settings: Any) -> dict[str, Any]:
        """The head's settings: what is given, as far as the solver leaves a choice.

        Args:
            given: changes to the head's settings.
            settings: of the method.
        """


@dataclass(frozen=True)
class Gradient(Solver):
    """By gradient, method and head together."""

    words: ClassVar[str] = "by gradient"
    own_head: ClassVar[bool] = False
    by_gradient: ClassVar[bool] = True
    retrieves: ClassVar[bool] = True

    def head(self, given: Mapping[str, Any], settings: Any) -> dict[str, Any]:
        """What is given."""
        return dict(given)


@dataclass(frozen=True)
class Probe(Solver):
    """A linear head by logistic regression on frozen features; the method trains nothing.

    Attributes:
        features: of the pair, that the regression reads; None: what the method's setting `features` says.
        kind: of the head: `linear` on these features, or `bilinear`, whose rank is the method's setting `rank`.
    """

    features: PairFeatures | None = None
    kind: Literal["linear", "bilinear"] = "linear"
    words: ClassVar[str] = "logistic regression"
    own_head: ClassVar[bool] = True
    by_gradient: ClassVar[bool] = False
    retrieves: ClassVar[bool] = False

    def head(self, given: Mapping[str, Any], settings: Any) -> dict[str, Any]:
        """The head is its own."""
        rank = {"rank": settings.rank} if self.kind == "bilinear" else {}
        return {"kind": self.kind, "features": self.features or settings.features, **rank}


@dataclass(frozen=True)
class Nothing(Solver):
    """Nothing is trained: the head compares with class texts.

    Where a pair may have several labels, one threshold for all classes is chosen on validation.
    """

    words: ClassVar[str] = "not at all"
    own_head: ClassVar[bool] = False
    by_gradient: ClassVar[bool] = False
    retrieves: ClassVar[bool] = True

    def head(self, given: Mapping[str, Any], settings: Any) -> dict[str, Any]:
        """Class texts, by what is given of how they are read."""
        read = ("query", "class_text", "template")
        return {**{key: value for key, value in given.items() if key in read}, "kind": "class_text"}


@dataclass(frozen=True)
class ClosedForm(Solver):
    """In closed form, from moments of the pairs of every session of a stream; there is nothing to classify with."""

    words: ClassVar[str] = "in closed form"
    own_head: ClassVar[bool] = False
    by_gradient: ClassVar[bool] = False
    retrieves: ClassVar[bool] = True
    classifies: ClassVar[bool] = False

    def head(self, given: Mapping[str, Any], settings: Any) -> dict[str, Any]:
        """What is given."""
        return dict(given)


GRADIENT = Gradient()

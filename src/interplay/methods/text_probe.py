"""Text probe: logistic regression on the frozen text vector alone."""

from __future__ import annotations

from typing import ClassVar

from interplay.methods.base import Method, Solver
from interplay.parts.heads import PairFeatures


class TextProbe(Method):
    """Sees only the text: what a task gives away without its picture."""

    solver: ClassVar[Solver] = "logistic"
    features: PairFeatures | None = "text"

"""Image probe: logistic regression on the frozen image vector alone."""

from __future__ import annotations

from typing import ClassVar

from interplay.methods.base import Method, Solver
from interplay.parts.heads import PairFeatures


class ImageProbe(Method):
    """Sees only the picture: what a task gives away without its text."""

    solver: ClassVar[Solver] = "logistic"
    features: PairFeatures | None = "image"

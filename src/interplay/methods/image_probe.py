"""Image probe: logistic regression on the frozen image vector alone."""

from __future__ import annotations

from interplay.methods.base import Method
from interplay.methods.solvers import Probe
from interplay.methods.traits import Traits


class ImageProbe(Method):
    """Sees only the picture: what a task gives away without its text."""

    traits = Traits(solver=Probe("image"), starts_frozen=True)

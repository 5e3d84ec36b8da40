"""Text probe: logistic regression on the frozen text vector alone."""

from __future__ import annotations

from interplay.methods.base import Method
from interplay.methods.solvers import Probe
from interplay.methods.traits import Traits


class TextProbe(Method):
    """Sees only the text: what a task gives away without its picture."""

    traits = Traits(solver=Probe("text"), starts_frozen=True)

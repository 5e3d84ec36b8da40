"""Zero-shot CLIP: the frozen towers and class prompts, nothing trained (Radford et al., 2021)."""

from __future__ import annotations

from interplay.methods.base import Method
from interplay.methods.solvers import Nothing
from interplay.methods.traits import Traits


class ZeroShot(Method):
    """Cosine to the class prompts' embeddings; nothing is trained."""

    traits = Traits(solver=Nothing(), starts_frozen=True)

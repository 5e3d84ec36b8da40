"""Zero-shot CLIP: the frozen towers and class prompts, nothing trained (Radford et al., 2021)."""

from __future__ import annotations

from typing import ClassVar

from interplay.methods.base import Method, Solver


class ZeroShot(Method):
    """Cosine to the class prompts' embeddings; nothing is trained."""

    solver: ClassVar[Solver] = "none"

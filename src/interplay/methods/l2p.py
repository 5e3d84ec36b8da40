"""L2P: a pool of prompts from which each image picks its own by its key (Wang et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interplay.errors import InterplayError
from interplay.methods.base import Method
from interplay.methods.sessions import Pool
from interplay.methods.settings import MethodSettings
from interplay.methods.traits import Traits
from interplay.parts.gates import Beginning, every_layer, gate_count, gated, gates_of
from interplay.ranges import Ranges, Real, Whole
from interplay.towers.tokens import Shape, Side, Tokens, Tower
from interplay.towers.walk import Keys


@dataclass(frozen=True)
class L2pSettings(MethodSettings):
    """Settings of L2P.

    Attributes:
        pool: prompts M in the pool.
        length: tokens L_p of a prompt.
        picked: prompts N that an image takes, the nearest ones.
        pull: λ, how strongly the picked prompts' keys are drawn to the images' keys.
        start: `paper`, or `frozen`: behind gates that start closed, exactly as the frozen model (`Gates`).
    """

    pool: int = 10
    length: int = 5
    picked: int = 5
    pull: float = 0.1
    start: Beginning = "paper"

    ranges: ClassVar[Ranges] = {
        "pool": Whole(2, 20),
        "length": Whole(1, 10),
        "picked": Whole(1, 10),
        "pull": Real(0.01, 1.0, log=True),
    }

    def __post_init__(self) -> None:
        if self.length < 1 or not 1 <= self.picked <= self.pool:
            raise InterplayError("L2P needs length >= 1 and 1 <= picked <= pool.")


class L2p(Method):
    """The image side takes the N of M prompts whose keys are nearest (cosine) to the image's own; text is left alone.

    Loss: base − λ·mean over batch and picked prompts of cos(key, query). One pool serves all sessions. Prompts and
    keys start from U(−1, 1). Every image picks for itself: the batch-wide vote of both released codes would make a
    prediction depend on its batch mates.

    Deviations: queries and keys live in the joint space, where the bare tower's vectors are compared everywhere else
    (released: the class token, as wide as the prompts; the count is the same where d_v = joint); the prompted class
    token is read, since there is no class head over the prompts' mean; no masking of other sessions' classes; prompts
    come after the class token and enter after the tower's first norm.

    LPI's released code compares with 12 prompts of 4 tokens, of which 4 are picked: on GLIP's width of 96 these are the
    5,760 parameters of LPI's Table 4. (It overwrites an image's first tokens with them, and lets the batch vote.) By
    coincidence the default here, 10 prompts of 5 tokens, has as many.
    """

    Settings = L2pSettings
    traits = Traits(reads_keys=True)

    def __init__(self, shape: Shape, settings: L2pSettings) -> None:
        super().__init__(shape, settings)
        self.pool = nn.Parameter(torch.rand(settings.pool, settings.length, shape.image.width) * 2 - 1)
        self.pool_keys = nn.Parameter(torch.rand(settings.pool, shape.joint) * 2 - 1)
        self.sessions = Pool(self.name, self, "pool_keys", settings.picked)
        self.gates = gates_of(settings.start, shape, every_layer(shape, ("image",)))
        self.traits = replace(self.traits, starts_frozen=settings.start == "frozen")

    def first_layer(self, side: Side) -> int:
        """Prompts enter with the image; the text tower is left alone."""
        return 0 if side == "image" else self.shape.text.depth

    def layer(self, side: Side, i: int, tower: Tower, tokens: Tokens) -> Tokens:
        """The picked prompts join before the first image layer."""
        if side == "image" and i == 0:
            if tokens.route is None:
                raise ValueError("L2P chooses prompts by keys: give the walk the routes of the images")
            tokens = tower.put(tokens, self.pool[tokens.route].flatten(1, 2))
        return tower.layer(i, gated(self.gates, side, i, tokens))

    def objective(self, base: Tensor, keys: Keys | None) -> Tensor:
        """base − λ·Σ cos(picked keys, query), the mean over the batch."""
        assert keys is not None
        route = self.sessions.route("image", keys.image)
        assert route is not None
        picked = F.normalize(self.pool_keys, dim=-1)[route]
        near = torch.einsum("bnd,bd->bn", picked, keys.image)
        total: Tensor = base - self.settings.pull * near.sum(dim=1).mean()
        return total

    @classmethod
    def tiny(cls) -> Mapping[str, Any]:
        """A small pool of which every image takes all, so that every prompt is used."""
        return {"pool": 3, "length": 2, "picked": 3}

    @classmethod
    def parameter_count(cls, shape: Shape, settings: L2pSettings) -> int:
        """M·(L_p·d_v + joint), and the gates of all image layers."""
        pool = settings.pool * (settings.length * shape.image.width + shape.joint)
        return pool + gate_count(settings.start, shape, every_layer(shape, ("image",)))

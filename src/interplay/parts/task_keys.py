"""Which session a sample belongs to, told by its key: nearest k-means centre (S-Prompts; LPI)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from interplay.towers.tokens import Side

Distance = Literal["l1", "cosine", "gaussian"]
"""How near a key is to a session: by its k-means centres (`TaskKeys`), or by a Gaussian (`GaussianKeys`)."""


class SessionKeys(nn.Module):
    """What is kept of one session beside its prompts: no sample, only centres and the meaning of its name.

    Args:
        centres: k-means centres of each side.
        meaning: (joint,) the bare text tower's vector of the task's name.
    """

    image: Tensor
    text: Tensor
    meaning: Tensor

    def __init__(self, centres: int, meaning: Tensor) -> None:
        super().__init__()
        for side in ("image", "text"):
            self.register_buffer(side, meaning.new_zeros(centres, len(meaning)))
        self.register_buffer("meaning", meaning.clone())

    def side(self, side: Side) -> Tensor:
        """The centres of one side: (centres, joint)."""
        return self.image if side == "image" else self.text


class TaskKeys(nn.Module):
    """Centres of every session's keys, one bank for images and one for texts; a sample goes to the nearest one.

    Args:
        centres: k-means centres a session and side.
        distance: `l1` (as S-Prompts released it) or `cosine` (1 − cos).
    """

    def __init__(self, centres: int, distance: Literal["l1", "cosine"]) -> None:
        super().__init__()
        self.centres = centres
        self.distance = distance
        self.kept = nn.ModuleList()

    def __len__(self) -> int:
        return len(self.kept)

    def sessions(self) -> list[SessionKeys]:
        """What is kept of every session."""
        return list(self.kept)  # type: ignore[arg-type]

    def append(self, meaning: Tensor) -> None:
        """Room for one more session, whose centres are still zero."""
        self.kept.append(SessionKeys(self.centres, meaning))

    def fit(self, side: Side, keys: Float[Tensor, "samples joint"]) -> None:
        """Centres of the last session: k-means from a fixed seed; with fewer distinct samples they repeat."""
        from sklearn.cluster import KMeans

        data = keys.detach().cpu().double().numpy()
        distinct = len(np.unique(data, axis=0))
        with threadpool_limits(1):
            found = KMeans(min(self.centres, distinct), n_init=10, random_state=0).fit(data).cluster_centers_
        filled = found[np.arange(self.centres) % len(found)]
        self.sessions()[-1].side(side).copy_(torch.from_numpy(filled))

    def remove(self, session: int) -> None:
        """Take a session out; those after it move up."""
        self.kept = nn.ModuleList(kept for at, kept in enumerate(self.kept) if at != session)

    def distances(self, side: Side, keys: Float[Tensor, "batch joint"]) -> Float[Tensor, "batch sessions"]:
        """From each key to the nearest centre of every session."""
        centres = torch.stack([kept.side(side) for kept in self.sessions()]).to(keys)
        flat = centres.flatten(0, 1)
        if self.distance == "l1":
            apart = torch.cdist(keys, flat, p=1)
        else:
            apart = 1 - keys @ nn.functional.normalize(flat, dim=-1).T
        return apart.view(keys.shape[0], len(self), self.centres).amin(dim=2)

    def nearest(self, side: Side, keys: Float[Tensor, "batch joint"]) -> Int[Tensor, " batch"]:
        """The session of the nearest centre, from 0; the older one where two are equally near."""
        return self.distances(side, keys).argmin(dim=1)

    def margin(self, side: Side, keys: Float[Tensor, "batch joint"]) -> Float[Tensor, " batch"]:
        """Distance to the nearest other session − distance to the nearest one; infinite with a single session."""
        if len(self) == 1:
            return torch.full((len(keys),), float("inf"), device=keys.device)
        two = self.distances(side, keys).topk(2, dim=1, largest=False).values
        return two[:, 1] - two[:, 0]

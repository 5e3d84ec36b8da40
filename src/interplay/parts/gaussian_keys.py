"""Which session a sample belongs to, told by its key: one Gaussian a session, or none where that is not sure."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interplay.parts.moments import Moments
from interplay.towers.tokens import Side

NONE = -1
"""The session of a sample that takes none."""
SURE = 0.8
"""How probable a session has to be for a sample to be sent there."""
SOFTER = 2.0
"""What log probabilities are divided by: keys are no Gaussians, which are too sure of them."""
_LEAST = 1e-6
"""The least variance within a session that is reckoned with: its keys may all be the same."""


class SessionMoments(nn.Module):
    """What is kept of one session beside its prompts: moments of the keys of both sides, and the meaning of its name.

    Args:
        meaning: (joint,) the bare text tower's vector of the task's name.
    """

    meaning: Tensor

    def __init__(self, meaning: Tensor) -> None:
        super().__init__()
        self.image = Moments(len(meaning))
        self.text = Moments(len(meaning))
        self.register_buffer("meaning", meaning.clone())

    def side(self, side: Side) -> Moments:
        """The moments of one side's keys."""
        return self.image if side == "image" else self.text


class GaussianKeys(nn.Module):
    """Regularised discriminant analysis on keys (Friedman, 1989), in closed form from moments of every session.

    A session t of n_t keys with mean m_t and covariance S_t has the log probability

        −½ (x − m_t)ᵀ·Σ_t⁻¹·(x − m_t) − ½ log det Σ_t + log n_t,
        Σ_t = w_t·S_t + (1 − w_t)·S + λ·tr(S)/d·I,  w_t = n_t / (n_t + d),  λ = d / (2n),

    where S is the covariance within all sessions. The log probabilities, divided by `SOFTER`, give those of the
    sessions; where none has at least `SURE`, the sample belongs to none. A session that is taken out leaves what would
    be there had it never come, bit for bit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept = nn.ModuleList()
        self._held: dict[Side, list[tuple[float, Tensor, Tensor]]] = {}

    def __len__(self) -> int:
        return len(self.kept)

    def sessions(self) -> list[SessionMoments]:
        """What is kept of every session."""
        return list(self.kept)  # type: ignore[arg-type]

    def append(self, meaning: Tensor) -> None:
        """Room for one more session, of which there are no keys yet."""
        self.kept.append(SessionMoments(meaning))
        self._held.clear()

    def fit(self, side: Side, keys: Float[Tensor, "samples joint"]) -> None:
        """The keys of the last session."""
        self.sessions()[-1].side(side).fit(keys)
        self._held.clear()

    def remove(self, session: int) -> None:
        """Take a session out; those after it move up."""
        self.kept = nn.ModuleList(kept for at, kept in enumerate(self.kept) if at != session)
        self._held.clear()

    def logs(self, side: Side, keys: Float[Tensor, "batch joint"]) -> Float[Tensor, "batch sessions"]:
        """The log probability of every session, up to one number a key; in double precision, on the CPU."""
        exact, found = keys.detach().cpu().double(), []
        for weight, centre, root in self._solved(side):
            apart = torch.linalg.solve_triangular(root, (exact - centre).T, upper=False)
            found.append(weight - apart.square().sum(0) / 2)
        return torch.stack(found, dim=1)

    def _solved(self, side: Side) -> list[tuple[float, Tensor, Tensor]]:
        """Of every session log n_t − ½ log det Σ_t, m_t, and the Cholesky factor of Σ_t; solved once."""
        if side in self._held:
            return self._held[side]
        sessions = [kept.side(side) for kept in self.sessions()]
        d = len(sessions[0].mean)
        counts = [int(one.count) for one in sessions]
        scatters = [one.scatter() for one in sessions]
        within = torch.stack(scatters).sum(0) / sum(counts)
        spread = (within.trace() / d).clamp(min=_LEAST)
        ridge = d / (2 * sum(counts)) * spread * torch.eye(d, dtype=torch.float64)
        found = []
        for count, scatter, one in zip(counts, scatters, sessions, strict=True):
            own = count / (count + d)
            covariance = own * scatter / count + (1 - own) * within + ridge
            root = torch.linalg.cholesky(covariance)
            found.append((math.log(count) - float(root.diagonal().log().sum()), one.centre(), root))
        self._held[side] = found
        return found

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """As every module's; what was solved from the old moments is dropped."""
        self._held.clear()
        super()._load_from_state_dict(*args, **kwargs)

    def probabilities(
        self, side: Side, keys: Float[Tensor, "batch joint"]
    ) -> Float[Tensor, "batch sessions"]:
        """Of every session, in the order in which they were learned."""
        return (self.logs(side, keys) / SOFTER).softmax(dim=1).to(keys)

    def nearest(self, side: Side, keys: Float[Tensor, "batch joint"]) -> Int[Tensor, " batch"]:
        """The most probable session, from 0; `NONE` where it is not sure."""
        best = self.probabilities(side, keys).max(dim=1)
        return torch.where(best.values >= SURE, best.indices, NONE)

    def margin(self, side: Side, keys: Float[Tensor, "batch joint"]) -> Float[Tensor, " batch"]:
        """Log probability of the most probable session − of the next one; infinite with a single session."""
        if len(self) == 1:
            return torch.full((len(keys),), float("inf"), device=keys.device)
        two = self.logs(side, keys).topk(2, dim=1).values
        return (two[:, 0] - two[:, 1]).to(keys)

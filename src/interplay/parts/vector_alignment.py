"""Linear maps that bring the frozen vectors of pairs together, in closed form from what is kept of each session."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interplay.parts.moments import Moments, pooled
from interplay.towers.tokens import Side

Maps = tuple[float, dict[Side, Tensor], dict[Side, Tensor]]
"""How much is done, from 0; what is taken from the vectors of a side, (joint,); and its map, (joint, joint)."""
FEWEST = 8
"""Held-out pairs from which a session is left out for what its own maps do to them; fewer decide nothing."""
_ERRORS = 2
"""Standard errors beyond which held-out pairs count as worse."""

_BLOCK = 512
"""Pairs that ask at a time."""
_ROUNDING = 1e-12
"""By how much a score may round otherwise in another product."""


class SessionPairs(nn.Module):
    """What is kept of a session: moments of its pairs [image, text], and whether they count.

    Args:
        joint: width of the vectors.
    """

    counts: Tensor

    def __init__(self, joint: int) -> None:
        super().__init__()
        self.moments = Moments(2 * joint)
        self.register_buffer("counts", torch.ones((), dtype=torch.bool))


def strength_of(
    count: int,
    image: Float[Tensor, "joint joint"],
    text: Float[Tensor, "joint joint"],
    across: Float[Tensor, "joint joint"],
) -> float:
    """The share of what image and text have in common that chance does not explain, in [0, 1].

    1 − E‖K‖² / ‖K‖² for the whitened cross-covariance K, where E is the mean over all ways to pair the same images and
    texts anew: tr(image)·tr(text) / (n − 1) of the whitened covariances.

    Args:
        count: n, of pairs.
        image, text, across: whitened covariances of the sides, and K.
    """
    found = float((across * across).sum())
    chance = float(image.trace() * text.trace()) / (count - 1)
    return max(0.0, 1 - chance / found) if found > 0 else 0.0


def alignment(count: int, mean: Float[Tensor, " both"], covariance: Float[Tensor, "both both"]) -> Maps:
    """The maps that bring both sides together: ridge canonical correlation analysis, drawn towards doing nothing.

    Each side is whitened, W = (C + λ·tr(C)/d)^(−½) with λ = d / (2n), so that the fewer pairs there are the less it is.
    With the singular vectors U, V and values S of K = W_x·C_xy·W_y, the score of an image x and a text y is

        xᵀ·M·y,  M = α·W_x·U·S²·Vᵀ·W_y / a + (1 − α)·I / b

    where a and b make the scores of strangers vary alike, α is `strength_of`, and x and y have lost √α of their means.
    M is divided between the sides by its singular values, so that a dot product of mapped vectors is the score.

    Args:
        count, mean, covariance: of the pairs [image, text].

    Returns:
        α and the maps; with α = 0, where chance explains all, those that change nothing.
    """
    d = len(mean) // 2
    image, text, across = covariance[:d, :d], covariance[d:, d:], covariance[:d, d:]
    if count < 2 or min(image.trace(), text.trace()) <= 0:
        return _nothing(d)
    left, right = _whitening(image, d / (2 * count)), _whitening(text, d / (2 * count))
    common = left @ across @ right
    strength = strength_of(count, left @ image @ left, right @ text @ right, common)
    if strength == 0:
        return _nothing(d)
    u, s, v = torch.linalg.svd(common)
    eye = torch.eye(d, dtype=covariance.dtype)
    learned = left @ u @ torch.diag(s**2) @ v @ right
    score = strength * learned / _spread(learned, image, text) + (1 - strength) * eye / _spread(
        eye, image, text
    )
    u, s, v = torch.linalg.svd(score)
    half = torch.diag(s.sqrt()) @ u.T  # turned back by uᵀ: where M is near I, so are the maps
    taken = strength**0.5 * mean
    return (
        strength,
        {"image": taken[:d].float(), "text": taken[d:].float()},
        {"image": (u @ half).float(), "text": (v.T @ half).float()},
    )


def _whitening(covariance: Tensor, ridge: float) -> Tensor:
    """(C + ridge·tr(C)/d)^(−½)."""
    values, vectors = torch.linalg.eigh(covariance)
    whitening: Tensor = (
        vectors @ torch.diag((values.clamp(min=0) + ridge * values.mean()).rsqrt()) @ vectors.T
    )
    return whitening


def _spread(score: Tensor, image: Tensor, text: Tensor) -> Tensor:
    """The standard deviation of xᵀ·M·y over images and texts that have nothing to do with each other."""
    variance: Tensor = (score.T @ image @ score @ text).trace()
    return variance.sqrt()


class VectorAlignment(nn.Module):
    """The moments of every session, and the maps that follow from all of them.

    The order of the sessions does not matter beyond rounding, learning them one by one is learning them at once, and a
    session that is taken out leaves the maps as they would be had it never come: the same bit for bit, on one machine.

    Args:
        joint: width of the vectors.
    """

    strength: Tensor

    def __init__(self, joint: int) -> None:
        super().__init__()
        self.joint = joint
        self.kept = nn.ModuleList()
        self.register_buffer("strength", torch.zeros(()))
        for side in ("image", "text"):
            self.register_buffer(f"{side}_taken", torch.zeros(joint))
            self.register_buffer(f"{side}_map", torch.eye(joint))
        self.acts = False

    def begin(self) -> None:
        """Room for one more session; nothing changes before its pairs are there."""
        self.kept.append(SessionPairs(self.joint))

    def end(self, image: Tensor, text: Tensor, held_out: tuple[Tensor, Tensor] | None = None) -> None:
        """The newest session's pairs, (pairs, joint) a side.

        Args:
            held_out: other pairs of the session. Where the maps that its own pairs alone come to make them worse
                beyond noise, the session does not count.
        """
        newest = self._sessions()[-1]
        newest.moments.fit(torch.cat([image, text], dim=1))
        if held_out is not None:
            newest.counts.fill_(not self._harms(newest, *held_out))
        self.solve()

    def remove(self, session: int) -> None:
        """Take a session out; those after it move up."""
        self.kept = nn.ModuleList(kept for at, kept in enumerate(self.kept) if at != session)
        self.solve()

    def counting(self) -> list[bool]:
        """Which sessions count."""
        return [bool(one.counts) for one in self._sessions()]

    def solve(self) -> None:
        """The maps of the sessions that count."""
        counting = [one.moments for one in self._sessions() if bool(one.counts) and int(one.moments.count)]
        strength, taken, maps = alignment(*pooled(counting)) if counting else _nothing(self.joint)
        self.strength.fill_(strength)
        for side, centre in taken.items():
            self.get_buffer(f"{side}_taken").copy_(centre)
            self.get_buffer(f"{side}_map").copy_(maps[side])
        self.acts = strength > 0

    def forward(self, side: Side, vectors: Float[Tensor, "batch joint"]) -> Float[Tensor, "batch joint"]:
        """A side's vectors, mapped; where no session counts they are left alone."""
        if not self.acts:
            return vectors
        apart = F.normalize(vectors, dim=-1) - self.get_buffer(f"{side}_taken")
        return apart @ self.get_buffer(f"{side}_map")

    def _sessions(self) -> list[SessionPairs]:
        return list(self.kept)  # type: ignore[arg-type]

    def _harms(self, session: SessionPairs, image: Tensor, text: Tensor) -> bool:
        """Whether a session's own maps rank its held-out pairs worse than the bare vectors do, beyond noise."""
        if len(image) < FEWEST:
            return False
        alone = VectorAlignment(self.joint)
        alone.kept.append(session)
        alone.solve()
        bare = reciprocal_ranks(image, text)
        gain = reciprocal_ranks(alone("image", image.cpu()), alone("text", text.cpu())) - bare
        return bool(gain.mean() + _ERRORS * gain.std() / len(gain) ** 0.5 < 0)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """As every module's; whether the maps act is told by their strength."""
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.acts = bool(self.strength > 0)


def _nothing(joint: int) -> Maps:
    """The maps that change nothing."""
    return (
        0.0,
        {"image": torch.zeros(joint), "text": torch.zeros(joint)},
        {"image": torch.eye(joint), "text": torch.eye(joint)},
    )


def reciprocal_ranks(
    image: Float[Tensor, "pairs joint"], text: Float[Tensor, "pairs joint"], asked: int | None = None
) -> Float[Tensor, " asked"]:
    """1 / rank of each pair's text among all texts and of its image among all images, the mean of both.

    Ties count against it.

    Args:
        asked: only the first pairs ask; by default all of them.
    """
    image, text = (F.normalize(side.cpu().double(), dim=-1) for side in (image, text))
    found, last = [torch.zeros(0, dtype=torch.float64)], len(image) if asked is None else asked
    for start in range(0, last, _BLOCK):
        rows = slice(start, min(start + _BLOCK, last))
        own = (image[rows] * text[rows]).sum(dim=1, keepdim=True) - _ROUNDING
        to_text = (image[rows] @ text.T >= own).sum(dim=1)
        to_image = (text[rows] @ image.T >= own).sum(dim=1)
        found.append((1 / to_text + 1 / to_image) / 2)
    return torch.cat(found)

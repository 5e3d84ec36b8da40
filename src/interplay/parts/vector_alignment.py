"""Linear maps that bring the frozen vectors of pairs together, in closed form from what is kept of each session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interplay.parts.moments import Moments, pooled
from interplay.towers.tokens import Side

Maps = tuple[float, dict[Side, Tensor], dict[Side, Tensor]]
"""How much is done, from 0; what is taken from a side's features, (width,); and its map, (width, joint)."""
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
        width: of the features of a side.
    """

    counts: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.moments = Moments(2 * width)
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


def layered_alignment(sessions: Sequence[Moments], joint: int) -> Maps:
    """As `alignment`, for sides of further features after their vectors, and with a strength that sessions decide.

    M = α·L / a + (1 − α)·I / b with L = W_x·U·S²·Vᵀ·W_y of all features, scaled so that the vectors vary as much as
    what is added; I compares the vectors alone. α is 0 where `strength_of` is, else the greater of that and
    `share_of_others`. Of M the `joint` largest singular values are kept.

    Args:
        sessions: moments of each session's pairs [image, text].
        joint: how many of a side's features are its vector.
    """
    count, mean, covariance = pooled(sessions)
    width = len(mean) // 2
    found = _learned(count, covariance, joint)
    if found is None or found[1] == 0:
        return _nothing(joint, width - joint)
    learned, strength = found
    strength = max(strength, share_of_others(sessions, joint))
    image, text = covariance[:width, :width], covariance[width:, width:]
    bare = _bare(width, joint)
    score = strength * learned / _spread(learned, image, text) + (1 - strength) * bare / _spread(
        bare, image, text
    )
    u, s, v = torch.linalg.svd(score)
    half, taken = torch.diag(s[:joint].sqrt()), strength**0.5 * mean
    return (
        strength,
        {"image": taken[:width].float(), "text": taken[width:].float()},
        {"image": (u[:, :joint] @ half).float(), "text": (v[:joint].T @ half).float()},
    )


def share_of_others(sessions: Sequence[Moments], joint: int) -> float:
    """How much of the score should be learned, in [0, 1], as each session says of what the other sessions have learned.

    Fisher's discriminant (1936) between true pairs and strangers from two scores, xᵀ·I·y and xᵀ·L·y, where L comes
    from all sessions but the one whose pairs are scored: the weights are Σ⁻¹·δ, δ being the mean score of true pairs
    and Σ the covariance of the scores of strangers, both within sessions. Negative weights count as 0. A single session
    says nothing: 0.
    """
    width = len(sessions[0].mean) // 2
    bare = _bare(width, joint)
    apart, alike = torch.zeros(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    for at, one in enumerate(sessions):
        others = [*sessions[:at], *sessions[at + 1 :]]
        if not others:
            continue
        count, _, covariance = pooled(others)
        found = _learned(count, covariance, joint)
        if found is None:
            continue
        image, text = covariance[:width, :width], covariance[width:, width:]
        scores = (bare / _spread(bare, image, text), found[0] / _spread(found[0], image, text))
        own = one.scatter() / int(one.count)
        image, text, across = own[:width, :width], own[width:, width:], own[:width, width:]
        apart += int(one.count) * torch.stack([(score * across).sum() for score in scores])
        seen = [image @ score @ text for score in scores]
        alike += int(one.count) * torch.stack(
            [torch.stack([(score * other).sum() for other in seen]) for score in scores]
        )
    weights = torch.linalg.lstsq(alike, apart, driver="gelsd").solution.clamp(min=0)
    return float(weights[1] / weights.sum()) if weights.sum() > 0 else 0.0


def _bare(width: int, joint: int) -> Tensor:
    """The score of the vectors alone."""
    return torch.diag((torch.arange(width) < joint).double())


def _learned(count: int, covariance: Tensor, joint: int) -> tuple[Tensor, float] | None:
    """W_x·U·S²·Vᵀ·W_y for features to scale, and its `strength_of`; None where a side is all alike."""
    width = len(covariance) // 2
    variances = covariance.diagonal().view(2, width)
    parts = torch.stack([variances[:, :joint].sum(1), variances[:, joint:].sum(1)], dim=1)
    if count < 2 or bool((parts[:, 0] <= 0).any()):
        return None
    scale = torch.where(parts > 0, parts, torch.inf).rsqrt()  # what is added may be constant: it is left out
    factors = torch.cat(
        [scale[:, :1].expand(2, joint), scale[:, 1:].expand(2, width - joint)], dim=1
    ).flatten()
    scaled = factors[:, None] * covariance * factors
    image, text, across = scaled[:width, :width], scaled[width:, width:], scaled[:width, width:]
    left, right = _whitening(image, width / (2 * count)), _whitening(text, width / (2 * count))
    common = left @ across @ right
    strength = strength_of(count, left @ image @ left, right @ text @ right, common)
    u, s, v = torch.linalg.svd(common)
    learned = left @ u @ torch.diag(s**2) @ v @ right
    return factors[:width, None] * learned * factors[width:], strength


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
        added: further features of each side, after its vector; with them the maps are those of `layered_alignment`.

    Attributes:
        open: whether a session with further features has begun and not ended: `forward` gives features as they are
            then, for `end` to read.
    """

    strength: Tensor

    def __init__(self, joint: int, added: int = 0) -> None:
        super().__init__()
        self.joint = joint
        self.added = added
        self.open = False
        self.kept = nn.ModuleList()
        self.register_buffer("strength", torch.zeros(()))
        for side in ("image", "text"):
            self.register_buffer(f"{side}_taken", torch.zeros(joint + added))
            self.register_buffer(f"{side}_map", torch.eye(joint + added, joint))
        self.acts = False

    def begin(self) -> None:
        """Room for one more session; nothing changes before its pairs are there."""
        self.kept.append(SessionPairs(self.joint + self.added))
        self.open = self.added > 0

    def end(self, image: Tensor, text: Tensor, held_out: tuple[Tensor, Tensor] | None = None) -> None:
        """The newest session's pairs, (pairs, joint + added) a side.

        Args:
            held_out: other pairs of the session. Where the maps that its own pairs alone come to make them worse
                beyond noise, the session does not count.
        """
        newest, self.open = self._sessions()[-1], False
        if self.added:
            image, text = self._to_scale(image), self._to_scale(text)
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
        strength, taken, maps = self._solved(counting)
        self.strength.fill_(strength)
        for side, centre in taken.items():
            self.get_buffer(f"{side}_taken").copy_(centre)
            self.get_buffer(f"{side}_map").copy_(maps[side])
        self.acts = strength > 0

    def forward(self, side: Side, features: Float[Tensor, "batch width"]) -> Float[Tensor, "batch out"]:
        """A side's vectors, each with its further features, mapped; where no session counts they are left alone."""
        if self.open:
            return features
        if not self.acts:
            return features[:, : self.joint] if self.added else features
        apart = self._to_scale(features) - self.get_buffer(f"{side}_taken")
        return apart @ self.get_buffer(f"{side}_map")

    def _to_scale(self, features: Tensor) -> Tensor:
        """Features with vectors of length 1."""
        if not self.added:
            return F.normalize(features, dim=-1)
        length = torch.linalg.vector_norm(features[:, : self.joint], dim=-1, keepdim=True)
        scaled: Tensor = features / length.clamp(min=_ROUNDING)
        return scaled

    def _solved(self, counting: Sequence[Moments]) -> Maps:
        if not counting:
            return _nothing(self.joint, self.added)
        return layered_alignment(counting, self.joint) if self.added else alignment(*pooled(counting))

    def _sessions(self) -> list[SessionPairs]:
        return list(self.kept)  # type: ignore[arg-type]

    def _harms(self, session: SessionPairs, image: Tensor, text: Tensor) -> bool:
        """Whether a session's own maps rank its held-out pairs worse than the bare vectors do, beyond noise."""
        if len(image) < FEWEST:
            return False
        alone = VectorAlignment(self.joint, self.added)
        alone.kept.append(session)
        alone.solve()
        bare = reciprocal_ranks(image[:, : self.joint], text[:, : self.joint])
        gain = reciprocal_ranks(alone("image", image.cpu()), alone("text", text.cpu())) - bare
        return bool(gain.mean() + _ERRORS * gain.std() / len(gain) ** 0.5 < 0)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """As every module's; whether the maps act is told by their strength, and no session is open."""
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.acts, self.open = bool(self.strength > 0), False


def _nothing(joint: int, added: int = 0) -> Maps:
    """The maps that change nothing."""
    width = joint + added
    return (
        0.0,
        {"image": torch.zeros(width), "text": torch.zeros(width)},
        {"image": torch.eye(width, joint), "text": torch.eye(width, joint)},
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

"""Temperature scaling: one number, chosen on validation, that makes probabilities mean what they say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.errors import InterplayError
from interplay.metrics.classification import Kind, f1, negative_log_likelihood
from interplay.typed import check_fields

NDArray = npt.NDArray[np.float64]
_PRECISION = 1e-14
"""Of ln β, and relative of temperature and shift together."""


@dataclass(frozen=True)
class Calibration:
    """What stands between logits and probabilities: z ← z / temperature + shift.

    Attributes:
        temperature: above 0; 1 leaves the logits as they are, more than 1 makes the classifier less sure.
        shift: for several labels, added to all logits alike; 0 for one label, where it would change nothing.

    Raises:
        InterplayError: a temperature that is not above 0, or a number that is not finite.
    """

    temperature: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.temperature < math.inf or not math.isfinite(self.shift):
            raise InterplayError(
                f"A temperature must be a number above 0 and a shift a number: got {self.temperature} and {self.shift}."
            )

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits of any shape → calibrated ones; their order stays."""
        return logits / self.temperature + self.shift


def fit_calibration(logits: Tensor, targets: Tensor, kind: Kind) -> Calibration:
    """The temperature with the smallest negative log-likelihood (Guo et al., 2017, §4.2), in double precision.

    In β = 1/T the likelihood of softmax or sigmoids is convex, so its slope has one root, found by Brent's method. With
    several labels a shift common to all classes joins in where it is worth its place by the Bayesian information
    criterion: where it lowers the summed negative log-likelihood by more than ½·ln(number of outputs). A shift moves
    the border of one half, so decisions on several labels can change: one that lowers their micro F1 is left out. With
    one label no decision changes.

    Args:
        logits: (N, K), before any calibration.
        targets: `single`: (N,) class indices; `multi`: (N, K) of zeros and ones.

    Raises:
        InterplayError: no best temperature exists: there is no pair, every one is right, or the logits say nothing of
            the targets.
    """
    z = logits.detach().double().cpu()
    targets = targets.detach().cpu()
    if not len(z) or not z.isfinite().all():
        raise InterplayError("A temperature needs at least one pair, and logits that are all finite numbers.")
    try:
        beta = _inverse_temperature(z, targets, kind)
    except InterplayError:  # logits of several labels that are informative, but far from their place
        shifted = _with_shift(z, targets.double(), 0.0) if kind == "multi" else None
        if shifted is None or not _better_than_constant(shifted(z), targets.double()):
            raise
        return shifted
    plain = Calibration(1 / beta)
    if kind == "single":
        return plain
    shifted = _with_shift(z, targets.double(), beta)
    if shifted is None:
        return plain
    decided = [f1(one(z).sigmoid(), targets, "micro") for one in (plain, shifted)]
    if decided[1] < decided[0]:
        return plain
    values = [negative_log_likelihood(one(z), targets) for one in (plain, shifted)]
    gained = (values[0] - values[1]) * z.numel()
    return shifted if gained > math.log(z.numel()) / 2 else plain


def _slope(z: Tensor, targets: Tensor, kind: Kind, beta: float) -> float:
    """d/dβ of the mean negative log-likelihood of β·z."""
    if kind == "multi":
        return (((beta * z).sigmoid() - targets) * z).mean().item()
    right = z.gather(1, targets[:, None]).squeeze(1)
    return (((beta * z).softmax(dim=1) * z).sum(dim=1) - right).mean().item()


def _inverse_temperature(z: Tensor, targets: Tensor, kind: Kind) -> float:
    """The root of the slope."""
    centred = z - z.mean(dim=1, keepdim=True) if kind == "single" else z
    spread = centred.square().mean().sqrt().item()
    if kind == "single":
        settled = bool((z.gather(1, targets[:, None]).squeeze(1) == z.amax(dim=1)).all())
    else:
        settled = bool((z * (2 * targets - 1) >= 0).all())
    if not spread or _slope(z, targets, kind, 0.0) >= -1e-12 * spread:
        raise InterplayError(
            "On these pairs the logits say no more of the classes than chance does, so no temperature is the best: "
            "train longer, or calibrate on pairs like those of the training."
        )
    if settled:
        raise InterplayError(
            f"All {len(z):,} pairs are classified right, so the likelihood grows with ever smaller temperatures and "
            "none is the best: calibrate on more pairs, some of which the classifier gets wrong."
        )
    from scipy.optimize import brentq

    low = high = -math.log(spread)  # of ln β, so that the precision is relative
    while _slope(z, targets, kind, math.exp(high)) < 0:
        low, high = high, high + 1
    while _slope(z, targets, kind, math.exp(low)) > 0:
        low, high = low - 1, low
    return math.exp(brentq(lambda u: _slope(z, targets, kind, math.exp(u)), low, high, xtol=_PRECISION))


def _better_than_constant(logits: Tensor, targets: Tensor) -> bool:
    """Whether they say more than the share of ones does."""
    share = targets.mean()
    constant = F.binary_cross_entropy(share.expand_as(targets), targets)
    gained = (constant - F.binary_cross_entropy_with_logits(logits, targets)) * targets.numel()
    return gained.item() > math.log(targets.numel()) / 2


def _with_shift(z: Tensor, targets: Tensor, beta: float) -> Calibration | None:
    """Temperature and shift together: a logistic regression on the logits; None where there is no best.

    Newton steps within a trust region come near it from anywhere, then the root of the gradient is exact.
    """
    from scipy.optimize import minimize, root

    positive = targets > 0.5
    if positive.all() or not positive.any() or z[positive].min() >= z[~positive].max():
        return None
    spread, mean = (x.item() for x in torch.std_mean(z, correction=0))
    columns = torch.stack([(z.flatten() - mean) / spread, torch.ones(z.numel(), dtype=z.dtype)], dim=1)
    outcome = targets.flatten()

    def value(at: NDArray) -> float:
        return F.binary_cross_entropy_with_logits(columns @ torch.from_numpy(at), outcome).item()

    def gradient(at: NDArray) -> NDArray:
        missed = (columns @ torch.from_numpy(at)).sigmoid() - outcome
        return (columns.T @ missed / len(outcome)).numpy()

    def curvature(at: NDArray) -> NDArray:
        p = (columns @ torch.from_numpy(at)).sigmoid()
        return (columns.T @ (columns * (p * (1 - p))[:, None]) / len(outcome)).numpy()

    start = np.array([beta * spread, beta * mean])
    near = minimize(value, start, jac=gradient, hess=curvature, method="trust-exact", tol=1e-8).x
    slope, level = (float(x) for x in root(gradient, near, jac=curvature, tol=_PRECISION).x)
    if not 0 < slope < math.inf or not math.isfinite(level):
        return None
    return Calibration(spread / slope, level - slope * mean / spread)


@dataclass(frozen=True)
class CalibrationReport:
    """What calibrating came to, on the pairs that it was done on.

    Attributes:
        calibration: what was found; the classifier uses it from now on.
        rows: how many pairs.
        before, after: negative log-likelihood, `nll`, and the metrics of `classification_metrics`.
    """

    calibration: Calibration
    rows: int
    before: dict[str, float]
    after: dict[str, float]

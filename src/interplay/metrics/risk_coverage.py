"""How often a classifier is wrong on the pairs that it is surest of: arrays in, floats out.

Coverage is the share of pairs that are answered, the surest first; risk is the share of wrong ones among these.
Pairs of equal confidence enter in random order, and risk is the expectation over it: each counts as the mean of its
equals. So neither the order of the pairs nor the sorting decides anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def confidence_and_error(probabilities: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The largest probability of each sample, and 1.0 where its class (the first one of equals) is wrong.

    Args:
        probabilities: (N, K).
        targets: (N,) class indices.

    Returns:
        (N,) and (N,), double.
    """
    predicted = probabilities.argmax(dim=1)
    highest = probabilities.gather(1, predicted[:, None]).squeeze(1)
    return highest.double(), (predicted != targets).double()


@dataclass(frozen=True)
class RiskCoverage:
    """A risk-coverage curve.

    Attributes:
        coverage: k/N for k = 1 … N.
        risk: the expected share of wrong ones among the k surest.
        threshold: the confidence of the k-th; who abstains below it answers at least these k.
    """

    coverage: list[float]
    risk: list[float]
    threshold: list[float]

    @property
    def area(self) -> float:
        """The area under the curve: the mean of `risk` over all coverages, 0 at best (Geifman et al., 2019)."""
        return math.fsum(self.risk) / len(self.risk)

    def at(self, coverage: float) -> int:
        """The number (from 0) of the point where at least this share is answered, for the first time."""
        wanted = math.ceil(coverage * len(self.coverage) - 1e-9)
        return min(max(wanted, 1), len(self.coverage)) - 1


def risk_coverage(confidence: Tensor, error: Tensor) -> RiskCoverage:
    """The whole curve.

    Args:
        confidence: (N,), N >= 1; larger is surer.
        error: (N,) of zeros and ones, 1 where the answer is wrong.

    Raises:
        ValueError: the shapes differ, there is no sample, or a confidence is no number.
    """
    confidence, error = confidence.detach().double().cpu(), error.detach().double().cpu()
    if confidence.dim() != 1 or confidence.shape != error.shape or not len(error) or confidence.isnan().any():
        raise ValueError(f"confidence {tuple(confidence.shape)} and error {tuple(error.shape)} do not fit")
    values, group, count = torch.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = torch.zeros(len(values), dtype=torch.double).index_add(0, group, error) / count
    ranks = torch.arange(1, len(error) + 1, dtype=torch.double)
    risk = wrong.repeat_interleave(count).cumsum(0) / ranks
    thresholds = (-values).repeat_interleave(count)
    return RiskCoverage((ranks / len(error)).tolist(), risk.tolist(), thresholds.tolist())


def risk_at_coverage(confidence: Tensor, error: Tensor, coverage: float) -> float:
    """The expected share of wrong ones among the ⌈coverage·N⌉ surest, at least one.

    Args:
        confidence, error: as `risk_coverage`.
        coverage: in (0, 1].

    Raises:
        ValueError: as `risk_coverage`, or a coverage outside (0, 1].
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage lies in (0, 1], not {coverage}")
    curve = risk_coverage(confidence, error)
    return curve.risk[curve.at(coverage)]


def area_under_risk_coverage(confidence: Tensor, error: Tensor) -> float:
    """The mean over k = 1 … N of the risk of the k surest; arguments and errors are those of `risk_coverage`."""
    return risk_coverage(confidence, error).area

"""What answers are worth on pairs that they were not fitted on: figures, intervals, and whether one beats another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.classification.model import PairClassifier
from interplay.metrics import classification as metrics
from interplay.training.report import Standing
from interplay.training.settings import SMALLER_IS_BETTER

RESAMPLES = 400
BEYOND_NOISE = 0.84
"""The share of cases in which the best of some answers that are no better than another one gains less than what counts.

Of one answer that is a gain of one standard error. Of six epochs, of which the best on the same pairs is looked at, 4
in 10 that are no better gain one standard error, of eight trainings of six epochs 9 in 10, and this bound in about 15
of 100; it is passed by 8 in 10 trainings that gain five points on 400 pairs, and 6 in 10 on 150.
"""
_CONFIDENT = 1.96
_DRAWS = 50
"""Draws that are counted at a time."""

Measure = Callable[[Tensor, Tensor], float]
_MEASURES: dict[str, Measure] = {
    "accuracy": metrics.accuracy,
    "macro_accuracy": metrics.macro_accuracy,
    "f1_macro": partial(metrics.f1, average="macro"),
    "f1_micro": partial(metrics.f1, average="micro"),
    "map": metrics.mean_average_precision,
    "calibration_error": metrics.expected_calibration_error,
}


class Monitor:
    """The validation figure that decides, of logits (rows, K) on targets, (rows,) or (rows, K).

    Args:
        model: whose loss and kind of labels are meant.
        name: one of `PairClassifier.monitors`.
    """

    def __init__(self, model: PairClassifier, name: str) -> None:
        self.name = name
        self._model = model
        self._multi = model.kind == "multi"

    def value(self, logits: Tensor, targets: Tensor) -> float:
        """The figure itself."""
        if self.name == "loss":
            return self._model.loss(logits, targets).item()
        probabilities = logits.sigmoid() if self._multi else logits.softmax(dim=-1)
        return _MEASURES[self.name](probabilities, targets)

    def merit(self, value: float) -> float:
        """The figure so that more is better."""
        return -value if self.name in SMALLER_IS_BETTER else value

    def loss(self, logits: Tensor, targets: Tensor) -> float:
        """Negative log-likelihood, whatever the loss of training."""
        return metrics.negative_log_likelihood(logits, targets)

    def error(self, value: float, rows: int) -> float:
        """About the standard error of a figure from `rows` rows, √(p·(1 − p)/n); 0 of those that are no share."""
        if self.name in SMALLER_IS_BETTER:
            return 0.0
        share = min(max(value, 1 / (rows + 2)), 1 - 1 / (rows + 2))
        return math.sqrt(share * (1 - share) / rows)

    def threshold(self, outputs: Tensor, targets: Tensor) -> float:
        """For several labels, the output above which a class is said with the best F1; else 0.

        Macro F1 where that decides, else micro F1.
        """
        if not self._multi:
            return 0.0
        if self.name == "f1_macro":
            by_class, order = outputs.sort(dim=0, descending=True)
            found = _f1_of_the_first(targets.gather(0, order))
            gained = torch.diff(
                found, dim=0, prepend=torch.zeros_like(found[:1])
            )  # each row moves one class's F1
            ranked, order = by_class.flatten().sort(descending=True)
            found = gained.flatten()[order].cumsum(0)
        else:
            ranked, order = outputs.flatten().sort(descending=True)
            found = _f1_of_the_first(targets.flatten()[order])
        found[:-1][ranked[1:] == ranked[:-1]] = -1  # no threshold stands between equal outputs
        at = int(found.argmax())
        below = ranked[at + 1] if at + 1 < len(ranked) else ranked[at] - 1
        return float(ranked[at] + below) / 2

    def scale(self, outputs: Tensor, targets: Tensor) -> float:
        """The factor on outputs with the smallest negative log-likelihood, between 1 and 100, within 6 %.

        Of many rows, about a thousand that are spread evenly over them are looked at.
        """
        step = max(1, len(outputs) // 1000)
        z, y = outputs[::step].float(), targets[::step]
        low, high, best = 0.0, math.log(100), 0.0
        for _ in range(3):  # the loss is convex in the factor
            factors = torch.linspace(low, high, 8).exp()
            logits = factors[:, None, None] * z
            if self._multi:
                losses = F.softplus(logits).mean((1, 2)) - (logits * y).mean((1, 2))
            else:
                right = logits.gather(2, y.expand(len(factors), -1)[:, :, None]).squeeze(2)
                losses = (logits.logsumexp(2) - right).mean(1)
            best, width = float(factors[losses.argmin()].log()), (high - low) / 7
            low, high = max(0.0, best - width), best + width
        return math.exp(best)

    def standing(self, name: str, logits: Tensor, targets: Tensor) -> Standing:
        """The figure with its 95 % interval: Wilson's for accuracy, else from resampled rows."""
        value, rows = self.value(logits, targets), len(targets)
        if self.name == "accuracy":
            low, high = wilson(value, rows)
        else:
            found = self.resampled(logits, targets)
            low, high = (float(found.nanquantile(q)) for q in (0.025, 0.975))
        return Standing(name, value, low, high, rows)

    def gain(self, ours: Tensor, theirs: Tensor, targets: Tensor) -> tuple[float, float]:
        """How much better one set of logits is than another on the same rows, and the standard error of that.

        The error is the deviation of the difference over resampled rows, the same for both.
        """
        first, second = (self.merit(self.value(logits, targets)) for logits in (ours, theirs))
        again = [self.resampled(logits, targets) for logits in (ours, theirs)]
        return first - second, float((again[0] - again[1]).std())

    def noise(self, ours: Sequence[Tensor], theirs: Tensor, targets: Tensor) -> float:
        """What the best of some sets of logits gains on another one by chance in `BEYOND_NOISE` of all cases.

        The quantile of max over ours of (gain on resampled rows − gain on all rows): a test of the best of many (White,
        2000) that knows how alike they are.
        """

        def above(logits: Tensor) -> Tensor:
            sign = self.merit(1.0)
            return sign * (self.resampled(logits, targets) - self.value(logits, targets))

        other = above(theirs)
        largest = torch.stack([above(logits) - other for logits in ours]).max(dim=0).values
        return float(largest.nanquantile(BEYOND_NOISE))

    def resampled(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The figure on rows drawn with replacement, (`RESAMPLES`,)."""
        draws = resampled(len(targets))
        if self.name == "accuracy":
            right = (logits.argmax(dim=1) == targets).double()
            return right[draws].mean(1)
        if self.name in ("f1_macro", "f1_micro"):
            true = targets if self._multi else F.one_hot(targets, logits.shape[1])
            said = logits > 0 if self._multi else F.one_hot(logits.argmax(dim=1), logits.shape[1])
            return _f1_of_draws(draws, true.double(), said.double(), macro=self.name == "f1_macro")
        return torch.tensor([self.value(logits[rows], targets[rows]) for rows in draws]).double()


def _f1_of_draws(draws: Tensor, true: Tensor, said: Tensor, *, macro: bool) -> Tensor:
    """F1 (`metrics.f1`) of draws (draws, rows) of the rows of two tables of 0 and 1, (rows, K)."""
    found = []
    for some in torch.split(draws, _DRAWS):
        times = torch.zeros_like(some, dtype=torch.double).scatter_add_(
            1, some, torch.ones_like(some).double()
        )
        hits, told = 2 * (times @ (true * said)), times @ (true + said)
        if macro:
            found.append((hits / told).nanmean(1))  # a class that nobody has and nobody says has no F1
        else:
            found.append(hits.sum(1) / told.sum(1))
    return torch.cat(found).nan_to_num(0.0)


def _f1_of_the_first(targets: Tensor) -> Tensor:
    """F1 of saying yes to the first row alone, the first two, …, down each column; of the same shape, in doubles."""
    said = torch.arange(1, len(targets) + 1, device=targets.device).double()
    said = said if targets.dim() == 1 else said[:, None]
    return 2 * targets.double().cumsum(0) / (said + targets.sum(0))


def wilson(share: float, rows: int) -> tuple[float, float]:
    """The 95 % interval of a share of `rows` rows (Wilson, 1927)."""
    z = _CONFIDENT**2 / rows
    middle = (share + z / 2) / (1 + z)
    half = math.sqrt(z * (share * (1 - share) + z / 4)) / (1 + z)
    return min(middle - half, share), max(middle + half, share)  # they meet at 0 and 1, but for the last bits


def resampled(rows: int) -> Tensor:
    """(`RESAMPLES`, rows) row numbers drawn with replacement, always the same."""
    return torch.randint(rows, (RESAMPLES, rows), generator=torch.Generator().manual_seed(0))

"""The pairs that a classifier gets wrong, the surest ones first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SEPARATOR = "|"
"""Between the classes of a pair that has several."""


@dataclass(frozen=True)
class Mistake:
    """A pair that is not what was predicted.

    Attributes:
        row: its number among the pairs.
        truth, predicted: class names; several of them with `SEPARATOR` in between, and none of them an empty text.
        probability: of the predicted class; of several labels that of the surest wrong decision, which is the
            probability of a class that was predicted and is not true, or 1 minus that of one that was left out.
    """

    row: int
    truth: str
    predicted: str
    probability: float


def mistakes(labels: Sequence[str], probabilities: Tensor, targets: Tensor) -> list[Mistake]:
    """All wrong pairs by falling probability, equals in the order of the pairs.

    Args:
        labels: the K class names.
        probabilities: (N, K), on the CPU.
        targets: (N,) class indices: the prediction is the most probable class; or (N, K) of zeros and ones: the
            predictions are the classes with a probability above 0.5.
    """
    if targets.dim() == 1:
        sure = probabilities.max(dim=1).values
        best = probabilities.argmax(dim=1)
        wrong = best != targets
    else:
        said, true = probabilities > 0.5, targets > 0.5
        missed = said != true
        decided = torch.where(said, probabilities, 1 - probabilities)
        sure = torch.where(missed, decided, 0).amax(dim=1)
        wrong = missed.any(dim=1)
    rows = wrong.nonzero().flatten()
    rows = rows[sure[rows].argsort(descending=True, stable=True)]
    found = []
    for row in rows.tolist():
        if targets.dim() == 1:
            truth, predicted = labels[int(targets[row])], labels[int(best[row])]
        else:
            truth, predicted = (
                SEPARATOR.join(labels[at] for at in one[row].nonzero().flatten().tolist())
                for one in (true, said)
            )
        found.append(Mistake(row, truth, predicted, float(sure[row])))
    return found

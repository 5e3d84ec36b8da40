"""What an evaluation tells of every class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from interplay.metrics.classification import Kind, classification_metrics, confusion_matrix, per_class

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Report:
    """Figures of one split.

    Attributes:
        metrics: as `interplay.metrics.classification.classification_metrics`.
        classes: a row a class: `rows` (pairs that have it), `predicted` (pairs that it was predicted for), `precision`,
            `recall`, `f1`; NaN where there is nothing to divide by.
        confusion: for one label a pair: how many pairs of the class of the row were predicted as that of the column.
    """

    metrics: dict[str, float]
    classes: pandas.DataFrame
    confusion: pandas.DataFrame | None

    def confusions(self) -> list[tuple[str, str, int]]:
        """True class, predicted class and how many rows, the commonest first; none where there is no matrix."""
        if self.confusion is None:
            return []
        names, counts = [str(name) for name in self.confusion.index], self.confusion.to_numpy().tolist()
        wrong = [
            (names[a], names[b], count)
            for a, row in enumerate(counts)
            for b, count in enumerate(row)
            if a != b and count
        ]
        return sorted(wrong, key=lambda one: -one[2])

    def worst(self) -> pandas.DataFrame:
        """The rows of `classes` that occur and are not all right: the smallest F1 first, of equals the most rows."""
        some = self.classes[(self.classes["rows"] > 0) & (self.classes["f1"] < 1)]
        return some.sort_values(["f1", "rows"], ascending=[True, False], kind="stable")


def report(labels: Sequence[str], probabilities: Tensor, targets: Tensor, kind: Kind) -> Report:
    """The report of probabilities (N, K) on targets, (N,) or (N, K), of the K classes `labels`."""
    import pandas

    names = list(labels)
    confusion = None
    if kind == "single":
        counts = confusion_matrix(probabilities, targets).numpy()
        confusion = pandas.DataFrame(counts, index=names, columns=names)
    classes = pandas.DataFrame(per_class(probabilities, targets), index=names)
    return Report(classification_metrics(probabilities, targets, kind), classes, confusion)

"""From probabilities to classes: the most probable one, all above one half, or none."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from interplay.errors import InterplayError
from interplay.metrics.classification import Kind
from interplay.typed import expect

ABSTAINED = ""
"""The answer of a classifier that abstains."""


def check_abstaining(kind: Kind | None, abstain_below: float | None) -> None:
    """Whether a classifier can abstain there.

    Raises:
        InterplayError: with several labels, or outside (0, 1].
    """
    if abstain_below is None:
        return
    if kind != "single":
        raise InterplayError(
            "Abstaining is for classifiers with one label a pair: with several labels a pair may have none anyway."
        )
    expect("abstain_below", abstain_below, float)
    if not 0 < abstain_below <= 1:
        raise InterplayError(f"abstain_below is a probability above 0 and up to 1, not {abstain_below}.")


def decided(
    labels: Sequence[str], kind: Kind | None, probabilities: Tensor, abstain_below: float | None = None
) -> list[str] | list[list[str]]:
    """Probabilities (pairs, classes) → the class of each pair, or for several labels those above one half.

    Args:
        labels: names of the classes.
        kind: `single` label or `multi` label.
        abstain_below: answer `ABSTAINED` where even the highest probability is smaller.
    """
    if kind == "single":
        least = 0.0 if abstain_below is None else abstain_below
        highest, best = probabilities.max(dim=1)
        return [
            labels[at] if value >= least else ABSTAINED
            for at, value in zip(best.tolist(), highest.tolist(), strict=True)
        ]
    return [
        [label for label, value in zip(labels, row, strict=True) if value > 0.5]
        for row in probabilities.tolist()
    ]

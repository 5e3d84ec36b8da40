"""Recall averaged over tasks: light, so that a command line can import it before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interplay.metrics.recall import Recall


def average(recalls: Sequence[Recall]) -> float:
    """Mean over tasks, directions and k."""
    return fmean(share for recall in recalls for by_k in recall.values() for share in by_k.values())


def averages(recalls: Sequence[Recall]) -> dict[str, Any]:
    """Mean over tasks, as `ScoreMatrix.summary` gives a figure."""
    found: dict[str, Any] = {
        direction: {str(k): fmean(recall[direction][k] for recall in recalls) for k in recalls[0][direction]}
        for direction in recalls[0]
    }
    return found | {"mean": average(recalls)}

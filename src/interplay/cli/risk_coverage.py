"""The risk-coverage curve that 'interplay evaluate --risk-coverage' draws."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interplay.cli.result import columns as aligned

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Coverages that are printed."""


def draw_risk_coverage(
    probabilities: Tensor, targets: Tensor, picture: Path, title: str
) -> tuple[dict[str, Any], str]:
    """The risk-coverage curve as a picture and as a JSON file beside it.

    Args:
        probabilities: (N, K).
        targets: (N,) class indices.
        picture: where the PNG goes.
        title: above the picture.

    Returns:
        What is worth printing of it, for machines and for people.
    """
    from interplay.files import write_text
    from interplay.metrics.risk_coverage import confidence_and_error, risk_coverage
    from interplay.plotting.figures import risk_against_coverage

    curve = risk_coverage(*confidence_and_error(probabilities, targets))
    numbers = picture.with_suffix(".json")
    risk_against_coverage(curve.coverage, curve.risk, picture, title)
    whole = {
        "area": curve.area,
        "coverage": curve.coverage,
        "risk": curve.risk,
        "threshold": curve.threshold,
    }
    write_text(numbers, json.dumps(whole) + "\n")
    points = [
        {"coverage": share, "risk": curve.risk[at], "threshold": curve.threshold[at]}
        for share in _SHOWN
        for at in [curve.at(share)]
    ]
    found = {"picture": str(picture), "numbers": str(numbers), "area": curve.area, "at": points}
    rows = [
        (f"{p['coverage']:.0%}", p["risk"], f"{math.floor(p['threshold'] * 1e6) / 1e6:.6f}") for p in points
    ]
    table = aligned(("answered", "wrong of these", "--abstain-below"), rows)
    return found, (
        f"{table}\n\nArea under the risk-coverage curve: {curve.area:.4f}. The curve is in {picture} and {numbers}."
    )

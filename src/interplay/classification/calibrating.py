"""A classifier's probabilities, calibrated on pairs that it was not trained on."""

from __future__ import annotations

from torch import Tensor

from interplay.classification.model import PairClassifier
from interplay.metrics.calibration import Calibration, CalibrationReport, fit_calibration
from interplay.metrics.classification import classification_metrics, negative_log_likelihood

IN_THE_CARD = ("nll", "calibration_error")
"""What the model card tells of the calibrated probabilities, on the pairs that they were calibrated on."""


def calibrated(model: PairClassifier, logits: Tensor, targets: Tensor) -> CalibrationReport:
    """Choose a model's calibration, which it keeps, and measure its probabilities without and with it.

    Args:
        logits: (N, K), bare.
        targets: of the same pairs.

    Raises:
        InterplayError: no temperature is the best (`fit_calibration`).
    """

    def figures(calibration: Calibration) -> dict[str, float]:
        model.calibration = calibration
        nll = negative_log_likelihood(calibration(logits), targets)
        return {"nll": nll} | classification_metrics(model.probabilities(logits), targets, model.kind)

    found = fit_calibration(logits, targets, model.kind)
    before = figures(Calibration())
    return CalibrationReport(found, len(targets), before, figures(found))

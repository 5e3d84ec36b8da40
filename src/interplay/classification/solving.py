"""How a classifier is fitted, by its method's solver: steps of gradient descent, a probe, a threshold, or nothing."""

from __future__ import annotations

import time
from pathlib import Path

from interplay.classification.evaluation import evaluate
from interplay.classification.from_start import fit_from_start
from interplay.classification.model import PairClassifier
from interplay.classification.probe import fit_probe, fit_threshold
from interplay.encoding.batches import EncodedTable
from interplay.methods.solvers import Probe
from interplay.towers.backbone import Backbone
from interplay.training.report import FitReport
from interplay.training.settings import TrainSettings
from interplay.training.train import fit


def solve(
    model: PairClassifier,
    backbone: Backbone,
    train: EncodedTable,
    validation: EncodedTable,
    settings: TrainSettings,
    folder: Path,
    *,
    resume: bool,
) -> FitReport:
    """Fit a prepared classifier.

    Args:
        settings, folder, resume: of `fit`; what is not trained by gradient reads none of them.

    Raises:
        InterplayError: as `fit`, `fit_probe` and `fit_threshold`.
    """
    if not model.method.traits.solver.by_gradient:
        return _closed(model, backbone, train, validation)
    if model.head.settings.kind in ("auto", "kernel"):
        return fit_from_start(model, backbone, train, validation, settings, folder, resume=resume)
    if model.head.settings.start == "probe":
        penalty = model.head.settings.start_penalty
        fit_probe(model, backbone, train, validation, inverse_penalty=penalty)
    return fit(model, backbone, train, validation, settings, folder, resume=resume)


def _closed(
    model: PairClassifier, backbone: Backbone, train: EncodedTable, validation: EncodedTable
) -> FitReport:
    """Fit what takes no steps: a probe, or for an untrained classifier with several labels a pair a threshold."""
    start, monitor = time.perf_counter(), model.monitors[0]
    if isinstance(model.method.traits.solver, Probe):
        probe = fit_probe(model, backbone, train, validation)
        value, parameters = probe.value, probe.parameters
    elif model.kind == "multi":
        value, parameters, monitor = fit_threshold(model, backbone, validation), 1, "f1_micro"
    else:
        value, parameters = evaluate(model, backbone, validation)["accuracy"], 0
    seconds = time.perf_counter() - start
    return FitReport(1, value, monitor, [], seconds, seconds, 0, parameters)

"""How a classifier is fitted, by its method's solver: steps of gradient descent, a probe, a threshold, or nothing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from interplay.classification.artifact import ClassifierCard
from interplay.classification.attempts import Tables
from interplay.classification.evaluation import evaluate
from interplay.classification.from_start import fit_from_start
from interplay.classification.model import PairClassifier
from interplay.classification.probe import fit_probe, fit_threshold
from interplay.data.schema import PairTable
from interplay.encoding.batches import EncodedTable
from interplay.encoding.inputs import encode_table
from interplay.methods.registry import choose
from interplay.methods.solvers import Probe
from interplay.parts.heads import HeadSettings
from interplay.settings import make_settings
from interplay.towers.backbone import Backbone
from interplay.training.report import FitReport
from interplay.training.settings import TrainSettings
from interplay.training.train import check_accelerator, fit


def fitted(
    model: PairClassifier,
    card: ClassifierCard,
    backbone: Backbone,
    table: PairTable,
    settings: TrainSettings,
    run: str | Path | None,
    *,
    resume: bool,
    rivals: Sequence[str] = (),
) -> tuple[ClassifierCard, FitReport]:
    """Fit a fresh classifier on `train`, with everything that is chosen chosen on `validation`.

    Args:
        model: what is fitted.
        card: what its artefact says before.
        table: with its classes in the order of the labels.
        settings, run, resume: as `Classifier.fit` takes them.
        rivals: methods to choose among, in place of the card's.

    Returns:
        What its artefact says now, and what came out of the training.

    Raises:
        InterplayError: as `Classifier.fit`.
    """
    check_accelerator(settings)

    @cache
    def tables(reserve: int) -> Tables:
        train, validation = (
            encode_table(table.split(name), backbone, reserve=reserve) for name in ("train", "validation")
        )
        return train, validation

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(run) if run is not None else Path(scratch)
        report = solve(
            model, backbone, tables, settings, folder, resume=resume, name=card.method, rivals=rivals
        )
        model.eval()
        found = _validated(model, backbone, report, tables(model.reserve)[1])
    card = replace(
        card,
        **_fitted_method(model, card),
        head=_fitted_head(model, card),
        metrics={f"validation_{name}": value for name, value in found.items()},
        training=asdict(report.training or settings) if model.method.traits.solver.by_gradient else {},
    )
    return card, report


def _fitted_method(model: PairClassifier, card: ClassifierCard) -> dict[str, Any]:
    """The method as an artefact holds it: the one that was kept, where it is another than was asked for."""
    if isinstance(model.method, choose(card.method).method):
        return {}
    return {"method": model.method.name, "settings": asdict(model.method.settings)}


def _fitted_head(model: PairClassifier, card: ClassifierCard) -> dict[str, Any]:
    """The head's settings as an artefact holds them: those of the one that was chosen, where it was."""
    given: HeadSettings = make_settings(HeadSettings, card.head, "the head")
    chosen = model.head.settings
    return dict(card.head) if chosen == given else asdict(chosen)


def _validated(
    model: PairClassifier, backbone: Backbone, report: FitReport, validation: EncodedTable
) -> dict[str, float]:
    """Metrics of what came out, on pairs that it was not fitted on."""
    if report.start and not report.best_epoch:
        return {name: value for name, value in report.start.items() if name != "loss"}
    return evaluate(model, backbone, validation)


def solve(
    model: PairClassifier,
    backbone: Backbone,
    tables: Callable[[int], Tables],
    settings: TrainSettings,
    folder: Path,
    *,
    resume: bool,
    name: str = "",
    rivals: Sequence[str] = (),
) -> FitReport:
    """Fit a prepared classifier.

    Args:
        tables: the number of text positions to leave free → the pairs of train and of validation.
        settings, folder, resume: of `fit`; what is not trained by gradient reads none of them.
        name, rivals: of `fit_from_start`.

    Raises:
        InterplayError: as `fit`, `fit_probe` and `fit_threshold`.
    """
    train, validation = tables(model.reserve)
    if not model.method.traits.solver.by_gradient:
        return _closed(model, backbone, train, validation)
    if model.head.settings.fitted_first:
        return fit_from_start(
            model, backbone, tables, settings, folder, resume=resume, name=name, rivals=rivals
        )
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

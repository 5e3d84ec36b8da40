"""Training from a head that was fitted in closed form, which is kept where training does not beat it beyond noise."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from interplay.classification.evidence import BEYOND_NOISE, Monitor
from interplay.classification.model import PairClassifier
from interplay.classification.starts import Answer, Choice, Starts, vectors_of
from interplay.encoding.batches import EncodedTable
from interplay.encoding.predict import predict
from interplay.errors import Diverged
from interplay.towers.backbone import Backbone
from interplay.training.report import FitReport, Standing
from interplay.training.settings import TrainSettings, monitored
from interplay.training.train import fit

TELLING = 40
"""With fewer validation pairs nobody can tell whether training helps, and nothing is trained."""
_FEW_ROWS = 8
"""A class with fewer training rows is told of."""


def fit_from_start(
    model: PairClassifier,
    backbone: Backbone,
    train: EncodedTable,
    validation: EncodedTable,
    settings: TrainSettings,
    folder: Path,
    *,
    resume: bool,
) -> FitReport:
    """Choose a head by evidence (`Starts`), train the method from there, and keep what is better.

    The start is what the towers give with the method as it is built, under a head that was fitted on `train` alone; it
    counts as epoch 0. The trained weights are kept where their figure on `validation` is better by more than one
    standard error of the paired difference; else the head is fitted once more, on validation too where it was
    cross-validated, and the method stays as it was built. With fewer than `TELLING` validation pairs nothing is
    trained.

    Args:
        model: prepared; gets its head here.

    Raises:
        InterplayError: as `fit`, but for a loss that is no number: then the start is kept.
    """
    began = time.perf_counter()
    monitor = Monitor(model, monitored(settings, model.monitors))
    kind = model.head.settings.kind
    starts = Starts(model, monitor) if kind == "auto" else Starts(model, monitor, (kind,))
    seen, held_out = (vectors_of(model, backbone, table) for table in (train, validation))
    choice = starts.choose(seen, held_out)
    model.head = starts.fit(choice.best, seen).to(backbone.device)
    start = model.validation_values(choice.best.logits, choice.targets)
    table, notes = _table(monitor, choice), _notes(train, choice, monitor)
    report = _untrained(model, monitor.name)
    trained: Standing | None = None
    if settings.preset != "fast" and len(validation) < TELLING:
        notes.append(
            f"{len(validation)} validation pairs are too few to tell whether training helps, so none was tried: the "
            "start is kept."
        )
    elif settings.preset != "fast":
        before = {name: value.clone() for name, value in model.state_dict().items()}
        untrained = predict(model, backbone, validation)
        value = monitor.value(untrained, held_out.targets)
        try:
            report = fit(model, backbone, train, validation, settings, folder, resume=resume, start=value)
            logits = predict(model, backbone, validation)
            gain, error = monitor.gain(logits, untrained, held_out.targets)
            if gain > BEYOND_NOISE * error:
                trained = monitor.standing("this run", logits, held_out.targets)
                notes.append(f"Training gained {gain:.3f} ± {error:.3f} in {monitor.name} on validation.")
            else:
                notes.append(
                    f"Training did not beat its start beyond noise ({gain:+.3f} ± {error:.3f} in {monitor.name} on "
                    f"{len(validation)} validation pairs): the start is kept."
                )
        except Diverged as problem:
            notes.append(f"Training came to no numbers, so the start is kept: {problem}")
        if trained is None:
            model.load_state_dict(before)
    if trained is None:
        if choice.crossed:
            model.head = starts.fit(choice.best, seen.and_(held_out)).to(backbone.device)
        report = replace(report, best_epoch=0, best_value=choice.best.value, parameters=_fitted(model))
        trained = replace(table[-1], name="this run")
    seconds = time.perf_counter() - began
    return replace(report, seconds=seconds, start=start, table=(*table, trained), notes=tuple(notes))


def _untrained(model: PairClassifier, monitor: str) -> FitReport:
    return FitReport(0, 0.0, monitor, [], 0.0, 0.0, 0, _fitted(model))


def _fitted(model: PairClassifier) -> int:
    """How many numbers the closed form fitted: the head's."""
    return sum(parameter.numel() for parameter in model.head.parameters())


def _table(monitor: Monitor, choice: Choice) -> list[Standing]:
    """The best answer of each sort, the chosen one last."""
    zero_shot = max(
        (answer for answer in choice.answers if answer.candidate.settings.kind == "class_text"),
        key=lambda answer: answer.merit,
        default=None,
    )
    sorts: dict[str, Answer | None] = {
        "zero-shot": zero_shot,
        "text alone": choice.among("text"),
        "image alone": choice.among("image"),
        "linear probe": choice.among("concat", "pair", kinds=("linear",)),
        "start": choice.best,
    }
    return [
        monitor.standing(name, answer.logits, choice.targets)
        for name, answer in sorts.items()
        if answer is not None
    ]


def _notes(train: EncodedTable, choice: Choice, monitor: Monitor) -> list[str]:
    """What there is to say before anything is trained."""
    notes = []
    if choice.crossed:
        notes.append(
            f"Few pairs are for validation: what is fitted in closed form is cross-validated over the "
            f"{len(choice.targets)} pairs of train and validation."
        )
    for side, other in (("text", "image"), ("image", "text")):
        alone, rest = choice.among(side), choice.among(other)
        if alone is None or rest is None:
            continue
        missed, error = monitor.gain(choice.best.logits, alone.logits, choice.targets)
        ahead = alone.merit - rest.merit
        if missed <= 2 * error and ahead > 2 * monitor.error(alone.value, len(choice.targets)):
            notes.append(f"The {side} alone explains most of it.")
    targets = train.targets
    assert targets is not None
    counts = _counts(targets, choice.best.logits.shape[1])
    if small := int((counts < _FEW_ROWS).sum()):
        classes = "1 class has" if small == 1 else f"{small} classes have"
        notes.append(f"{classes} fewer than {_FEW_ROWS} training rows.")
    return notes


def _counts(targets: Tensor, classes: int) -> Tensor:
    return targets.sum(0) if targets.dim() == 2 else torch.bincount(targets, minlength=classes)

"""Training from a head that was fitted in closed form, which is kept where training does not beat it beyond noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from interplay.classification.attempts import Tables, Trainings, entrants, first, longer, with_method
from interplay.classification.evidence import Monitor
from interplay.classification.model import PairClassifier
from interplay.classification.starts import Answer, Choice, Starts, logits_of, vectors_of
from interplay.encoding.batches import EncodedTable
from interplay.methods.registry import choose
from interplay.towers.backbone import Backbone
from interplay.training.report import FitReport, Standing
from interplay.training.settings import TrainSettings, monitored

TELLING = 40
"""With fewer validation pairs nobody can tell whether training helps, and nothing is trained."""
_ROUNDING = 1e-9
_FEW_ROWS = 8
"""A class with fewer training rows is told of."""
BARE = "head_only"
"""The method that leaves the towers alone."""


def fit_from_start(
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
    """Choose a head by evidence (`Starts`), train from there, and keep what is better.

    The start is the bare towers under a head that was fitted on `train` alone. A method that starts frozen starts
    there exactly, another one under a head that was fitted to its own vectors. Of all epochs of all trainings the best
    one on `validation` is kept where it gains more on the start than the best of as many that are no better would gain
    by chance (`Monitor.noise`); else the head is fitted once more, on validation too where it was cross-validated, and
    the model's method is `head_only` from then on. With fewer than `TELLING` validation pairs nothing is trained.

    Args:
        model: prepared; gets its head here, and its method where another one is kept.
        tables: the number of text positions to leave free → the pairs.
        settings: as they were asked for; what nobody chose is filled in for each training.
        name: of the model's method.
        rivals: methods to choose among, in place of the model's own.

    Raises:
        InterplayError: as `fit`, but for a loss that is no number: then the start is kept.
    """
    began = time.perf_counter()
    train, validation = tables(0)
    bare = with_method(model, choose(BARE).build(backbone.shape))
    monitor = Monitor(bare, monitored(settings, model.monitors))
    starts = Starts.of(bare, monitor)
    seen, held_out = (vectors_of(bare, backbone, table) for table in (train, validation))
    choice = starts.choose(seen, held_out)
    head = starts.fit(choice.best, seen)
    untrained = logits_of(head, held_out)
    bare.head = head.to(backbone.device)
    start = model.validation_values(choice.best.logits, choice.targets)
    table, notes = _table(monitor, choice), _notes(train, choice, monitor)
    report, kept = _untrained(bare, monitor.name), None
    if settings.preset != "fast" and len(validation) < TELLING:
        notes.append(
            f"{len(validation)} validation pairs are too few to tell whether training helps, so none was tried: the "
            "start is kept."
        )
    elif settings.preset != "fast":
        models = entrants(model, name or model.method.name, rivals, backbone, settings.seed)
        attempts = list(first(models, settings, len(train)))
        several = len(attempts) > 1 or settings.lengthens()
        trainings = Trainings(
            bare, untrained, backbone, tables, monitor, folder, several=several, resume=resume
        )
        for attempt in attempts:
            trainings.run(attempt)
        if trainings.best is not None and (more := longer(trainings.best.attempt, settings)):
            trainings.run(more)
        helped, told = _judged(trainings, monitor, untrained, held_out.targets)
        notes.append(told)
        report = trainings.best.report if trainings.best else report
        kept = trainings.best if helped else None
    if kept is None:
        if choice.crossed:
            bare.head = starts.fit(choice.best, seen.and_(held_out)).to(backbone.device)
        model.method, model.head = bare.method, bare.head
        report = replace(report, best_epoch=0, best_value=choice.best.value, parameters=_fitted(bare))
        standing = replace(table[-1], name="this run")
    else:
        model.method, model.head = kept.model.method, kept.model.head
        standing = monitor.standing("this run", kept.logits, held_out.targets)
    seconds = time.perf_counter() - began
    return replace(report, seconds=seconds, start=start, table=(*table, standing), notes=tuple(notes))


def _judged(trainings: Trainings, monitor: Monitor, untrained: Tensor, targets: Tensor) -> tuple[bool, str]:
    """Whether the best training beats the start beyond noise, and what there is to say of that."""
    best = trainings.best
    if best is None:
        return False, f"Training came to no numbers, so the start is kept: {trainings.problem}"
    values = (monitor.value(logits, targets) for logits in (best.logits, untrained))
    trained, start = (monitor.merit(value) for value in values)
    gain = trained - start
    who = f"The best of {trainings.count} trainings ({best.attempt})" if trainings.count > 1 else "Training"
    if not best.report.best_epoch or gain <= 0:
        return False, f"{who} did not beat its start on {len(targets)} validation pairs: the start is kept."
    noise = monitor.noise(trainings.outputs, untrained, targets)
    if gain > noise + _ROUNDING:
        return True, f"{who} gained {gain:.3f} in {monitor.name} on validation, beyond noise ({noise:.3f})."
    return False, (
        f"{who} did not beat its start beyond noise (+{gain:.3f} in {monitor.name} on {len(targets)} validation pairs, "
        f"where chance alone gives up to {noise:.3f}): the start is kept."
    )


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
        "linear probe": choice.among("concat", "pair", kinds=("linear",), readouts=("vectors",)),
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

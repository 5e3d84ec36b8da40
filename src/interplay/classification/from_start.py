"""Training from a head that was fitted in closed form, which is kept where training does not beat it beyond noise."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from interplay.classification.evidence import BEYOND_NOISE, Monitor
from interplay.classification.model import PairClassifier
from interplay.classification.starts import Answer, Choice, Starts, logits_of, vectors_of
from interplay.encoding.batches import EncodedTable
from interplay.encoding.predict import predict
from interplay.errors import Diverged
from interplay.methods.registry import choose
from interplay.parts.heads import Head
from interplay.towers.backbone import Backbone
from interplay.training.report import FitReport, Standing
from interplay.training.settings import TrainSettings, monitored
from interplay.training.train import fit

TELLING = 40
"""With fewer validation pairs nobody can tell whether training helps, and nothing is trained."""
_FEW_ROWS = 8
"""A class with fewer training rows is told of."""


Tables = tuple[EncodedTable, EncodedTable]
"""The encoded pairs of train and of validation."""
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
) -> FitReport:
    """Choose a head by evidence (`Starts`), train the method from there, and keep what is better.

    The start is the bare towers under a head that was fitted on `train` alone. A method that starts frozen starts
    there exactly, another one under a head that was fitted to its own vectors. The trained weights are kept where their
    figure on `validation` is better than the start's by more than one standard error of the paired difference; else the
    head is fitted once more, on validation too where it was cross-validated, and the model's method is `head_only` from
    then on. With fewer than `TELLING` validation pairs nothing is trained.

    Args:
        model: prepared; gets its head here, and where the start is kept its method.
        tables: the number of text positions to leave free → the pairs.

    Raises:
        InterplayError: as `fit`, but for a loss that is no number: then the start is kept.
    """
    began = time.perf_counter()
    bare, (train, validation) = bare_of(model, backbone), tables(0)
    monitor = Monitor(bare, monitored(settings, model.monitors))
    starts = _starts(bare, monitor)
    seen, held_out = (vectors_of(bare, backbone, table) for table in (train, validation))
    choice = starts.choose(seen, held_out)
    head = starts.fit(choice.best, seen)
    untrained = logits_of(head, held_out)
    bare.head = head.to(backbone.device)
    start = model.validation_values(choice.best.logits, choice.targets)
    table, notes = _table(monitor, choice), _notes(train, choice, monitor)
    report = _untrained(bare, monitor.name)
    trained: Standing | None = None
    if settings.preset != "fast" and len(validation) < TELLING:
        notes.append(
            f"{len(validation)} validation pairs are too few to tell whether training helps, so none was tried: the "
            "start is kept."
        )
    elif settings.preset != "fast":
        try:
            report, logits = _trained(
                model, bare.head, untrained, backbone, tables, monitor, settings, folder, resume=resume
            )
            gain, error = monitor.gain(logits, untrained, held_out.targets)
            if report.best_epoch and gain > BEYOND_NOISE * error:
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
        if choice.crossed:
            bare.head = starts.fit(choice.best, seen.and_(held_out)).to(backbone.device)
        model.method, model.head = bare.method, bare.head
        report = replace(report, best_epoch=0, best_value=choice.best.value, parameters=_fitted(bare))
        trained = replace(table[-1], name="this run")
    seconds = time.perf_counter() - began
    return replace(report, seconds=seconds, start=start, table=(*table, trained), notes=tuple(notes))


def bare_of(model: PairClassifier, backbone: Backbone) -> PairClassifier:
    """A classifier of the same classes on the bare towers, its head not yet fitted."""
    head = copy.deepcopy(model.head)
    return PairClassifier(choose(BARE).build(backbone.shape), head, model.kind, model.multi_loss)


def _starts(model: PairClassifier, monitor: Monitor) -> Starts:
    asked = model.head.settings
    if asked.kind == "auto":
        return Starts(model, monitor)
    return Starts(model, monitor, (asked.kind,), (asked.readout,))


def _trained(
    model: PairClassifier,
    head: Head,
    untrained: Tensor,
    backbone: Backbone,
    tables: Callable[[int], Tables],
    monitor: Monitor,
    settings: TrainSettings,
    folder: Path,
    *,
    resume: bool,
) -> tuple[FitReport, Tensor]:
    """Train a model from its start; what came out of it, and its logits on validation.

    Args:
        head, untrained: of the bare towers, and its logits on validation.
    """
    train, validation = tables(model.reserve)
    assert validation.targets is not None
    if not model.method.traits.starts_frozen:
        starts = _starts(model, monitor)
        seen, held_out = (vectors_of(model, backbone, table) for table in (train, validation))
        head = starts.fit(starts.choose(seen, held_out).best, seen)
        untrained = logits_of(head, held_out)
    model.head = copy.deepcopy(head).to(backbone.device)
    if model.method.traits.starts_frozen and model.reserve:  # longer texts are cut to another length
        untrained = predict(model, backbone, validation)
    value = monitor.value(untrained, validation.targets)
    report = fit(model, backbone, train, validation, settings, folder, resume=resume, start=value)
    return report, predict(model, backbone, validation)


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

"""Trainings from one start: which ones a preset tries, and the best of them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from interplay.classification.evidence import Monitor
from interplay.classification.model import PairClassifier
from interplay.classification.starts import Starts, logits_of, vectors_of
from interplay.encoding.batches import EncodedTable
from interplay.encoding.predict import predict
from interplay.errors import Diverged, InterplayError
from interplay.methods.base import Method
from interplay.methods.registry import choose
from interplay.towers.backbone import Backbone
from interplay.training.checkpoints import write_history
from interplay.training.report import ATTEMPTS, FitReport
from interplay.training.settings import LONGER, TrainSettings
from interplay.training.train import fit

Tables = tuple[EncodedTable, EncodedTable]
"""The encoded pairs of train and of validation."""


@dataclass(frozen=True, eq=False)
class Attempt:
    """One training to try.

    Attributes:
        name: of the method or variant.
        model: untrained; it stays as it is.
        training: with everything filled in.
    """

    name: str
    model: PairClassifier
    training: TrainSettings

    def __str__(self) -> str:
        rate, epochs = self.training.learning_rate, self.training.epochs
        return f"{self.name}, learning rate {rate:.2g}, {epochs} epochs"


@dataclass(frozen=True, eq=False)
class Trained:
    """A training that has ended.

    Attributes:
        attempt: what was tried.
        model: with the weights of its best epoch.
        report: what came out of it.
        logits: of the model on validation.
    """

    attempt: Attempt
    model: PairClassifier
    report: FitReport
    logits: Tensor


def with_method(model: PairClassifier, method: Method) -> PairClassifier:
    """A classifier of the same classes with another method, its head as far fitted as the model's."""
    return PairClassifier(method, copy.deepcopy(model.head), model.kind, model.multi_loss)


def entrants(
    model: PairClassifier, name: str, rivals: Sequence[str], backbone: Backbone, seed: int
) -> dict[str, PairClassifier]:
    """Untrained classifiers by the name of their method: the model alone, or one for each rival.

    Args:
        rivals: names of methods; one that does not fit the backbone does not compete.
        seed: of their first weights.
    """
    if not rivals:
        return {name: model}
    found = {}
    for rival in rivals:
        choice = choose(rival)
        with contextlib.suppress(InterplayError), torch.random.fork_rng():
            torch.manual_seed(seed)
            method = choice.build(backbone.shape, choice.starting_frozen({}))
            method.start_from(backbone)
            found[rival] = with_method(model, method)
    return found


def first(models: Mapping[str, PairClassifier], settings: TrainSettings, pairs: int) -> Iterator[Attempt]:
    """The trainings that a preset begins with: every method at each of its learning rates.

    Args:
        models: untrained, by the name of their method.
        settings: as they were asked for.
        pairs: to train on.
    """
    patient = settings.patient(pairs)
    for name, model in models.items():
        for factor in settings.rates():
            yield Attempt(name, model, patient.settled(pairs, factor * model.method.traits.learning_rate))


def longer(best: Attempt, settings: TrainSettings) -> Attempt | None:
    """What `thorough` tries last: the best training so far at `LONGER` times its length, where nobody set that."""
    if not settings.lengthens():
        return None
    epochs, patience = best.training.epochs or 0, best.training.patience or 0
    return replace(best, training=replace(best.training, epochs=LONGER * epochs, patience=LONGER * patience))


class Trainings:
    """Trainings from the start of one task, one after the other; the best one on validation is kept.

    Args:
        bare: the bare towers under the head to start from.
        untrained: its logits on validation.
        tables: the number of text positions to leave free → the pairs.
        monitor: what to choose by.
        folder: of the run.
        several: whether each training gets a folder of its own below it.
        resume: go on where they stand.
    """

    def __init__(
        self,
        bare: PairClassifier,
        untrained: Tensor,
        backbone: Backbone,
        tables: Callable[[int], Tables],
        monitor: Monitor,
        folder: Path,
        *,
        several: bool,
        resume: bool,
    ) -> None:
        self.best: Trained | None = None
        self.outputs: list[Tensor] = []
        """Logits on validation of every epoch of every training: what there was to choose from."""
        self.count = 0
        self.problem: Diverged | None = None
        self._bare = bare
        self._untrained = untrained
        self._backbone = backbone
        self._tables = tables
        self._monitor = monitor
        self._folder = folder
        self._several = several
        self._resume = resume

    def run(self, attempt: Attempt) -> None:
        """Train; a loss that is no number ends this training alone.

        Raises:
            InterplayError: as `fit`.
        """
        self.count += 1
        train, validation = self._tables(attempt.model.reserve)
        model, untrained = self._started(attempt.model, train, validation)
        own = f"{self.count}-{attempt.name}"
        folder = self._folder / ATTEMPTS / own if self._several else self._folder
        targets = validation.targets
        assert targets is not None
        value = self._monitor.value(untrained, targets)
        try:
            report = fit(
                model,
                self._backbone,
                train,
                validation,
                attempt.training,
                folder,
                resume=self._resume,
                start=value,
            )
        except Diverged as problem:
            self.problem = problem
            return
        logits = predict(model, self._backbone, validation)
        self.outputs += [*report.outputs, logits]
        if self.best is None or self._merit(logits, targets) > self._merit(self.best.logits, targets):
            self.best = Trained(attempt, model, report, logits)
            if self._several:
                write_history(self._folder, report.history, csv_table="csv" in attempt.training.loggers)

    def _merit(self, logits: Tensor, targets: Tensor) -> float:
        return self._monitor.merit(self._monitor.value(logits, targets))

    def _started(
        self, model: PairClassifier, train: EncodedTable, validation: EncodedTable
    ) -> tuple[PairClassifier, Tensor]:
        """A copy under the head of the bare towers, and its logits on validation.

        Where it does not start as these towers, the head is one that was fitted to its own vectors.
        """
        model = copy.deepcopy(model)
        if model.method.traits.starts_frozen:
            model.head = copy.deepcopy(self._bare.head)
            cut = model.reserve  # longer texts are cut to another length
            return model, predict(model, self._backbone, validation) if cut else self._untrained
        starts = Starts.of(model, self._monitor)
        seen, held_out = (vectors_of(model, self._backbone, table) for table in (train, validation))
        head = starts.fit(starts.choose(seen, held_out).best, seen)
        untrained = logits_of(head, held_out)
        model.head = head.to(self._backbone.device)
        return model, untrained

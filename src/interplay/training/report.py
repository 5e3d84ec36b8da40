"""What a training run says and leaves, for those who read it and train nothing: no Lightning is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from interplay.training.settings import TrainSettings

LAST = "last.ckpt"
"""Everything that a run needs to go on, written after every epoch."""
BEST = "best.ckpt"
"""The weights of the epoch with the best validation value."""
ATTEMPTS = "attempts"
"""Folder for the trainings of a run that tries several, one folder each."""
SESSIONS = "sessions"
"""Folder for checkpoints and logs of a stream's sessions."""
OPTIONS = "config.yaml"
"""What a command ran with."""
VALIDATION = "validation_"
"""The prefix of a metric that was measured on validation."""

Epoch = dict[str, float | int]
"""One record of `metrics.jsonl`."""


@dataclass(frozen=True)
class Standing:
    """What one answer to a task is worth.

    Attributes:
        name: of the answer.
        value: of the monitored metric.
        low, high: its 95 % interval.
        rows: how many pairs it was measured on, none of which it was fitted on.
    """

    name: str
    value: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True)
class FitReport:
    """What came out of a training run.

    Attributes:
        best_epoch: from 1; the model holds its weights. 0: it holds the start, which training did not beat.
        best_value: its value of the monitored validation metric.
        monitor: which one.
        history: one record an epoch, as in `metrics.jsonl`.
        seconds: of all epochs, those before a resume included.
        seconds_per_epoch: on average.
        steps: optimizer steps.
        parameters: how many numbers were trained.
        start: metrics and loss of the start, where one was fitted in closed form; on rows that it was not fitted on.
        table: what the simplest answers and this run are worth, where a start was fitted.
        notes: what there is to say of that, a sentence each.
        training: the settings that it was trained with, those that nobody chose filled in; None where nothing was.
        outputs: of each epoch the logits on validation, (pairs, classes), where training began at a fitted start.
    """

    best_epoch: int
    best_value: float
    monitor: str
    history: list[Epoch]
    seconds: float
    seconds_per_epoch: float
    steps: int
    parameters: int
    start: Mapping[str, float] = field(default_factory=dict)
    table: tuple[Standing, ...] = ()
    notes: tuple[str, ...] = ()
    training: TrainSettings | None = None
    outputs: tuple[Tensor, ...] = ()

    @property
    def validation(self) -> dict[str, float]:
        """Metrics and loss on validation at the best epoch; of what has no epochs, the monitored metric alone."""
        if not self.best_epoch:
            return dict(self.start)
        best = (
            self.history[self.best_epoch - 1]
            if self.history
            else {f"{VALIDATION}{self.monitor}": self.best_value}
        )
        return {
            name.removeprefix(VALIDATION): float(value)
            for name, value in best.items()
            if name.startswith(VALIDATION)
        }
